"""Sound files: reads any recording as 16 kHz sound, and holds a conversation with recordings in place of a headset."""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import IO

import numpy as np
import soundfile

from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.audio.decode import Undecodable, decode
from pipeline.conversation.conversation import Conversation
from pipeline.conversation.events import Event, Notice, ReplyAudio, SpeechStarted, SpeechStopped, TurnFinished
from pipeline.ends.playback import Playback
from pipeline.turns.record import TurnRecord
from pipeline.turns.vad import FRAME

LONGEST_S = 4.0 * 3600
"""A longer recording would not fit into memory on a small machine."""

SILENCE_AFTER = 1.0
"""Least seconds of silence after a recording; any end-of-turn judge that is sure has decided by then."""
SILENCE_LIMIT = 30.0
"""Seconds of silence after which a turn that is still open is abandoned."""

MAKER, PROVENANCE = "Parley", "Synthetic speech: the voice is a machine's."
"""Metadata of a file of replies, so that nobody who finds it is misled."""

WRITTEN = (".wav", ".flac", ".ogg", ".mp3")
"""Suffixes of the files that replies can be written to."""

MOST_PIPED = 1 << 30
"""Most bytes read from a pipe, which may never end."""


class AudioFileError(Exception):
    """A file cannot be read or written as audio; the message is one sentence for the user."""


def read_sound(path: Path) -> Samples:
    """Read a recording (anything that `decode` reads, also from a pipe) as 16 kHz mono.

    Raises:
        AudioFileError: the file is missing, empty, damaged, too long, or not a recording.
    """
    if path.is_dir():
        raise AudioFileError(f"{path} is a folder: choose a file in it.")
    try:
        with path.open("rb") as file:
            if file.seekable() and path.is_file():
                return _decoded(path, file)
            with tempfile.TemporaryFile() as whole:
                while part := file.read(1 << 20):
                    if whole.tell() + len(part) > MOST_PIPED:
                        raise AudioFileError(f"{path} is larger than a gigabyte: cut it into parts.")
                    whole.write(part)
                return _decoded(path, whole)
    except FileNotFoundError as error:
        raise AudioFileError(f"There is no file {path}.") from error
    except OSError as error:
        raise AudioFileError(f"{path} cannot be read ({error.strerror}).") from error


def _decoded(path: Path, file: IO[bytes]) -> Samples:
    if file.seek(0, io.SEEK_END) == 0:
        raise AudioFileError(f"{path} is empty: record it again.")
    file.seek(0)
    try:
        return decode(file, EAR_RATE, LONGEST_S)
    except Undecodable as error:
        raise AudioFileError(f"{path} {error}") from error


def write_sound(path: Path, samples: Samples, rate: int = MOUTH_RATE) -> None:
    """Write replies as 16-bit mono, in the format of the suffix (WAV, FLAC, Ogg, MP3).

    The metadata says that a machine speaks. The file appears whole or not at all.

    Raises:
        AudioFileError: the suffix is unknown, the folder is missing or read-only, or the disk is full.
    """
    check_writable(path)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=path.suffix, delete=False) as file:
            temporary = Path(file.name)
        try:
            with soundfile.SoundFile(temporary, "w", rate, channels=1) as speech:
                speech.software, speech.comment = MAKER, PROVENANCE
                for start in range(0, len(samples), rate):  # libsndfile crashes on minutes of Ogg at once
                    speech.write(samples[start : start + rate])
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise AudioFileError(f"{path} cannot be written ({_reason(error)}): is the disk full, or read-only?") from error


def check_writable(path: Path) -> None:
    """Check before a long conversation, not after it, that its sound can be written. Raises AudioFileError."""
    if path.suffix.lower() not in WRITTEN:
        better = path.with_suffix(".wav").name
        raise AudioFileError(f"{path} must end in {', '.join(WRITTEN[:-1])} or {WRITTEN[-1]}: call it {better}.")
    if path.is_dir():
        raise AudioFileError(f"{path} is a folder: choose a file in it.")
    if not path.parent.is_dir():
        raise AudioFileError(f"There is no folder {path.parent} to write {path.name} into.")
    if not os.access(path.parent, os.W_OK):
        raise AudioFileError(f"{path} cannot be written, because its folder is read-only: choose another one.")


