"""The one thread in which MLX works.

Since 0.31.2 what MLX has queued in one thread cannot be evaluated in another ("There is no Stream in current thread"),
and a `Generator` may be used from any. So everything that makes or reads an array is handed to one thread, in turn.
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
    """Runs functions one after the other. It ends when nobody holds it any more, or with the process."""

    def __init__(self) -> None:
        self._queue: Queue = SimpleQueue()
        thread = threading.Thread(target=_work, args=(self._queue,), name="csm mlx", daemon=True)
        thread.start()
        weakref.finalize(self, _end, self._queue, thread)

    def begin(self, work: Callable[..., Result], *arguments: object) -> Future[Result]:
        """Puts a call in the queue; ask the result for what it returned or raised."""
        future: Future[Result] = Future()
        self._queue.put((partial(work, *arguments), future))
        return future

    def run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """The same, and waits for it. Not to be called in the thread itself."""
        return self.begin(work, *arguments).result()


def _work(queue: Queue) -> None:
    while (job := queue.get()) is not None:
        work, future = job
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(error)
        del job, work, future  # what a call held is let go when it is done, and not at the next one
    # A thread that ends with its streams open may take the process with it.
    mx.clear_streams()


def _end(queue: Queue, thread: threading.Thread) -> None:
    queue.put(None)
    if thread is not threading.current_thread():
        thread.join()
