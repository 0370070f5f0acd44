"""Where an engine computes: in a worker process on this machine (worker.py), or elsewhere. The engine is given a way to
create its place and knows nothing else about it:

    def __init__(self, model: str, *, place: MakePlace = Worker) -> None:
        super().__init__(place(Wanted("espeak", "pipeline.tts.espeak:Synthesizer", {"voice": "en-gb"})))
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from pipeline.cleanup import uninterrupted
from pipeline.engine import Engine, EngineError, EngineFace


class WorkerDied(EngineError):
    """The engine's process ended during the work; the work is lost, and the process is being restarted."""


class EngineCalls(Protocol):
    """The calls to an engine, wherever it runs."""

    async def ready(self) -> None:
        """Wait for a restart to finish. Raises EngineError if there is nothing to wait for."""

    async def call(self, method: str, *args: object, **kwargs: object) -> Any:
        """Call a method of the engine. If the caller is cancelled, work that has not begun is dropped.

        Raises:
            EngineError: the engine is not ready, or failed; WorkerDied if its process ended meanwhile.
        """

    def stream(self, method: str, *args: object, **kwargs: object) -> AsyncGenerator[Any, None]:
        """Yield the items of a generator method of the engine. Closing this closes that. Raises as call() does."""


class Seat(EngineCalls, Protocol):
    """One talker's calls to an engine that identifies talkers by number; the number is each method's first argument.

    A restart of the place loses what the engine keeps for the number; the seat remains usable.
    """

    async def leave(self) -> None:
        """Make the engine forget the number of a talker who has gone. Safe to call twice, or after the engine died."""


class Place(Engine, EngineCalls, Protocol):
    """One engine running in some place. A restart of the place loses what the engine keeps between calls."""

    elastic: bool
    """Whether the place adds instances by itself as they are needed."""

    def seat(self, farewell: str) -> Seat:
        """Return a talker's seat. Args: farewell: the engine's method that forgets a number."""


class NumberedSeat:
    """A seat at a place with a single engine for all talkers."""

    def __init__(self, place: EngineCalls, number: int, farewell: str) -> None:
        self._place = place
        self._number = number
        self._farewell = farewell
        self._left = False

    async def ready(self) -> None:
        await self._place.ready()

    async def call(self, method: str, *args: object, **kwargs: object) -> Any:
        return await self._place.call(method, self._number, *args, **kwargs)

    def stream(self, method: str, *args: object, **kwargs: object) -> AsyncGenerator[Any, None]:
        return self._place.stream(method, self._number, *args, **kwargs)

    async def leave(self) -> None:
        if self._left:
            return
        self._left = True
        with suppress(EngineError):  # an ended process holds nothing
            await uninterrupted(self._place.call(self._farewell, self._number))


@runtime_checkable
class ChangeablePlace(Place, Protocol):
    """A place used by one engine only, which may change into another one."""

    async def change(self, **kwargs: object) -> None:
        """Call the engine's `become`; a restart also uses these arguments. Raises as call() does."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A place to be created, as the engine requests it."""

    engine: str
    """Its name in the catalogue and in messages."""
    target: str
    """ "module:attribute" of what creates the engine in that place: attribute(report, **kwargs)."""
    kwargs: Mapping[str, object] = field(default_factory=dict)
    concurrency: int = 1
    """How many calls the engine takes at once, each in its own thread; more calls wait."""
    errors: tuple[type[Exception], ...] = ()
    """The engine's own exceptions, which are raised here again as their own class, from their text."""
    kinds: tuple[type, ...] = ()
    """The dataclasses that its methods take and return, for places across a network."""


MakePlace = Callable[[Wanted], Place]


P = TypeVar("P", bound=Engine)


class PlacedEngine(EngineFace[P]):
    """The client side of an engine that runs in one Place or in several."""

    @property
    def _place(self) -> P:
        return self.engine
