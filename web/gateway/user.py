"""A user at this gateway: their data, and the app that serves it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from config import Settings, SettingsStore
from config.personal import first_strange, of_a_person
from pipeline.engine import EngineStatus
from pipeline.engines.lent import LentEngines
from pipeline.engines.memories import Memories, Owned
from pipeline.engines.running import Engines
from rag import ChromaServer
from web.api.audio.queue import Queues
from web.app import personal_app
from web.changes import SettingsRefused
from web.gateway.home import Home
from web.gateway.limits import Limits
from web.metrics.metrics import Metrics
from web.metrics.readings import Readings, read
from web.places import Places, Share
from web.realtime.client_secrets import ClientSecrets
from web.service import Service


class Lender:
    """What all users of a gateway share."""

    def __init__(
        self,
        engines: Engines,
        memories: Memories,
        settings: Settings,
        places: Places,
        host: str,
        chroma: ChromaServer | None = None,
        metrics: Metrics | None = None,
        limits: Limits | None = None,
    ) -> None:
        """
        Args:
            settings: what every user may know of them (config/personal.py).
            host: what the gateway was told to listen on.
            chroma: where the memories' vectors are; None keeps them beside each memory.
            metrics: counts what all users do.
            limits: what each user may have at once.
        """
        self.engines = engines
        self.memories = memories
        self.settings = settings
        self.places = places
        self.host = host
        self.chroma = chroma
        self.metrics = metrics or Metrics()
        self.limits = limits or Limits()
        self.queues = Queues(self.metrics.refused)
        self.building = asyncio.Lock()
        """Builds one app at a time: two threads must not build pydantic's models of the same class at once."""
        self.metrics.registry.register(Readings(partial(read, self, self.queues.by_kind, places)))

    def health(self) -> Mapping[str, EngineStatus]:
        """The state of the engines, and of the memories' store."""
        return self.engines.health() | {"memory": self.memories.status}

    def busy(self) -> Mapping[str, int]:
        return self.engines.busy()


class User:
    """Created by `arrived`, ended by `leave`."""

    def __init__(self, name: str, folder: Path, lender: Lender) -> None:
        self.name = name
        self.home = Home(folder)
        self.secrets = ClientSecrets()
        self.service: Service
        self.app: FastAPI
        self._lender = lender
        self._held = AsyncExitStack()

    @classmethod
    async def arrived(cls, name: str, folder: Path, lender: Lender, patience_s: float) -> User:
        """Raises HomeTaken, SettingsError, OSError."""
        user = cls(name, folder, lender)
        try:
            await user._arrive(patience_s)
        except BaseException:
            await user.leave()
            raise
        return user

    async def _arrive(self, patience_s: float) -> None:
        folder, lender = self.home.folder, self._lender
        self._held.callback(self.home.release)
        await self.home.take(patience_s)
        store = SettingsStore(folder)
        own, notice = lender.settings, None
        if await asyncio.to_thread(store.path.exists):
            loaded = await asyncio.to_thread(store.load)
            own, notice = loaded.settings, loaded.notice
        owned = Owned(folder / "memory", self.name, lender.chroma)
        engines = LentEngines(lender.engines, lender.memories, owned, folder, lambda: self.service.settings)
        self.service = Service(
            engines,
            store,
            folder,
            of_a_person(lender.settings, own),
            lender.metrics,
            places=Share(lender.places, lender.limits.talks),
            rules=partial(check_personal, lender.settings),
        )
        if notice is not None:
            self.service.tell("warning", notice)
        async with lender.building:
            self.app = await asyncio.to_thread(personal_app, self.service, lender.host, lender.queues, self.secrets)
        await self._held.enter_async_context(self.app.router.lifespan_context(self.app))
        await engines.start()  # the memory, from which a continued conversation is read

    async def leave(self) -> None:
        """Cut off the user's conversations, which still save what they have to. Safe to call twice."""
        await self._held.aclose()


def check_personal(lent: Settings, old: Settings, new: Settings) -> None:
    """Raises SettingsRefused for a setting that users may not change themselves."""
    if (field := first_strange(lent, new)) is not None:
        raise SettingsRefused(f"{field} is set by the administrator: it was not changed.", field)
