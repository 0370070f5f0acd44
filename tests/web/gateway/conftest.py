"""A real gateway on a free port, inside the test's own event loop: scripted engines, and real memories on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from config import Settings
from config.personal import lendable
from pipeline.conversation.stages import Stages
from pipeline.engine import EngineStatus, Report
from pipeline.engines.lease import LeasedVoice
from pipeline.engines.memories import Owned
from rag import ChromaServer, Memory, MemoryVerbs
from rag.asynchronous import called
from tests.rag.conftest import WordEmbedder
from tests.support.product import PATIENT
from tests.web.scripted import ScriptedEngines
from web.address import Address
from web.drain import drain
from web.forwarded import network
from web.gateway import accounts
from web.gateway.accounts import Accounts
from web.gateway.gateway import Gateway
from web.gateway.limits import Limits
from web.gateway.serve import around, running
from web.gateway.user import Lender
from web.metrics.traces import Traces
from web.places import Places
from web.preconditions import listen
from web.serve import Server, server_config

WATCHING = "the administrator's own token, which opens the figures"


class ScriptedLender(ScriptedEngines):
    """As the machine's engines are, which have no memory."""

    def __init__(self) -> None:
        super().__init__()
        self._leased = LeasedVoice(self.voice, self.precedence)

    async def start(self, *, without: Collection[str] = ()) -> None:
        assert "memory" in without
        await super().start()

    def stages(self) -> Stages:
        return replace(super().stages(), voice=self._leased)


class QuickMemory(MemoryVerbs):
    """A real memory in this process, with vectors of hashed words."""

    def __init__(self, owned: Owned) -> None:
        self._owned = owned
        self._memory: Memory | None = None

    async def start(self, report: Report) -> None:
        owned = self._owned
        open_it = partial(Memory, owned.path, owner=owned.owner, chroma=owned.chroma, embedder=WordEmbedder())
        self._memory = await asyncio.to_thread(open_it)

    async def stop(self) -> None:
        if self._memory is not None:
            memory, self._memory = self._memory, None
            await asyncio.to_thread(memory.close)

    @property
    def status(self) -> EngineStatus:
        return EngineStatus("memory", "stopped" if self._memory is None else "ready")

    async def _do(self, verb: str, *args: object, **options: object) -> Any:
        assert self._memory is not None
        return await asyncio.to_thread(called, self._memory, verb, *args, **options)


class QuickMemories:
    """The face of pipeline.engines.memories.Memories."""

    def __init__(self) -> None:
        self.status = EngineStatus("memory", "stopped")

    async def start(self, report: Report) -> None:
        self.status = EngineStatus("memory", "ready")

    async def stop(self) -> None:
        self.status = EngineStatus("memory", "stopped")

    def of(self, owned: Owned) -> QuickMemory:
        return QuickMemory(owned)


@dataclass
class RunningGateway:
    gateway: Gateway
    engines: ScriptedLender
    port: int
    file: Path
    """Of users."""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def places(self) -> Places:
        return self.gateway.lender.places

    def connect(self, token: str, query: str = "?parley=1") -> websockets.connect:
        return websockets.connect(
            f"ws://{self.host}/v1/realtime{query}",
            max_size=None,
            close_timeout=0.5,
            **PATIENT,
            additional_headers={"Authorization": f"Bearer {token}"},
        )

    def client(self, token: str | None = None, **options: Any) -> httpx.AsyncClient:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        given = {**headers, **options.pop("headers", {})}
        return httpx.AsyncClient(base_url=self.url, headers=given, verify=False, timeout=None, **options)

    async def drain(self, patience_s: float) -> None:
        await drain(self.places, self.gateway.dismiss, patience_s)


@asynccontextmanager
async def gateway_served(
    data: Path,
    *,
    settings: Settings | None = None,
    header: str | None = None,
    proxies: Iterable[str] = (),
    most: int = 20,
    limits: Limits | None = None,
    chroma: ChromaServer | None = None,
    patience_s: float = 30.0,
    idle_s: float = 300.0,
    traces: Traces | None = None,
) -> AsyncIterator[RunningGateway]:
    """Serve until the block ends; several may share a folder."""
    engines, file = ScriptedLender(), data / "users.json"
    with listen("127.0.0.1", 0) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1])
        lent: Any = engines
        memories: Any = QuickMemories()
        lender = Lender(
            lent, memories, lendable(settings or Settings()), Places(most), address.host, chroma, limits=limits
        )
        gateway = Gateway(lender, data / "users", Accounts.read(file), WATCHING, patience_s=patience_s, idle_s=idle_s)
        app = around(gateway, address, [network(each) for each in proxies], header, running(gateway, file, traces))
        listening = asyncio.Event()
        server = Server(server_config(app), listening.set)
        serving = asyncio.create_task(server._serve([listener]))  # serve() would take over pytest's signals
        await listening.wait()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{address.port}", verify=False, timeout=None) as probe:
            while (await probe.get("/ready")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0)
        try:
            yield RunningGateway(gateway, engines, address.port, file)
        finally:
            server.should_exit = True
            await serving


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    """Of Anna and Ben, by their names."""
    return {name: accounts.add(tmp_path / "users.json", name) for name in ("anna", "ben")}


@pytest.fixture
async def served(tmp_path: Path, tokens: dict[str, str]) -> AsyncIterator[RunningGateway]:
    async with gateway_served(tmp_path) as gateway:
        yield gateway