@dataclass(slots=True)
class Held:
    """The results of a conversation with recordings."""

    spoken: list[Samples] = field(default_factory=list)
    """The sound heard of the replies, 24 kHz, in order."""
    records: list[TurnRecord] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    @property
    def sound(self) -> Samples:
        return np.concatenate(self.spoken) if self.spoken else np.zeros(0, np.float32)


async def hold(
    conversation: Conversation,
    recordings: Sequence[Samples],
    *,
    realtime: bool = False,
    watch: Callable[[Event], None] = lambda event: None,
) -> Held:
    """Play `recordings` (16 kHz) into the conversation one by one, each after the reply to the previous one is over.

    If not `realtime`, the recording waits whenever the conversation thinks or speaks, and a reply counts as heard when
    it arrives. If `realtime`, sound runs in both directions at the pace of a sound card, so that one can interrupt the
    other.
    """
    end = FileEnd(conversation, watch)
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(end.follow(at_once=not realtime))
        for recording in recordings:
            await (end.speak_in_real_time(recording) if realtime else end.speak(recording))
        following.cancel()
    return end.held


class FileEnd:
    """The audio end, in place of a headset."""

    def __init__(self, conversation: Conversation, watch: Callable[[Event], None]) -> None:
        self.held = Held()
        self._conversation = conversation
        self._watch = watch
        self._playback = Playback()
        self._open: set[int] = set()
        """Turns that have begun and are not over: they are being spoken, processed or answered."""
        self._happened = asyncio.Event()

    async def follow(self, *, at_once: bool) -> None:
        """Consume the conversation's events; if `at_once`, a reply counts as heard when it arrives."""
        async for event in self._conversation.events():
            self._playback.follow(event)
            match event:
                case SpeechStarted(turn, _):
                    self._open.add(turn)
                case SpeechStopped(turn, _, _, "dropped"):
                    self._open.discard(turn)
                case TurnFinished(turn, _, record):
                    self._open.discard(turn)
                    self.held.records.append(record)
                case Notice():
                    self.held.notices.append(event)
                case ReplyAudio() if at_once:
                    self._play(self._playback.waiting)
            self._watch(event)
            self._happened.set()

    async def speak(self, recording: Samples) -> None:
        """Play a recording in as fast as the engines go."""
        for block, silence in _frames(recording):
            self._conversation.hear(block)
            await self._conversation.caught_up()
            while self._conversation.state != "listening":
                self._happened.clear()
                await self._happened.wait()
            if self._is_over(silence):
                return

    async def speak_in_real_time(self, recording: Samples) -> None:
        """Play a recording in, with 32 ms of sound each way, every 32 ms."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number, (block, silence) in enumerate(_frames(recording), 1):
            self._conversation.hear(block)
            self._play(FRAME * MOUTH_RATE // EAR_RATE)
            if self._is_over(silence) and not self._playback.waiting:
                return
            await asyncio.sleep(began + number * FRAME / EAR_RATE - loop.time())

    def _play(self, limit: int) -> None:
        sound = self._playback.take(limit)
        if len(sound):
            self.held.spoken.append(sound)
            self._conversation.played(self._playback.played)

    def _is_over(self, silence: float) -> bool:
        if self._conversation.state != "listening" or silence < SILENCE_AFTER:
            return False
        return not self._open or silence >= SILENCE_LIMIT


def _frames(recording: Samples) -> Iterator[tuple[Samples, float]]:
    """Yield the recording in frames, then endless silence; each with the seconds of silence so far."""
    quiet = np.zeros(FRAME, np.float32)
    for start in range(0, len(recording), FRAME):
        yield np.concatenate([recording[start : start + FRAME], quiet])[:FRAME], 0.0
    for number in count(1):
        yield quiet, number * FRAME / EAR_RATE


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rsplit(": ", 1)[-1].rstrip(". ")
