"""A recording that arrives in chunks, and what is understood of it meanwhile."""

from __future__ import annotations

import numpy as np
import soxr
from wyoming.audio import AudioFormat

from pipeline.audio import EAR_RATE, Samples
from pipeline.audio.decode import FASTEST, SLOWEST, Downmix
from pipeline.engines.lease import LeasedEars
from pipeline.stt import Transcript, TranscriptionWishes

LONGEST_S = 120.0
"""Of what is said at once to somebody who waits for its end."""

_WIDTHS: dict[int, tuple[str, float]] = {2: ("<i2", 2.0**15), 4: ("<i4", 2.0**31)}
"""Bytes of a sample: how numpy reads it, and what is full scale."""


class UnknownSound(Exception):
    """Not to be listened to; one sentence."""


class Dictation:
    """Close it, whatever comes."""

    def __init__(self, ears: LeasedEars, sound: AudioFormat, language: str | None) -> None:
        """
        Args:
            language: where it is not the settings', the words come at the end, all at once.

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
        """What is understood by now, where that has changed. Raises UnknownSound and EngineError."""
        kind, scale = _WIDTHS[self._sound.width]
        frame = self._sound.width * self._sound.channels
        samples = np.frombuffer(payload[: len(payload) // frame * frame], kind).astype(np.float32) / np.float32(scale)
        return await self._take(self._mixed.mono(samples.reshape(-1, self._sound.channels)), last=False)

    async def finish(self) -> str:
        """All that was said. Raises EngineError."""
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
