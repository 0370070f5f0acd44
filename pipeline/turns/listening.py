"""One turn of the user, from its first sample to its transcript."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Never

import numpy as np

from pipeline.audio import EAR_RATE, Samples
from pipeline.engine import EngineError
from pipeline.stt import Hearing, Transcript
from pipeline.turns.record import TurnRecord

AT_ONCE = round(0.06 * EAR_RATE)
"""Samples gathered before the engine is called. Words are longer, and with twenty conversations calls add up."""


class Listening:
    """Feeds a Hearing in the background. Waiting blocks are joined, so a slow engine never delays the VAD."""

    def __init__(self, hearing: Hearing, on_partial: Callable[[Transcript], None]) -> None:
        self._hearing = hearing
        self._on_partial = on_partial
        self._waiting: asyncio.Queue[Samples | asyncio.Future[Transcript]] = asyncio.Queue()
        self._error: EngineError | None = None
        self._task = asyncio.create_task(self._pump())

    def feed(self, samples: Samples) -> None:
        self._waiting.put_nowait(samples)

    async def finish(self) -> Transcript:
        """Return the transcript of everything fed so far; feeding may go on.

        Raises EngineError, or the fault that ended the listening.
        """
        final: asyncio.Future[Transcript] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(final)
        futures: list[asyncio.Future[Any]] = [final, self._task]
        try:
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        finally:
            final.cancel()  # if it has no result: nobody waits for it any more, or nobody will set it
        if final.cancelled():
            self._task.result()
        return final.result()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._hearing.close()

    async def _pump(self) -> Never:
        while True:
            item = await self._waiting.get()
            if isinstance(item, asyncio.Future):
                await self._finish(item)
                continue
            blocks = [item]
            final: asyncio.Future[Transcript] | None = None
            while final is None and (not self._waiting.empty() or sum(map(len, blocks)) < AT_ONCE):
                following = await self._waiting.get()
                if isinstance(following, asyncio.Future):
                    final = following
                else:
                    blocks.append(following)
            if self._error is None:  # only the first error is reported: later ones are its consequences
                await self._feed(np.concatenate(blocks))
            if final is not None:
                await self._finish(final)

    async def _feed(self, sound: Samples) -> None:
        try:
            partial = await self._hearing.feed(sound)
        except EngineError as error:
            self._error = error
        else:
            if partial is not None:
                self._on_partial(partial)

    async def _finish(self, final: asyncio.Future[Transcript]) -> None:
        if final.cancelled():
            return
        try:
            if self._error is not None:
                raise self._error
            transcript = await self._hearing.finish()
        except EngineError as error:
            if not final.cancelled():
                final.set_exception(error)
        else:
            if not final.cancelled():
                final.set_result(transcript)


class UserTurn:
    """What the user is saying now. A new revision begins if speech goes on after a pause was taken for the end."""

    def __init__(self, record: TurnRecord, started: int, listening: Listening) -> None:
        self.record = record
        self.number = record.turn
        self.revision = record.revision
        self.started = started
        """Sample (16 kHz, the conversation's clock) at which the first block begins; includes the pre-roll."""
        self.onset = started
        """Sample at which speech was detected."""
        self.speech_end = started
        """Sample after the last sample of speech."""
        self.speech_samples = 0
        self.listening = listening
        self.partial = ""
        """The partial transcript so far."""
        self.finished: float | None = None
        """The turn model's latest answer about this pause."""
        self.asked = 0
        """How often the turn model was asked in this pause."""
        self.prefix = ""
        """Words of the earlier turn that this one continues."""
        self.continues: int | None = None
        self.paused = False
        """Whether the speaker has been silent long enough to prepare for the end."""
        self.final: asyncio.Task[Transcript] | None = None
        """The task that finishes the transcript since the last soft end; None while the user speaks."""
        self.blocks: list[Samples] = []
        """The sound of this part of the turn, for a voice that takes the user's words as its context."""
        self._before: Samples = np.zeros(0, np.float32)
        """The sound of the earlier turn that this one continues."""

    def feed(self, frame: Samples, *, speech: bool, now: int) -> None:
        self.blocks.append(frame)
        self.listening.feed(frame)
        if speech:
            self.speech_samples += len(frame)
            self.speech_end = now

    @property
    def understood(self) -> Transcript | None:
        """The transcript of everything said before this pause, once it is there."""
        done = self.final is not None and self.final.done() and not self.final.cancelled()
        return self.final.result() if self.final and done and self.final.exception() is None else None

    @property
    def transcript(self) -> str:
        """The newest words: final if they are there, otherwise partial."""
        return self.partial if self.understood is None else self.understood.text

    @property
    def speech_ms(self) -> float:
        return 1000 * self.speech_samples / EAR_RATE

    def silence_ms(self, now: int) -> float:
        return 1000 * (now - self.speech_end) / EAR_RATE

    def finish(self) -> asyncio.Task[Transcript]:
        """Start to finish the transcript, once per pause."""
        if self.final is None:
            self.final = asyncio.create_task(self.listening.finish())
        return self.final

    def goes_on(self) -> None:
        """Start a new revision because speech resumed; what was concluded from the pause is void."""
        self.revision += 1
        self.record.revision = self.revision
        self.finished = None
        self.asked = 0
        self.paused = False
        self.void()

    def void(self) -> None:
        """Drop the transcript that was being finished, because speech goes on or the turn is dropped."""
        if self.final is not None:
            self.final.cancel()
            self.final = None

    def take_up(self, earlier: UserTurn) -> None:
        """Continue an earlier turn that had not ended after all."""
        self.continues = earlier.number
        self.prefix = earlier.record.user
        self._before = earlier.sound

    def words(self, transcript: str) -> str:
        """Return the words of the whole turn, including those of the turn it continues."""
        return f"{self.prefix} {transcript}".strip()

    @property
    def sound(self) -> Samples:
        """The sound of the whole turn, including that of the turn it continues."""
        return np.concatenate([self._before, *self.blocks])

    @property
    def own_sound(self) -> Samples:
        """The sound without that of the turn it continues, which the voice already has."""
        return self.sound[len(self._before) :]
