"""Whisper as the STT engine: transcribes a turn while it grows and at its end.

A turn's sound is decoded again and again (decoder.py). The timing matters: Whisper takes a while, and a user who has
stopped talking waits for the last decoding. So it decodes

- whenever the voice falls silent for a moment, which may be the end: if only silence follows, those words are final,
  and the decoding began before the end of the turn was certain;
- twice a second during speech, if a step of the decoding takes no longer than it takes to detect a pause;
- at the end, if there was speech after the start of the last decoding.

A final decoding never waits for a partial one: running partial decodings, of any turn, are dropped between their steps.
The sound stays here until the turn is closed, so a crashed process loses nothing that was said.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing, suppress
from typing import Any

import numpy as np

from pipeline.audio import EAR_RATE, Samples
from pipeline.engine import EngineError
from pipeline.stt import CannotFulfil, Transcript, TranscriptionWishes, Word, Written
from pipeline.stt.decoder import Decoded
from pipeline.workers.place import MakePlace, Place, PlacedEngine, Wanted, WorkerDied
from pipeline.workers.worker import Worker

KINDS = (Decoded, Written, Word, TranscriptionWishes)
"""The types that are sent to the decoder and back."""

DECODE_EVERY = round(0.5 * EAR_RATE)
"""New samples that justify another decoding during speech."""

STEP_S = 0.12
"""Seconds that a step of a partial decoding may take during speech. A pause is detected some 120 ms after the last
sound: Silero's probability falls after 20 to 50 ms, and three more frames make a pause (pipeline/turns/taking.py)."""

PACE = 0.3
"""Weight of the newest step in the mean of the steps."""

YIELDS = 5
"""How often a passage of a recording gives way to final decodings of turns before it runs beside them."""

STRETCH_S, OVERLAP_S = 20.0, 5.0
"""A turn longer than STRETCH_S is decoded in stretches of that length. The words of each become final, except those in
its last OVERLAP_S, and are context for the rest."""

MOMENT = 512
"""Samples of a moment, 32 ms."""

LULL = 2
"""Quiet moments after which the turn may have ended; stops within words (a "t", a "k") are mostly shorter."""

LOUD = 1e-3
"""RMS (of full scale) of the loudest moment below which sound counts as silence and is not decoded at all."""

QUIET, ABOVE_NOISE, NOISY = 0.1, 2.0, 0.3
"""Below what a moment is quiet: a share of the turn's loudest moment (-20 dB), or twice its background if that is more,
but then at most 0.3 of the loudest moment."""

BACKGROUND = 0.1
"""The share of a turn's moments that are background: the sound before the speech, and its pauses."""


class Decodings:
    """The decodings of all turns at one place. A final decoding goes first, and partial ones give way to it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._finals = 0
        self._partials: set[asyncio.Task[Any]] = set()
        self.step_s = 0.0
        """The running mean of each decoding's longest step, in seconds; includes queueing."""

    @property
    def free(self) -> bool:
        """Whether a partial decoding may begin."""
        return not self._finals

    def begin(self, partial: asyncio.Task[Any]) -> None:
        self._partials.add(partial)
        partial.add_done_callback(self._partials.discard)

    async def final(self, sound: Samples, *context: str | None, **options: bool) -> Decoded:
        """Decode before all others. Waits for a restart; after a crash, decodes once more. Raises EngineError."""
        self._finals += 1
        try:
            for partial in self._partials:
                partial.cancel()
            await self._place.ready()
            try:
                return await self.decode(sound, *context, **options)
            except WorkerDied:
                await self._place.ready()
                return await self.decode(sound, *context, **options)
        finally:
            self._finals -= 1

    async def decode(self, sound: Samples, *context: str | None, **options: bool) -> Decoded:
        """Call Decoder.decode. If the caller is cancelled, it stops after the current step. Raises EngineError."""
        time = asyncio.get_running_loop().time
        began, longest = time(), 0.0
        answer: Decoded | None = None
        async with aclosing(self._place.stream("decode", sound, *context, **options)) as steps:
            async for step in steps:
                longest = max(longest, time() - began)
                began, answer = time(), step
        assert answer is not None
        self.step_s += PACE * (longest - self.step_s) if self.step_s else longest
        return answer

    async def write_down(self, sound: Samples, wishes: TranscriptionWishes) -> Written:
        """Transcribe a passage of a recording. Gives way like a partial decoding and restarts, at most YIELDS times."""
        for attempt in range(YIELDS + 1):
            await self._place.ready()
            writing = asyncio.create_task(self._written(sound, wishes))
            if attempt < YIELDS:
                self.begin(writing)
            try:
                await asyncio.wait([writing])
            finally:
                writing.cancel()
            if not writing.cancelled() and (attempt == YIELDS or not isinstance(writing.exception(), WorkerDied)):
                break
        return writing.result()

    async def _written(self, sound: Samples, wishes: TranscriptionWishes) -> Written:
        answer: Written | None = None
        async with aclosing(self._place.stream("write_down", sound, wishes)) as steps:
            async for step in steps:
                answer = step
        assert answer is not None
        return answer


