"""The one thread in which MLX works.

Since 0.31.2, MLX cannot evaluate in one thread what was queued in another ("There is no Stream in current thread"), but
a `Generator` may be used from any thread. So one thread makes and reads all arrays, one call at a time.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import mlx.core as mx

__all__ = ["ComputeThread"]

Result = TypeVar("Result")
Queue = SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]


class ComputeThread:
    """Runs functions one after the other. It ends when nobody refers to it any more, or with the process."""

    def __init__(self) -> None:
        self._queue: Queue = SimpleQueue()
        thread = threading.Thread(target=_work, args=(self._queue,), name="csm mlx", daemon=True)
        thread.start()
        weakref.finalize(self, _end, self._queue, thread)

    def begin(self, work: Callable[..., Result], *arguments: object) -> Future[Result]:
        """Queue a call; the future holds what it returns or raises."""
        future: Future[Result] = Future()
        self._queue.put((partial(work, *arguments), future))
        return future

    def run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Queue a call and wait for its result. Do not call this in the thread itself."""
        return self.begin(work, *arguments).result()


def _work(queue: Queue) -> None:
    while (job := queue.get()) is not None:
        work, future = job
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is requested
            future.set_exception(error)
        del job, work, future  # release what the call held now, not at the next call
    # A thread that ends with open streams may crash the process.
    mx.clear_streams()


def _end(queue: Queue, thread: threading.Thread) -> None:
    queue.put(None)
    if thread is not threading.current_thread():
        thread.join()
