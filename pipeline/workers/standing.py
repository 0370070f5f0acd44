"""The state of a place, the reason for it, and the callers that wait for it to change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pipeline.engine import EngineError, EngineState, Progress, Report


class Standing:
    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._turned = asyncio.Event()
        self.report: Report = lambda progress: None
        """Called at every change of state."""
        self.state: EngineState = "stopped"
        self.last_error: str | None = None
        self.progress: Progress | None = None

    def turn(self, state: EngineState, *, error: str | None = None, progress: Progress | None = None) -> None:
        """Change the state and wake those who wait for that; the only place where it changes."""
        self.state, self.progress = state, progress
        self.last_error = error or self.last_error
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()
        self.report(progress or Progress(state))

    async def loaded(self, now: Callable[[], EngineState]) -> None:
        """Wait while `now` says loading; it may be more current than the state stored here."""
        while now() == "loading":
            await self._turned.wait()

    def refusal(self, state: EngineState) -> EngineError:
        """Return the error for a caller of a place that is not ready."""
        match state:
            case "loading":
                return EngineError(f"{self._engine} is not ready yet: try again in a moment.")
            case "failed":
                return EngineError(self.last_error or f"{self._engine} has failed.")
        return EngineError(f"{self._engine} is not running.")
