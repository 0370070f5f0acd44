"""Decodes any recording to mono sound, block by block: by libsndfile or, for other formats, by FFmpeg (PyAV).

It never holds more sound than the caller allows, because a small file can claim, or really contain, hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, NoReturn

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from pipeline.audio import Samples

Block = NDArray[np.float32]
"""[n, channels], at the file's own rate."""

BLOCK = 1 << 16
"""Samples, of all channels together, that are decoded at once."""

MOST_CHANNELS = 32
SLOWEST, FASTEST = 2_000, 1_000_000
"""Hz; a rate outside these is no recording of a voice, and one of 1 Hz would grow to 16,000 times its size."""

FORMATS = "wav,w64,mov,mp4,m4a,3gp,3g2,matroska,webm,asf,aac,amr,ogg,caf,mp3,flac"
"""Formats that FFmpeg may recognise; unlike playlists, none of them refers to other files or to an address."""

UNKNOWN = 1 << 62
"""A number of samples from which libsndfile does not know a FLAC's length; it cannot read such a file in blocks."""

READ = "WAV, FLAC, MP3, Ogg, M4A, AAC, WebM, 3GP and WMA"
"""The formats under the names people know."""

CANCELLED = 0.1
"""Share of the louder channel's power below which the sum of the channels counts as cancelled. Two unlike channels
leave half of it, and a silent second one a quarter."""
LOUDER = 2.0
"""By how many times its power another channel must exceed the chosen one to replace it."""


class Undecodable(Exception):
    """Why a file cannot be decoded, as the end of a sentence that begins with its name."""


class TooLong(Undecodable):
    """The file holds more sound than was allowed."""


@dataclass(frozen=True, slots=True)
class Opened:
    rate: int
    """Hz."""
    channels: int
    blocks: Iterator[Block]
    """Raises Undecodable if the file is damaged."""
    promised: int = 0
    """Samples per channel, if the file states them."""


def decode(file: IO[bytes], rate: int, longest_s: float) -> Samples:
    """Decode a recording (WAV, FLAC, MP3, Ogg, M4A, AAC, WebM, 3GP, WMA …; any rate and channels) to mono at `rate`.

    A WAV that claims to be longer than it is, such as one written to a pipe, is read to its end.

    Args:
        file: open for reading, seekable.

    Raises:
        Undecodable: it is no recording, damaged, or contains no sound.
        TooLong: it is longer than `longest_s`; nothing beyond was decoded.
    """
    sound: Samples = np.concatenate([*pieces(file, rate, longest_s)])
    return sound


def pieces(file: IO[bytes], rate: int, longest_s: float) -> Iterator[Samples]:
    """Decode piece by piece, for recordings too long to hold whole. Raises as `decode` does, perhaps midway."""
    opened = _open(file)
    if not SLOWEST <= opened.rate <= FASTEST or opened.channels > MOST_CHANNELS:
        raise Undecodable(
            f"has {opened.channels} channels at {opened.rate} Hz, which is not a recording of a voice: convert it to "
            "WAV."
        )
    mixed, resampled = Downmix(), soxr.ResampleStream(opened.rate, rate, 1, dtype="float32")
    most, frames = longest_s * opened.rate, 0
    too_long = TooLong(f"is longer than {_length(longest_s)}: cut it into parts.")
    if opened.promised > most:
        raise too_long
    for block in opened.blocks:
        frames += len(block)
        if frames > most:
            raise too_long
        yield _clipped(resampled.resample_chunk(mixed.mono(block)))
    if not frames:
        raise Undecodable("has no sound in it: record it again.")
    yield _clipped(resampled.resample_chunk(np.zeros(0, np.float32), last=True))


def _clipped(sound: Samples) -> Samples:
    return np.clip(sound, -1, 1, out=sound)


class Downmix:
    """Mixes channels to mono: their mean, or the loudest one if they cancel each other, as from a miswired plug."""

    def __init__(self) -> None:
        self._loudest = 0

    def mono(self, block: Block) -> Samples:
        finite = np.nan_to_num(block, nan=0.0, posinf=1.0, neginf=-1.0)
        mean: Samples = finite.mean(axis=1, dtype=np.float32)
        if finite.shape[1] == 1:
            return mean
        power = np.square(finite).mean(axis=0)
        if np.square(mean).mean() >= CANCELLED * power.max():
            return mean
        if power.max() > LOUDER * power[self._loudest]:
            self._loudest = int(power.argmax())
        return np.ascontiguousarray(finite[:, self._loudest])


def _open(file: IO[bytes]) -> Opened:
    try:
        known = soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, TypeError):  # TypeError is for the file name *.raw
        file.seek(0)
        return _opened_by_ffmpeg(file)
    if not 0 < known.frames < UNKNOWN:
        known.close()
        file.seek(0)
        return _opened_by_ffmpeg(file)
    return Opened(known.samplerate, known.channels, _blocks(known), known.frames)


def _blocks(file: soundfile.SoundFile) -> Iterator[Block]:
    with file:
        size = max(1, BLOCK // file.channels)
        read = 0
        while True:
            try:
                block: Block = file.read(size, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                _damaged(str(error).rpartition(": ")[2])
            if not len(block):
                break
            read += len(block)
            yield block
        if read < file.frames:
            raise Undecodable("was cut off, because it is shorter than it says: copy or record it again.")


def _opened_by_ffmpeg(file: IO[bytes]) -> Opened:
    import av

    try:
        container = av.open(
            file, "r", options={"format_whitelist": FORMATS, "protocol_whitelist": ""}, io_open=_nothing_else
        )
    except (av.FFmpegError, PermissionError, UnicodeError) as error:
        raise Undecodable(f"is not a recording: Parley reads {READ}, and the sound of videos.") from error
    if not container.streams.audio:
        container.close()
        raise Undecodable("has no sound in it: record it again.")
    stream = container.streams.audio[0]
    if stream.codec_context is None:  # FFmpeg does not know the codec; PyAV's types do not allow for None
        container.close()  # type: ignore[unreachable]
        raise Undecodable(f"contains sound of an unknown kind: Parley reads {READ}.")

    def blocks() -> Iterator[Block]:
        floats = av.AudioResampler("fltp", stream.layout, stream.rate)
        with container:
            try:
                for frame in container.decode(stream):
                    for converted in floats.resample(frame):
                        yield converted.to_ndarray().T.astype(np.float32, copy=False)
            except (av.FFmpegError, ValueError) as error:
                _damaged(getattr(error, "strerror", None) or str(error))

    return Opened(stream.rate or 0, stream.channels, blocks())


def _nothing_else(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError("A recording must be a single file.")


def _damaged(reason: str) -> NoReturn:
    raise Undecodable(f"cannot be read to its end ({reason.rstrip('. ')}): it may be damaged.")


def _length(seconds: float) -> str:
    return f"{seconds / 3600:.0f} hours" if seconds >= 7200 else f"{seconds:.0f} seconds"
