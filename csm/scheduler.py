"""One engine for several talkers: a thread steps the slots of csm/batch.py while anyone is speaking.

A talker prefills and speaks as if it had its own engine (`csm.utterance.Talker`), from any thread. A new speaker joins
the others at their next frame. A long prompt is read in pieces between the frames of the others, so that nobody's
speech is interrupted. There may be more talkers than slots: the one that has been idle longest gives up its slot, and
its prompt is read again when it next speaks. While all slots are speaking, further talkers wait.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple

from torch import Tensor

from .batch import Slots
from .errors import CsmError
from .synthesis import Generator
from .utterance import Sampling, Speech

__all__ = ["Scheduler", "SharedTalker"]

AHEAD = 2
"""Frames made before anyone takes them: the next one is under way while the last one is taken."""
PIECE = 32
"""Rows of a prompt read between two frames of other talkers; they take about as long as a frame."""
LARGE_PIECE = 256
"""Rows read at a time if nobody else is waiting. A limit, so that a newcomer need not wait for a whole conversation to
be read."""


class _Frame(NamedTuple):
    codes: Tensor
    samples: Tensor


class _Job:
    """A prompt to read, and perhaps an utterance that follows it. `news` delivers frames, then None or an error."""

    def __init__(self, talker: SharedTalker, prompt: Tensor, speech: tuple[int, Sampling] | None = None) -> None:
        self.talker, self.prompt, self.speech = talker, prompt, speech
        self.heard = 0
        """Rows of the prompt read so far."""
        self.speaking = False
        self.news: SimpleQueue[_Frame | BaseException | None] = SimpleQueue()


class Scheduler:
    """`count` slots for the talkers of a generator. Close it once nobody is speaking any more."""

    def __init__(self, generator: Generator, count: int = 8) -> None:
        self.generator = generator
        self._slots = Slots(generator.model, generator.codec, count)
        self._turns = itertools.count()
        self._changed = threading.Condition()
        self._jobs: list[_Job] = []
        self._leaving: list[SharedTalker] = []
        self._seated: list[SharedTalker] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="csm scheduler", daemon=True)
        self._thread.start()

    def talker(self) -> SharedTalker:
        """A new talker, for one `csm.Session`."""
        return SharedTalker(self)

    def close(self) -> None:
        """End the thread after the current frame. Whoever is still waiting gets an error."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def submit(self, job: _Job) -> None:
        """Queue a job. Its `news` arrive from now on."""
        with self._changed:
            if self._closed:
                raise CsmError("The scheduler was closed: create a new one to speak.")
            self._jobs.append(job)
            self._changed.notify()

    def drop(self, job: _Job) -> None:
        """Cancel a job that nobody wants any more: it ends before the next frame. Ignore a job that has ended."""
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
            self._changed.notify()

    def taken(self) -> None:
        """Report that a frame was taken, so there is room for another."""
        with self._changed:
            self._changed.notify()

    def leave(self, talker: SharedTalker) -> None:
        """Give up the talker's slot, if it has one."""
        with self._changed:
            self._leaving.append(talker)
            self._changed.notify()

    # -- in the scheduler's thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._something_to_do)
                if self._closed:
                    for job in self._jobs:
                        job.news.put(CsmError("The scheduler was closed while somebody spoke."))
                    self._jobs.clear()
                    return
                jobs, leaving = list(self._jobs), self._leaving
                self._leaving = []
            self._silence(jobs, leaving)
            self._prefill(jobs)
            self._step([job for job in jobs if job.speaking])

    def _something_to_do(self) -> bool:
        dropped = any(talker.job is not None and talker.job not in self._jobs for talker in self._seated)
        return self._closed or dropped or bool(self._leaving) or any(self._can_go_on(job) for job in self._jobs)

    def _can_go_on(self, job: _Job) -> bool:
        if job.speaking:
            return not self._slots.selective or job.news.qsize() < AHEAD
        return job.talker.slot is not None or bool(self._slots.free) or self._idle() is not None

    def _idle(self) -> SharedTalker | None:
        """The talker that has a slot, has nothing to do, and has been idle longest."""
        with self._changed:
            busy = {job.talker for job in self._jobs}
        idle = (talker for talker in self._seated if talker.job is None and talker not in busy)
        return min(idle, key=lambda talker: talker.used, default=None)

    def _silence(self, jobs: list[_Job], leaving: list[SharedTalker]) -> None:
        """End utterances that nobody wants any more, and remove talkers that leave."""
        for talker in list(self._seated):
            if talker.job is not None and talker.job not in jobs:
                assert talker.slot is not None
                self._slots.fall_silent(talker.slot)
                talker.job = None
            if talker in leaving:
                if talker.job is not None:
                    self._end(talker.job, CsmError("The talker was closed while it spoke."))
                self._unseat(talker)

    def _prefill(self, jobs: list[_Job]) -> None:
        """Read a piece of the first waiting prompt; a large piece if there is no other job."""
        for job in jobs:
            if not job.speaking and self._seat(job):
                rows = PIECE if len(jobs) > 1 else LARGE_PIECE
                self._guarded([job], partial(self._hear, job, rows))
                return

    def _hear(self, job: _Job, rows: int) -> None:
        slot = job.talker.slot
        assert slot is not None
        job.heard = min(max(job.heard, self._slots.known(job.prompt)) + rows, len(job.prompt))
        if job.heard < len(job.prompt):
            self._slots.prefill(slot, job.prompt[: job.heard])
        elif job.speech is None:
            self._slots.prefill(slot, job.prompt)
            self._end(job)
        else:
            self._slots.say(slot, job.prompt, *job.speech)
            job.speaking = True

    def _step(self, speaking: list[_Job]) -> None:
        ready = {job.talker.slot: job for job in speaking if self._can_go_on(job)}

        def step() -> None:
            for sound in self._slots.step([slot for slot in ready if slot is not None]):
                job = ready[sound.slot]
                if len(sound.samples):
                    job.news.put(_Frame(sound.codes, sound.samples))
                if sound.last:
                    self._end(job)

        if ready:
            self._guarded(list(ready.values()), step)

    def _guarded(self, jobs: list[_Job], work: Callable[[], None]) -> None:
        """Run `work`. An error ends only the given jobs, as their error."""
        try:
            with self.generator.memory():
                work()
        except Exception as error:  # noqa: BLE001 - it is raised where the talker speaks
            for job in jobs:
                if job.talker.slot is not None:
                    self._slots.forget(job.talker.slot)
                self._end(job, error)

    def _seat(self, job: _Job) -> bool:
        """Give the talker of a job a slot, if one can be had; return whether it has one."""
        talker = job.talker
        if talker.slot is None:
            if not self._slots.free:
                if (idle := self._idle()) is None:
                    return False
                self._unseat(idle)
            talker.slot = self._slots.join()
            self._seated.append(talker)
        talker.job, talker.used = job, next(self._turns)
        return True

    def _unseat(self, talker: SharedTalker) -> None:
        assert talker.slot is not None
        self._slots.leave(talker.slot)
        self._seated.remove(talker)
        talker.slot = talker.job = None

    def _end(self, job: _Job, error: BaseException | None = None) -> None:
        job.talker.job = None
        with self._changed, suppress(ValueError):  # it may have been dropped meanwhile
            self._jobs.remove(job)
        job.news.put(error)