class WhisperHearing:
    """One turn being transcribed."""

    def __init__(self, decodings: Decodings) -> None:
        self._decodings = decodings
        self._sound: Samples = np.zeros(0, np.float32)
        self._levels: Samples = np.zeros(0, np.float32)
        """RMS of each whole 32 ms of the sound."""
        self._begin = 0
        """Sample from which the sound is decoded; the words before it are final, in `_before`."""
        self._before = ""
        self._language: str | None = None
        self._begun = 0
        """Samples in the newest decoding, running or finished."""
        self._heard = 0
        """Samples in the newest successful decoding; its words are `_text`."""
        self._text = ""
        self._stable = 0
        self._told: tuple[str, int] = ("", 0)
        self._decoding: asyncio.Task[None] | None = None

    async def feed(self, samples: Samples) -> Transcript | None:
        self._sound = np.concatenate([self._sound, samples])
        whole = self._sound[len(self._levels) * MOMENT : len(self._sound) // MOMENT * MOMENT].reshape(-1, MOMENT)
        self._levels = np.concatenate([self._levels, np.sqrt(np.square(whole).mean(axis=1))])
        if (self._decoding is None or self._decoding.done()) and self._due():
            self._decoding = asyncio.create_task(self._partial())
            self._decodings.begin(self._decoding)
        now = self._text, self._stable
        if now == self._told:
            return None
        self._told = now
        return Transcript(*now)

    async def finish(self) -> Transcript:
        """Take the newest decoding if nothing was said since it began; otherwise decode a last time."""
        if self._says_more(self._begun):
            await self._decode(final=True)
        else:
            await self.caught_up()
            if self._heard < self._begun:  # the decoding was dropped, or failed
                await self._decode(final=True)
        return Transcript(self._text, len(self._text))

    async def caught_up(self) -> None:
        """Wait for a running decoding."""
        if self._decoding is not None:
            await asyncio.wait([self._decoding])

    async def close(self) -> None:
        if self._decoding is not None:
            self._decoding.cancel()

    def _due(self) -> bool:
        if not self._decodings.free or not self._says_more(self._begun):
            return False
        if self._levels[-LULL:].max() < self._quiet:
            return True
        return len(self._sound) - self._begun >= DECODE_EVERY and self._decodings.step_s <= STEP_S

    def _says_more(self, since: int) -> bool:
        """Whether there may be speech after this sample."""
        return bool((self._levels[-(-since // MOMENT) :] >= max(LOUD, self._quiet)).any())

    @property
    def _quiet(self) -> float:
        if not len(self._levels):
            return 0.0
        top = float(self._levels.max())
        background = ABOVE_NOISE * float(np.quantile(self._levels, BACKGROUND))
        return max(QUIET * top, min(background, NOISY * top))

    async def _partial(self) -> None:
        with suppress(EngineError):  # the final decoding will report it
            await self._decode(final=False)

    async def _decode(self, *, final: bool) -> None:
        decode = self._decodings.final if final else self._decodings.decode
        self._begun = upto = len(self._sound)
        while upto - self._begin > STRETCH_S * EAR_RATE:
            stretch = self._sound[self._begin : self._begin + round(STRETCH_S * EAR_RATE)]
            self._leave_behind(await decode(stretch, self._before, self._language, again=True, ends=True))
        decoded = await decode(self._sound[self._begin : upto], self._before, self._language, again=final, ends=False)
        if decoded.loop and not final:
            return
        self._language = decoded.language or self._language
        text = f"{self._before} {decoded.text}".strip()
        self._heard, self._stable, self._text = upto, agreed(self._text, text), text

    def _leave_behind(self, decoded: Decoded) -> None:
        """Make the words of a stretch final, except those of its last seconds."""
        until = STRETCH_S - OVERLAP_S
        length, end = max((each for each in decoded.ends if each[1] <= until), default=(0, until))
        self._before = f"{self._before} {decoded.text[:length]}".strip()
        self._begin += max(MOMENT, round(end * EAR_RATE))


class Whisper(PlacedEngine[Place]):
    """Speech to text by Whisper in a worker process."""

    def __init__(
        self,
        model: str,
        language: str = "auto",
        *,
        device: str = "auto",
        compute_type: str = "default",
        shortest_s: float | None = None,
        place: MakePlace = Worker,
    ) -> None:
        """
        Args:
            model: a size ("large-v3-turbo", "base.en"), a hub id or a folder, in CTranslate2's format.
            language: ISO 639-1, or "auto".
            device, compute_type: CTranslate2's names; by default a GPU if there is one, with the type of the model
                file, or a CPU, with int8.
            shortest_s: seconds of the shortest window; by default 10 on a CPU, and the whole 30 elsewhere.
        """
        arguments = {
            "model": model,
            "language": language,
            "device": device,
            "compute_type": compute_type,
            "shortest_s": shortest_s,
        }
        wanted = Wanted("Whisper", "pipeline.stt.decoder:Decoder", arguments, errors=(CannotFulfil,), kinds=KINDS)
        super().__init__(place(wanted))
        self._decodings = Decodings(self._place)

    def listen(self) -> WhisperHearing:
        return WhisperHearing(self._decodings)

    async def write_down(self, sound: Samples, wishes: TranscriptionWishes) -> Written:
        return await self._decodings.write_down(sound, wishes)


def agreed(before: str, now: str) -> int:
    """Return how many leading characters of `now` two decodings agree on; these will hardly change any more.

    Macháček, Dabre, Bojar 2023, "Turning Whisper into Real-Time Transcription System" (LocalAgreement-2). Case and
    punctuation are ignored, since they change between decodings.
    """
    stable = 0
    for old, word in zip(before.split(), re.finditer(r"\S+", now), strict=False):
        if _sound(old) != _sound(word.group()):
            break
        stable = word.end()
    return stable


def _sound(word: str) -> str:
    return re.sub(r"[^\w']", "", word).lower()
