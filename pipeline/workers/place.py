"""Where an engine computes: in a worker process on this machine (worker.py), or elsewhere. The engine is given its
place, and needs to know nothing else about it:

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
    """The engine's process ended in the middle of the work; the work is lost, the process is being restarted."""


class EngineCalls(Protocol):
    """How an engine is asked for something, wherever it is."""

    async def ready(self) -> None:
        """Wait out a restart. Raises EngineError when there is nothing to wait for."""

    async def call(self, method: str, *args: object, **kwargs: object) -> Any:
        """Call a method of the engine. When the caller is cancelled, work that has not begun never will.

        Raises:
            EngineError: the engine is not ready, or failed; WorkerDied when its process ended meanwhile.
        """

    def stream(self, method: str, *args: object, **kwargs: object) -> AsyncGenerator[Any, None]:
        """What a generator method of the engine yields. Closing this closes that. Raises as call() does."""


class Seat(EngineCalls, Protocol):
    """Of one talker at an engine that tells its talkers apart by a number: each method is given it first.

    What the engine keeps for the number is lost when its place is restarted; the seat goes on.
    """

    async def leave(self) -> None:
        """The talker is gone, and the engine forgets the number. Safe to call twice, also where it has died."""


class Place(Engine, EngineCalls, Protocol):
    """One engine, at work in some place. What it keeps between calls is lost when that place is restarted."""

    elastic: bool
    """Whether more of it are begun as they are needed, without anyone here asking for that."""

    def seat(self, farewell: str) -> Seat:
        """Args: farewell: the engine's method that forgets a number."""


class NumberedSeat:
    """At an engine that is one and the same for all."""

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
        with suppress(EngineError):  # a process that is gone holds nothing
            await uninterrupted(self._place.call(self._farewell, self._number))


@runtime_checkable
class ChangeablePlace(Place, Protocol):
    """A place of its own, where an engine may become another one."""

    async def change(self, **kwargs: object) -> None:
        """Call the engine's `become`; after a restart too it is made with these. Raises as call() does."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A place that is yet to be made: an engine, as its face asks for it."""

    engine: str
    """Its name in the catalogue and in sentences."""
    target: str
    """ "module:attribute" of what makes the engine in that place: attribute(report, **kwargs)."""
    kwargs: Mapping[str, object] = field(default_factory=dict)
    concurrency: int = 1
    """How many calls the engine takes at once, each in a thread; further ones wait their turn."""
    errors: tuple[type[Exception], ...] = ()
    """The engine's own exceptions, raised here again as what they are, made from their text."""
    kinds: tuple[type, ...] = ()
    """The dataclasses that it takes and gives, for places that are reached by a network."""


MakePlace = Callable[[Wanted], Place]


P = TypeVar("P", bound=Engine)


class PlacedEngine(EngineFace[P]):
    """The face of an engine that computes in a Place, or in several."""

    @property
    def _place(self) -> P:
        return self.engine
