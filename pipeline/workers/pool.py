"""Several workers of one kind, started as needed, for engines that hold the GIL while they compute."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from pipeline.engine import EngineError, EngineStatus, Report
from pipeline.workers.place import Place

logger = logging.getLogger(__name__)


class WorkerPool:
    def __init__(self, make: Callable[[], Place], *, most: int, busy: int) -> None:
        """Create a pool of up to `most` workers; another starts when all of them serve `busy` users or more."""
        self._make = make
        self._most = most
        self._busy = busy
        self._workers = [make()]
        self._users: Counter[Place] = Counter()
        self._begin: asyncio.Task[None] | None = None
        self._report: Report = lambda progress: None

    async def start(self, report: Report) -> None:
        """Start the first worker. Raises EngineError."""
        self._report = report
        await self._workers[0].start(report)

    async def stop(self) -> None:
        if self._begin is not None:
            self._begin.cancel()
            await asyncio.gather(self._begin, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self._workers))

    async def ready(self) -> None:
        """Wait for a restart of the first worker to finish. Raises EngineError if there is nothing to wait for."""
        await self._workers[0].ready()

    def take(self) -> Place:
        """Return the worker with the fewest users, for one more user, until given back."""
        worker = min(self._workers, key=lambda each: self._users[each])
        self._users[worker] += 1
        if self._too_few and self._begin is None:
            self._begin = asyncio.create_task(self._begin_more())
        return worker

    def give(self, worker: Place) -> None:
        self._users[worker] -= 1

    @property
    def status(self) -> EngineStatus:
        """The first worker's status, with the memory and restarts of all."""
        all_of_them = [worker.status for worker in self._workers]
        memory = [status.memory_bytes for status in all_of_them if status.memory_bytes is not None]
        restarts = sum(status.restarts for status in all_of_them)
        return replace(all_of_them[0], memory_bytes=sum(memory) if memory else None, restarts=restarts)

    @property
    def _too_few(self) -> bool:
        if self._workers[0].elastic:
            return False
        return len(self._workers) < self._most and all(self._users[each] >= self._busy for each in self._workers)

    async def _begin_more(self) -> None:
        try:
            while self._too_few:
                worker = self._make()
                try:
                    await worker.start(self._report)
                except BaseException:
                    await worker.stop()
                    raise
                self._workers.append(worker)
        except EngineError as error:
            logger.warning("Another worker could not be started: %s", error)
        finally:
            self._begin = None
