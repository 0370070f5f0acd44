"""Where an engine computes: in a worker process here (worker.py), or elsewhere. It is given its place and asks no more.

def __init__(self, model: str, *, place: MakePlace = Worker) -> None:
    super().__init__(place("espeak", "pipeline.tts.espeak:Synthesizer", {"voice": "en-gb"}))
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from pipeline.engine import Engine, EngineError, EngineFace


class WorkerDied(EngineError):
    """The engine's process ended in the middle of the work; the work is lost, the process is being restarted."""


class Place(Engine, Protocol):
    """One engine, at work in some place. What it keeps between calls is lost when that place is restarted."""

    async def ready(self) -> None:
        """Wait out a restart. Raises EngineError when there is nothing to wait for."""

    async def call(self, method: str, *args: object, **kwargs: object) -> Any:
        """Call a method of the engine. When the caller is cancelled, work that has not begun never will.

        Raises:
            EngineError: the engine is not ready, or failed; WorkerDied when its process ended meanwhile.
        """

    def stream(self, method: str, *args: object, **kwargs: object) -> AsyncGenerator[Any, None]:
        """What a generator method of the engine yields. Closing this closes that. Raises as call() does."""


@runtime_checkable
class ChangeablePlace(Place, Protocol):
    """A place of its own, where an engine may become another one."""

    async def change(self, **kwargs: object) -> None:
        """Call the engine's `become`; after a restart too it is made with these. Raises as call() does."""


class MakePlace(Protocol):
    def __call__(
        self,
        engine: str,
        target: str,
        kwargs: Mapping[str, object] | None = None,
        *,
        concurrency: int = 1,
        errors: tuple[type[Exception], ...] = (),
    ) -> Place:
        """
        Args:
            engine: its name in the catalogue and in sentences.
            target: "module:attribute" of what makes the engine in that place: attribute(report, **kwargs).
            concurrency: how many calls the engine takes at once, each in a thread; further ones wait their turn.
            errors: the engine's own exceptions, raised here again as what they are, made from their text.
        """


P = TypeVar("P", bound=Engine)


class PlacedEngine(EngineFace[P]):
    """The face of an engine that computes in a Place, or in several."""

    @property
    def _place(self) -> P:
        return self.engine
