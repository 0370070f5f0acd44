"""The app: pages, API, WebSocket and static files behind one guard."""

from __future__ import annotations

import asyncio
import socket
import tomllib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.types import Lifespan

from config import Settings
from web.address import Address
from web.api.audio.errors import add_refusals
from web.api.audio.queue import Queues
from web.api.audio.routes import FORMS, FRAME_BYTES, audio_api, larger_bodies
from web.api.doctor import doctor_api
from web.api.export import export_api
from web.api.http import add_problems
from web.api.memory import MAX_IMPORT, memory_api
from web.api.metrics import metrics_api
from web.api.models import models_api
from web.api.people import PEOPLE, people_api
from web.api.settings import api, settings_file_api
from web.api.sound import sound_api, voice_trial_api
from web.api.teaching import RECORDING_BYTES, RECORDINGS, teaching_api
from web.api.tools import tool_servers_api, tools_api
from web.api.voices import MAX_UPLOAD, voices_api
from web.certificate import Certificate
from web.forwarded import Forwarded, Network
from web.guard import Guard
from web.metrics.history import PastHour
from web.metrics.readings import Readings, read
from web.metrics.traces import Traces, sent
from web.network import media_addresses
from web.pages import ONE_OF_SEVERAL, pages
from web.phone import addresses, phone
from web.places import of_this_machine
from web.probes import Probes, unready
from web.realtime.client_secrets import ClientSecrets, client_secrets
from web.realtime.connection import realtime
from web.realtime.webrtc.routes import CALLS, Calls, webrtc
from web.service import Service
from web.summarizing import Summarizer
from web.trimming import Trimmer
from web.voices import Voices
from web.wyoming.server import WyomingServer

STATIC = Path(__file__).parent / "static"
LARGER_BODIES = {"/api/memory/import": lambda: MAX_IMPORT, "/api/voice/references": lambda: MAX_UPLOAD,
                 PEOPLE: lambda: MAX_UPLOAD, RECORDINGS: lambda: RECORDING_BYTES + FRAME_BYTES}  # fmt: skip
BODIES = (*FORMS, CALLS, RECORDINGS)
"""Paths that take multipart/form-data."""
VERSION: str = tomllib.loads((STATIC.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def create_app(
    service: Service,
    address: Address,
    wyoming: socket.socket | None = None,
    certificate: Certificate | None = None,
    proxies: Iterable[Network] = (),
    traces: Traces | None = None,
) -> FastAPI:
    """Create the app. Its server loads the engines once it listens; they are stopped with the app.

    Args:
        wyoming: listens for Wyoming clients; None if none are wanted.
        certificate: the certificate for https; None without https.
        proxies: the proxies whose statements about clients are trusted.
        traces: receives each turn; closed with the app.
    """
    metrics = service.metrics
    voices, queues, secrets = Voices(service.data), Queues(metrics.refused), ClientSecrets()
    calls = Calls(service, partial(media_addresses, address.host))
    reading = partial(read, service.engines, queues.by_kind, service.places)
    metrics.registry.register(Readings(reading))
    history = PastHour(metrics, reading)

    def sized(settings: Settings) -> None:
        service.places.most = of_this_machine(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        clients = WyomingServer(service, voices, queues)
        if wyoming is not None:
            await clients.start(wyoming)
        following = asyncio.create_task(history.follow())
        try:
            async with sent(traces, metrics), _running(service, calls):
                try:
                    with service.watching(sized):
                        yield
                finally:
                    await clients.stop()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    elsewhere = partial(addresses, address)
    machine = (settings_file_api, models_api, doctor_api, voices_api, sound_api, teaching_api, tool_servers_api,
               people_api)  # fmt: skip
    routers = (
        pages(service, version=VERSION, token_needed=address.token is not None, elsewhere=elsewhere),
        *(router(service) for router in machine),
        metrics_api(metrics, history),
        phone(address, certificate),
        *_of_a_person(service, voices, queues, secrets, calls),
    )
    app = _app(lifespan, routers)
    larger = bounds(lambda: service.settings)
    app.add_middleware(Guard, address=address, larger_bodies=larger, forms=BODIES, opens=secrets.opens,
                       refused=metrics.refused)  # fmt: skip
    app.add_middleware(Forwarded, proxies=proxies)
    app.add_middleware(Probes, unready=lambda: unready(service.engines, service.places))
    return app


def personal_app(service: Service, host: str, queues: Queues, secrets: ClientSecrets) -> FastAPI:
    """Create the app of one of several users, behind a guard that identifies them.

    Args:
        host: what the server was told to listen on.
        queues: those shared by everyone who uses the engines.
        secrets: the keys that this user gives to pages.
    """
    calls = Calls(service, partial(media_addresses, host))
    shown = pages(service, version=VERSION, token_needed=True, shown=ONE_OF_SEVERAL)
    routers = (shown, *_of_a_person(service, Voices(service.data), queues, secrets, calls))
    return _app(lambda _: _running(service, calls), routers)


def bounds(settings: Callable[[], Settings]) -> Mapping[str, Callable[[], int]]:
    """Return the most bytes that may be sent to a path, for paths that take more than others."""
    return {**LARGER_BODIES, **larger_bodies(settings)}


@asynccontextmanager
async def _running(service: Service, calls: Calls) -> AsyncIterator[None]:
    writing = asyncio.create_task(service.turns.write())
    summarizing = asyncio.create_task(Summarizer(service).run())
    trimmer = Trimmer()
    service.talk_watchers.append(trimmer.talk)
    try:
        yield
    finally:
        service.talk_watchers.remove(trimmer.talk)
        trimmer.end()
        await calls.end()
        summarizing.cancel()
        await asyncio.gather(summarizing, return_exceptions=True)
        await service.end()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


def _of_a_person(
    service: Service, voices: Voices, queues: Queues, secrets: ClientSecrets, calls: Calls
) -> tuple[APIRouter, ...]:
    """Return the routers for a user's own conversations, and for other programs that converse."""
    return (
        api(service),
        tools_api(service),
        voice_trial_api(service),
        memory_api(service),
        export_api(service),
        audio_api(service, voices, queues),
        realtime(service, secrets),
        client_secrets(service, secrets),
        webrtc(calls, secrets),
    )


def _app(lifespan: Lifespan[FastAPI], routers: Iterable[APIRouter]) -> FastAPI:
    # No generated documentation pages: they load scripts from a foreign host.
    app = FastAPI(title="Parley", version=VERSION, lifespan=lifespan, openapi_url=None)
    for router in routers:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    add_problems(app)
    add_refusals(app)
    return app