class SharedTalker:
    """One talker of a scheduler; implements `csm.utterance.Talker`. Only one thread at a time may use it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.slot: int | None = None
        self.job: _Job | None = None
        self.used = 0
        """When it last got something to do: a higher number is later."""

    def prefill(self, rows: Tensor) -> None:
        """Read rows ahead of time. Return when they are read; raise any error that occurred."""
        job = _Job(self, rows)
        self.scheduler.submit(job)
        if isinstance(outcome := job.news.get(), BaseException):
            raise outcome

    def utter(
        self, prompt: Tensor, most: int, sampling: Sampling, cancelled: Callable[[], bool] = lambda: False
    ) -> SharedUtterance:
        """Return an utterance that follows the prompt: iterate over it."""
        return SharedUtterance(self, prompt, most, sampling, cancelled)

    def close(self) -> None:
        """Release the slot for others."""
        self.scheduler.leave(self)


class SharedUtterance(Speech):
    """What one talker of a scheduler says."""

    def __init__(
        self, talker: SharedTalker, prompt: Tensor, most: int, sampling: Sampling, cancelled: Callable[[], bool]
    ) -> None:
        super().__init__(sampling, cancelled)
        self.talker, self.prompt, self.most = talker, prompt, most

    def _attempt(self, sampling: Sampling) -> Iterator[Tensor]:
        scheduler, job = self.talker.scheduler, _Job(self.talker, self.prompt, (self.most, sampling))
        self.frames = []
        if self.cancelled():
            return
        scheduler.submit(job)
        try:
            while (news := job.news.get()) is not None:
                if isinstance(news, BaseException):
                    raise news
                if self.cancelled():
                    return
                self.frames.append(news.codes)
                scheduler.taken()
                yield news.samples
        finally:
            scheduler.drop(job)
