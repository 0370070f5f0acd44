"""Inside a worker process: load one engine, answer the parent's requests, and end when the parent does.

Only pipeline/workers/worker.py runs this, through tied.py. Requests arrive on standard input and replies leave on
standard output, each as a pickle preceded by its length. Pickle is safe here because both ends are the same program
under the same user, and nothing else can write to the pipe.

The engine is an ordinary synchronous class, created as `Engine(report, **kwargs)`; it calls report(Progress(...)) while
it loads. A method that returns a value is called; a generator method is streamed, and closed when its listener has
gone. `close()`, if there is one, is called at the end.
"""

from __future__ import annotations

import importlib
import os
import pickle
import struct
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, BinaryIO

from pipeline.engine import EngineError, Progress
from pipeline.workers.line import names_of

HEADER = struct.Struct("!Q")
"""Length of the pickle that follows, in bytes."""

WINDOW = 16
"""Items of a stream that may be sent before the listener has taken one, to bound memory."""

_LAST_WORDS_S = 2.0
"""How long close() may take once the parent has gone."""


class Channel:
    """Messages to and from the parent, on copies of the standard streams, so that the engine can print to its own."""

    def __init__(self) -> None:
        self._requests: BinaryIO = os.fdopen(os.dup(0), "rb")
        self._replies: BinaryIO = os.fdopen(os.dup(1), "wb")
        self._sending = threading.Lock()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)  # an engine's prints go to the log, not between the replies

    def requests(self) -> Iterator[tuple[Any, ...]]:
        """Yield requests until the parent closes its end or is gone."""
        while len(header := self._requests.read(HEADER.size)) == HEADER.size:
            (length,) = HEADER.unpack(header)
            body = self._requests.read(length)
            if len(body) < length:
                return
            yield pickle.loads(body)

    def send(self, kind: str, number: int, payload: object = None) -> None:
        body = pickle.dumps((kind, number, payload), protocol=pickle.HIGHEST_PROTOCOL)
        with self._sending:
            try:
                self._replies.write(HEADER.pack(len(body)))
                self._replies.write(body)
                self._replies.flush()
            except OSError:
                os._exit(0)  # the parent has gone


class Listener:
    """How many items of a stream the parent is ready to take, and whether it still wants any."""

    def __init__(self) -> None:
        self._room = threading.Semaphore(WINDOW)
        self.gone = False

    def more(self) -> None:
        self._room.release()

    def leave(self) -> None:
        self.gone = True
        self._room.release()

    def wait(self) -> bool:
        """Wait for room; return False if the listener has gone."""
        self._room.acquire()
        return not self.gone


class WorkerProcess:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._engine: Any = None
        self._threads = ThreadPoolExecutor(1)
        self._waiting: dict[int, Future[None]] = {}
        self._listeners: dict[int, Listener] = {}

    def serve(self) -> None:
        """Take requests until the parent has gone. Never returns."""
        for kind, number, *details in self._channel.requests():
            match kind:
                case "load":
                    target, kwargs, concurrency = details
                    self._threads = ThreadPoolExecutor(concurrency, "engine")
                    self._threads.submit(self._answer, number, self._load, (number, target), kwargs)
                case "call":
                    method, args, kwargs = details
                    waiting = self._threads.submit(self._answer, number, self._call, (method, *args), kwargs)
                    self._waiting[number] = waiting
                    waiting.add_done_callback(partial(self._done, number))
                case "stream":
                    method, args, kwargs = details
                    self._listeners[number] = Listener()
                    self._threads.submit(self._answer, number, self._stream, (number, method, *args), kwargs)
                case "ping":  # answered by this thread, which the engine never blocks
                    self._channel.send("pong", number)
                case "more" if number in self._listeners:
                    self._listeners[number].more()
                case "cancel":
                    if unbegun := self._waiting.get(number):
                        unbegun.cancel()
                    if listener := self._listeners.get(number):
                        listener.leave()
        self._end()

    def _done(self, number: int, _: Future[None]) -> None:
        self._waiting.pop(number, None)

    def _answer(self, number: int, work: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self._channel.send("value", number, work(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is told to the parent
            if not isinstance(error, EngineError):  # log where, not what: its text may hold spoken words
                print(type(error).__name__, *traceback.format_tb(error.__traceback__), file=sys.stderr)
            self._channel.send("error", number, (names_of(error), str(error)))
        finally:
            self._listeners.pop(number, None)

    def _load(self, number: int, target: str, **kwargs: Any) -> None:
        module, _, name = target.partition(":")

        def report(progress: Progress) -> None:
            self._channel.send("item", number, progress)

        self._engine = getattr(importlib.import_module(module), name)(report, **kwargs)

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._engine, method)(*args, **kwargs)

    def _stream(self, number: int, method: str, *args: Any, **kwargs: Any) -> None:
        listener = self._listeners[number]
        if listener.gone:
            return
        items = getattr(self._engine, method)(*args, **kwargs)
        try:
            for item in items:
                if not listener.wait():
                    return
                self._channel.send("item", number, item)
        finally:
            items.close()

    def _end(self) -> None:
        threading.Thread(target=self._last_words, daemon=True).start()
        threading.Event().wait(_LAST_WORDS_S)
        os._exit(0)  # not sys.exit, which would wait for threads inside an engine's C code

    def _last_words(self) -> None:
        for listener in list(self._listeners.values()):
            listener.leave()
        self._threads.shutdown(wait=True, cancel_futures=True)
        if close := getattr(self._engine, "close", None):
            close()
        os._exit(0)


if __name__ == "__main__":
    WorkerProcess(Channel()).serve()
