"""Transcribes a recording while it arrives in chunks."""

from __future__ import annotations

import numpy as np
import soxr
from wyoming.audio import AudioFormat

from pipeline.audio import EAR_RATE, Samples
from pipeline.audio.decode import FASTEST, SLOWEST, Downmix
from pipeline.engines.lease import LeasedEars
from pipeline.stt import Transcript, TranscriptionWishes

LONGEST_S = 120.0
"""The longest recording: somebody waits for its end."""

_WIDTHS: dict[int, tuple[str, float]] = {2: ("<i2", 2.0**15), 4: ("<i4", 2.0**31)}
"""By bytes per sample: numpy's type, and full scale."""


class UnknownSound(Exception):
    """Sound that cannot be transcribed; the message is one sentence."""


class Dictation:
    """Transcribes one recording. Always close it."""

    def __init__(self, ears: LeasedEars, sound: AudioFormat, language: str | None) -> None:
        """
        Args:
            language: if it is not that of the settings, all the text comes at the end.

        Raises UnknownSound.
        """
        if sound.width not in _WIDTHS or not 1 <= sound.channels <= 8 or not SLOWEST <= sound.rate <= FASTEST:
            raise UnknownSound("Send 16 or 32 bits a sample, at 2 to 1,000 kHz, in one to eight channels.")
        self._ears, self._sound, self._language = ears, sound, language
        self._hearing = ears.listen() if language is None or not ears.writes_down else None
        self._mixed = Downmix()
        self._stream = soxr.ResampleStream(sound.rate, EAR_RATE, 1, dtype="float32")
        self._kept: list[Samples] = []
        self._samples = 0

    async def feed(self, payload: bytes) -> Transcript | None:
        """Return the transcript so far if it has changed. Raises UnknownSound and EngineError."""
        kind, scale = _WIDTHS[self._sound.width]
        frame = self._sound.width * self._sound.channels
        samples = np.frombuffer(payload[: len(payload) // frame * frame], kind).astype(np.float32) / np.float32(scale)
        return await self._take(self._mixed.mono(samples.reshape(-1, self._sound.channels)), last=False)

    async def finish(self) -> str:
        """Return the whole text. Raises EngineError."""
        await self._take(np.zeros(0, np.float32), last=True)
        if self._hearing is not None:
            return (await self._hearing.finish()).text
        said: list[str] = []
        sound = np.concatenate([np.zeros(0, np.float32), *self._kept])
        for at in range(0, len(sound), 28 * EAR_RATE):
            wishes = TranscriptionWishes(self._language, before=" ".join(said))
            said.append((await self._ears.write_down(sound[at : at + 28 * EAR_RATE], wishes)).text)
        return " ".join(filter(None, said))

    async def close(self) -> None:
        if self._hearing is not None:
            await self._hearing.close()

    async def _take(self, samples: Samples, *, last: bool) -> Transcript | None:
        heard: Samples = self._stream.resample_chunk(samples, last=last)
        self._samples += len(heard)
        if self._samples > LONGEST_S * EAR_RATE:
            raise UnknownSound(f"Say less than {LONGEST_S:.0f} s at once.")
        if self._hearing is not None:
            return await self._hearing.feed(heard)
        self._kept.append(heard)
        return None
