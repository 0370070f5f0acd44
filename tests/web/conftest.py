"""A real server on a free port of this machine, inside the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from config import Settings, SettingsStore
from pipeline.speakers.people import People
from tests.support.logging_as_before import logging_as_before as logging_as_before
from tests.support.product import PATIENT
from tests.web.scripted import ScriptedEngines
from web.address import Address
from web.app import create_app
from web.certificate import Certificate
from web.forwarded import network
from web.metrics.traces import Traces
from web.preconditions import listen
from web.serve import Server, server_config
from web.service import Service


@dataclass
class Running:
    service: Service
    engines: Any
    address: Address
    data: Path

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.address.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.address.https else 'http'}://{self.host}"

    def connect(self, query: str = "", **options: Any) -> websockets.connect:
        options.setdefault("max_size", None)
        options.setdefault("close_timeout", 0.5)
        options |= PATIENT
        return websockets.connect(f"ws://{self.host}/v1/realtime{query}", **options)

    def client(self, **options: Any) -> httpx.AsyncClient:
        options.setdefault("verify", self.address.https)  # to read the authorities' certificates takes 30 ms
        return httpx.AsyncClient(base_url=self.url, **{"timeout": None, **options})


@asynccontextmanager
async def served(
    data: Path,
    engines: Any = None,
    settings: Settings | None = None,
    token: str | None = None,
    origins: Iterable[str] = (),
    public: Iterable[str] = (),
    proxies: Iterable[str] = (),
    certificate: Certificate | None = None,
    traces: Traces | None = None,
) -> AsyncIterator[Running]:
    """Serve until the block ends. `engines` are scripted ones unless given; they are begun as serve() does."""
    engines = engines or ScriptedEngines()
    if isinstance(engines, ScriptedEngines):
        engines.people = People(data)
    settings = settings or Settings(set_up=True)
    service = Service(engines, SettingsStore(data), data, settings)
    with listen("127.0.0.1", 0) as listener:
        port, pages = listener.getsockname()[1], frozenset(origins)
        secure = certificate is not None
        address = Address("127.0.0.1", port, token, origins=pages, https=secure, public=tuple(public))
        listening = asyncio.Event()

        def begin() -> None:
            service.begin()
            listening.set()

        app = create_app(service, address, certificate=certificate, proxies=map(network, proxies), traces=traces)
        server = Server(server_config(app, certificate), begin)
        running = asyncio.create_task(server._serve([listener]))  # serve() would take over pytest's signals
        await listening.wait()
        try:
            yield Running(service, engines, address, data)
        finally:
            server.should_exit = True
            await running


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with served(tmp_path) as server:
        yield server


@pytest.fixture
async def socket(running: Running) -> AsyncIterator[ClientConnection]:
    async with running.connect() as connection:
        yield connection
