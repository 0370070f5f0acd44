"""One engine of the running set: what it should be, and its current state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from pipeline.engine import Changeable, Engine, EngineError, EngineState, EngineStatus, Progress
from pipeline.engines.lease import Lease

log = logging.getLogger(__name__)

Part = Literal["vad", "turns", "ears", "mind", "voice", "memory", "speakers"]

LINGER_S = 120.0
"""Seconds after which a replaced engine is stopped even in the middle of a turn."""

TITLES: dict[Part, str] = {
    "vad": "The voice detection",
    "turns": "The turn model",
    "ears": "The speech recognition",
    "mind": "The mind",
    "voice": "The voice",
    "memory": "The memory",
    "speakers": "The telling apart of voices",
}


@dataclass(frozen=True)
class EnginePlan:
    """What a part should be. Equal plans make equal engines."""

    engine: str
    create: Callable[[], Engine] = field(compare=False)
    arguments: Mapping[str, object] | None = None
    """The arguments of the engine's __init__, if the catalogue gives them."""
    made_of: object = None
    """Whatever else determines the engine, and where it computes."""
    alone: bool = False
    """Whether the old engine must stop before the new one starts, because both would write the same files."""
    patience_s: float | None = field(default=None, compare=False)
    """Time limit for a start that depends on a remote server."""
    label: str = field(default="", compare=False)
    """The name shown to users."""


class Slot:
    """A part of the running set: what it should be, and the engine once there is one."""

    def __init__(
        self, part: Part, plan: EnginePlan, changed: Callable[[], None], *, instead_of: Slot | None = None
    ) -> None:
        self.part = part
        self.plan = plan
        self.instead_of = instead_of
        """The slot that was asked for and could not be started."""
        self.engine: Engine | None = None
        self._changed = changed
        self._state: EngineState = "stopped"
        self._error: str | None = None
        self._progress: Progress | None = None

    async def start(self) -> None:
        """Start the engine; after a stop, the same one. Raises EngineError, and keeps its message for the status."""
        self._turn("loading")
        try:
            async with asyncio.timeout(self.plan.patience_s) as limit:
                self.engine = self.engine or self.plan.create()
                await self.engine.start(self._report)
        except EngineError as error:
            self._failed(str(error))
            raise
        except Exception as error:
            if limit.expired():
                if not self.plan.alone:  # the memory goes on without its server
                    await self.stop()
                why = f"did not answer completely within {self.plan.patience_s:.0f} s: restart it, or choose another"
                self._failed(f"The server for {TITLES[self.part].lower()} {why}.")
            else:
                log.exception("%s could not be started", self.plan.engine)
                self._failed(f"{TITLES[self.part]} ({self.plan.engine}) could not be started: {_line(error)}.")
            raise EngineError(cast(str, self._error)) from error
        except BaseException:
            self._turn("stopped")
            raise
        self._turn("ready")

    def can_become(self, plan: EnginePlan) -> bool:
        """Whether the running engine can change to this plan without being loaded again."""
        engine = self._bare
        return (
            self.status.state == "ready"
            and (self.plan.engine, self.plan.made_of) == (plan.engine, plan.made_of)
            and isinstance(engine, Changeable)
            and plan.arguments is not None
            and engine.can_become(plan.arguments)
        )

    async def become(self, plan: EnginePlan) -> None:
        """Change to the plan in place. Raises EngineError, and everything is as it was."""
        await cast(Changeable, self._bare).become(cast(Mapping[str, object], plan.arguments))
        self.plan = plan
        self._changed()

    @property
    def _bare(self) -> object:
        """The engine itself, without its lease if it has one."""
        return self.engine.engine if isinstance(self.engine, Lease) else self.engine

    async def stop(self) -> None:
        if self.engine is not None:
            await self.engine.stop()
        self._turn("stopped")

    @property
    def status(self) -> EngineStatus:
        """The engine's own status while it runs, since it may die and recover; otherwise how far loading came."""
        status = EngineStatus(self.plan.engine, self._state) if self.engine is None else self.engine.status
        state = status.state if self._state == "ready" else self._state
        progress = (status.progress or self._progress) if state == "loading" else None
        error = status.last_error or self._error
        if error is None and self.instead_of is not None:
            error = self.instead_of.status.last_error
        return replace(status, engine=self.plan.engine, state=state, progress=progress, last_error=error)

    @property
    def wanted(self) -> EnginePlan:
        """The plan that the settings ask for, which differs from `plan` if this slot is a stand-in."""
        return self.plan if self.instead_of is None else self.instead_of.plan

    @property
    def lacking(self) -> bool:
        """Whether the engine that the settings ask for is missing."""
        return self.instead_of is not None or self.status.state == "failed"

    @property
    def in_use(self) -> bool:
        return isinstance(self.engine, Lease) and not self.engine.idle

    @property
    def busy(self) -> int:
        """How much it is hearing, writing or speaking right now."""
        return self.engine.busy if isinstance(self.engine, Lease) else 0

    def give_way(self, successor: Slot) -> None:
        """Send new work to the successor."""
        if isinstance(self.engine, Lease) and isinstance(successor.engine, Lease):
            self.engine.succeeded_by(successor.engine)

    async def stop_when_idle(self) -> None:
        """Let current work finish within LINGER_S, then stop."""
        try:
            if isinstance(self.engine, Lease):
                async with asyncio.timeout(LINGER_S):
                    await self.engine.until_idle()
        except TimeoutError:
            log.warning("%s is stopped in the middle of a turn.", self.plan.engine)
        finally:
            await self.stop()

    def _report(self, progress: Progress) -> None:
        self._progress = progress
        self._changed()

    def _failed(self, why: str) -> None:
        self._error = why
        self._turn("failed")

    def _turn(self, state: EngineState) -> None:
        self._state = state
        self._changed()


def _line(error: Exception) -> str:
    """Return the first line of a library's message, or the kind of its error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160].rstrip(".")
