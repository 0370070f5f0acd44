"""What pages, API and WebSockets share: the engines, the settings in force, what the user must be told."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from config import Settings, SettingsStore
from pipeline.conversation.events import Severity
from pipeline.engine import EngineError
from pipeline.engines.running import Engines
from web import logs
from web.realtime.card import CardHolder
from web.recordings import Recordings
from web.turn_log import TurnLog

NOTICES = 50


@dataclass(frozen=True, slots=True)
class Told:
    """Something the user was told, and when (ISO 8601)."""

    at: str
    severity: Severity
    text: str


def public_settings(settings: Settings) -> dict[str, Any]:
    """The settings as the page may know them: everything but the key."""
    tree = settings.model_dump(mode="json")
    tree["mind"].pop("api_key")
    return tree


class Service:
    def __init__(self, engines: Engines, store: SettingsStore, data: Path, settings: Settings) -> None:
        self.engines = engines
        self.store = store
        self.data = data
        self.settings = settings
        self.turns = TurnLog(data, lambda: self.settings.log.words)
        self.recordings = Recordings(data)
        self.notices: deque[Told] = deque(maxlen=NOTICES)
        self.conversations = 0
        """How many run now."""
        self.card_holder = CardHolder()
        self._loading: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._watchers: set[Callable[[Settings], None]] = set()

    def tell(self, severity: Severity, text: str) -> None:
        """Keep a notice for whoever looks at the page next."""
        self.notices.append(Told(datetime.now().astimezone().isoformat(timespec="seconds"), severity, text))

    @contextmanager
    def watching(self, changed: Callable[[Settings], None]) -> Iterator[None]:
        """Call `changed` after each change of the settings."""
        self._watchers.add(changed)
        try:
            yield
        finally:
            self._watchers.discard(changed)

    async def change(self, settings: Settings) -> list[str]:
        """Save the settings, then put them to use; returns the stages that were loaded anew.

        Raises:
            SettingsError: they could not be saved; nothing has changed.
            EngineError: an engine could not be loaded; the old settings are in force and on disk.
        """
        async with self._changing:
            old = self.settings
            await asyncio.to_thread(self.store.save, settings)
            try:
                applied = await self.engines.apply(settings)
            except EngineError:
                await asyncio.to_thread(self.store.save, old)
                raise
            self.settings = settings
            if settings.log != old.log:
                logs.configure(self.data, level=settings.log.level, words=settings.log.words)
            for changed in tuple(self._watchers):
                changed(settings)
            return applied

    def begin(self) -> None:
        """Load the engines, beside everything else."""
        self._loading = asyncio.create_task(self.engines.start())

    async def end(self) -> None:
        """Stop the engines, loaded or still loading."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        await self.engines.stop()
