"""Serve a gateway: `python3 main.py gateway`."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from starlette.routing import Router
from starlette.types import ASGIApp, Lifespan

from config import Settings, SettingsError
from config.console import closing_ends
from config.nvidia import one_card
from config.personal import lendable
from config.text import printable
from pipeline.engine import EngineError, Progress
from pipeline.engines.memories import Memories
from pipeline.engines.running import Engines
from rag import ChromaServer
from web import logs
from web.address import Address
from web.app import BODIES, VERSION, bounds
from web.drain import LONGEST_S, drain
from web.forwarded import Forwarded, Network
from web.gateway.accounts import FILE_NAME, Accounts, AccountsError
from web.gateway.gateway import Gateway, NamedByProxy
from web.gateway.limits import Limits
from web.gateway.user import Lender
from web.guard import Guard
from web.metrics.traces import NoCollector, Traces, sent
from web.places import Places, of_this_machine
from web.preconditions import ServeError, data_folder, listen
from web.probes import Probes, unready
from web.serve import Server, access_token, believed, listed, load_settings, server_config

USERS, GATEWAYS = "users", "gateways"
"""Folders in the data folder: of the users' data, and of the gateways' logs."""
LOOK_EVERY_S = 1.0
"""Seconds between two looks at the administrator's file of users."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    host: str = "127.0.0.1"
    port: int = 8000
    data: Path = Path("data")
    """May be shared by several gateways."""
    profile: str | None = None
    """Use this profile's engines; None is what the settings in the data folder say."""
    accounts: Path | None = None
    """The file of users; None is users.json in the data folder."""
    header: str | None = None
    """The header in which a proxy names the user; None if users only bring tokens."""
    most: int | None = None
    """Conversations at once; None is as many as this machine can hold."""
    limits: Limits = field(default_factory=Limits)
    """What one user may have at once."""
    drain_s: float = LONGEST_S
    """How long conversations may go on after a SIGTERM."""
    origins: tuple[str, ...] = ()
    public: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    otlp: str | None = None
    """A collector that receives the timings of everyone's turns; None sends nothing."""


def serve_gateway(options: GatewayOptions) -> int:
    """Serve until Ctrl-C, or until the drain after a SIGTERM is over; returns the exit status."""
    os.umask(0o077)
    try:
        if options.header is not None and not options.proxies:
            raise ServeError(
                f"Anyone could claim to be any user with {options.header}: name the trusted proxy with --proxy ADDRESS."
            )
        with ExitStack() as opened:
            listener = opened.enter_context(listen(options.host, options.port))
            data = data_folder(options.data)
            port = listener.getsockname()[1]
            traces = None if options.otlp is None else Traces(options.otlp, VERSION)
            settings, _, notice = load_settings(data, options.profile)
            file = options.accounts or data / FILE_NAME
            accounts = Accounts.read(file)
            folder = data / GATEWAYS / f"{socket.gethostname()}-{port}"
            folder.mkdir(parents=True, exist_ok=True)
            logs.configure(folder, level=settings.log.level, words=False)
            if notice is not None:
                logger.warning("%s", notice)
            os.environ.update(one_card())
            address = Address(
                options.host, port, origins=frozenset(listed(options.origins)), public=listed(options.public)
            )
            memories = Memories(settings.memory.embedding)
            lent = lender(settings, data, memories, address, options.most, options.limits)
            gateway = Gateway(lent, data / USERS, accounts, access_token(data))
            app = around(gateway, address, believed(options.proxies), options.header, running(gateway, file, traces))
            server = Server(
                server_config(app),
                lambda: _welcome(address, options, accounts),
                drain=partial(drain, gateway.lender.places, gateway.dismiss, options.drain_s),
            )
            with closing_ends(server.end):
                asyncio.run(server.serve(sockets=[listener]))
    except (ServeError, SettingsError, AccountsError, NoCollector) as error:
        print(f"The gateway cannot start: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # uvicorn raises the signal again once it is done
        pass
    print("The gateway has ended.")
    return 0


def lender(
    settings: Settings, data: Path, memories: Memories, address: Address, most: int | None, limits: Limits
) -> Lender:
    memory = settings.memory
    return Lender(
        Engines(settings, data),
        memories,
        lendable(settings),
        Places(of_this_machine(settings) if most is None else most),
        address.host,
        ChromaServer(memory.chroma_host, memory.chroma_port) if memory.chroma_host else None,
        limits=limits,
    )


def around(
    gateway: Gateway, address: Address, proxies: Iterable[Network], header: str | None, life: Lifespan[Any]
) -> ASGIApp:
    """Return the gateway with the layers before it: probes, the user named by a proxy, the guard."""
    lent = gateway.lender
    app: ASGIApp = Router(default=gateway, redirect_slashes=False, lifespan=life)
    larger = bounds(lambda: lent.settings)
    app = Guard(app, address, larger, BODIES, gateway.opens, refused=lent.metrics.refused, keys=gateway)
    app = NamedByProxy(Forwarded(app, proxies), proxies, header)
    return Probes(app, lambda: unready(lent.engines, lent.places) or lacking(lent.memories))


def lacking(memories: Memories) -> str | None:
    """Return why nothing could be remembered, in one sentence."""
    status = memories.status
    return None if status.state == "ready" else status.last_error or "The memory is not ready yet."


def running(gateway: Gateway, accounts: Path, traces: Traces | None = None) -> Lifespan[Any]:
    """Return the lifespan of everything that runs beside the requests. It closes `traces` at the end."""

    @asynccontextmanager
    async def life(_: object) -> AsyncIterator[None]:
        lent = gateway.lender
        beside = [
            asyncio.create_task(work)
            for work in (_load(lent), gateway.tend(), _follow(gateway, accounts))
        ]  # fmt: skip
        async with sent(traces, lent.metrics):
            try:
                yield
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
                await gateway.end()
                await lent.memories.stop()
                await lent.engines.stop()

    return life


async def _load(lent: Lender) -> None:
    """Load the engines. None stands in for one that fails: this gateway is then not ready, and another is asked."""
    await asyncio.gather(lent.engines.start(without=("memory",)), _open(lent.memories))
    for part, status in lent.engines.health().items():
        if status.state == "failed":
            logger.warning("%s: %s", part, status.last_error)


async def _open(memories: Memories) -> None:
    def report(progress: Progress) -> None:
        logger.info("memory: %s", progress.what)

    try:
        await memories.start(report)
    except EngineError as error:
        logger.warning("memory: %s", error)


async def _follow(gateway: Gateway, file: Path) -> None:
    """Apply changes to the file of users while the gateway runs."""
    seen = await asyncio.to_thread(_stamp, file)
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if (now := await asyncio.to_thread(_stamp, file)) == seen:
            continue
        seen = now
        try:
            accounts = await asyncio.to_thread(Accounts.read, file)
        except AccountsError as error:
            logger.warning("%s Until then, no user is added or removed.", error)
        else:
            await gateway.follow(accounts)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """Return a value that differs once the file has changed; None while there is no file."""
    try:
        about = file.stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


def _welcome(address: Address, options: GatewayOptions, accounts: Accounts) -> None:
    print(f"The gateway is at {address.url}   (Ctrl-C ends it)", flush=True)
    for public in options.public:
        print(f"Users find it at {public}", flush=True)
    if options.header is None and not accounts.digests:
        print("It has no users yet: add one with `python3 main.py users add NAME`.", flush=True)
