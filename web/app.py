"""The app: pages, API, WebSocket and static files behind one guard."""

from __future__ import annotations

import asyncio
import socket
import tomllib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from web.api.audio.errors import add_refusals
from web.api.audio.queue import Queues
from web.api.audio.routes import FORMS, FRAME_BYTES, audio_api, larger_bodies
from web.api.doctor import doctor_api
from web.api.export import export_api
from web.api.http import add_problems
from web.api.memory import MAX_IMPORT, memory_api
from web.api.metrics import metrics_api
from web.api.models import models_api
from web.api.settings import api, settings_file_api
from web.api.sound import sound_api
from web.api.teaching import RECORDING_BYTES, RECORDINGS, teaching_api
from web.api.tools import tools_api
from web.api.voices import MAX_UPLOAD, voices_api
from web.certificate import Certificate
from web.forwarded import Forwarded, Network
from web.guard import Address, Guard
from web.metrics.history import History
from web.metrics.readings import Readings, read
from web.metrics.traces import Traces
from web.network import media_addresses
from web.pages import pages
from web.phone import addresses, phone
from web.realtime.client_secrets import ClientSecrets, client_secrets
from web.realtime.connection import realtime
from web.realtime.session import MAX_CONVERSATIONS
from web.realtime.webrtc.routes import CALLS, Calls, webrtc
from web.service import Service
from web.summarizing import Summarizer
from web.voices import Voices
from web.wyoming.server import WyomingServer

STATIC = Path(__file__).parent / "static"
LARGER_BODIES = {"/api/memory/import": lambda: MAX_IMPORT, "/api/voice/references": lambda: MAX_UPLOAD,
                 RECORDINGS: lambda: RECORDING_BYTES + FRAME_BYTES}  # fmt: skip
VERSION: str = tomllib.loads((STATIC.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def create_app(
    service: Service,
    address: Address,
    wyoming: socket.socket | None = None,
    certificate: Certificate | None = None,
    proxies: Iterable[Network] = (),
    traces: Traces | None = None,
) -> FastAPI:
    """The engines are begun by whoever serves the app, once it listens, and stopped with it.

    Args:
        wyoming: listens for Wyoming's clients; None where none are wanted.
        certificate: what it is served with by https; None where it is not.
        proxies: whose word of a client is believed.
        traces: told of each turn; closed with the app.
    """
    metrics = service.metrics
    voices, queues, secrets = Voices(service.data), Queues(metrics.refused), ClientSecrets()
    calls = Calls(service, partial(media_addresses, address.host))
    reading = partial(read, service.engines, queues.by_kind, MAX_CONVERSATIONS)
    metrics.registry.register(Readings(reading))
    history = History(metrics, reading)
    if traces is not None:
        metrics.watchers.append(traces.turn)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        beside = [asyncio.create_task(service.turns.write()), asyncio.create_task(history.follow())]
        summarizing = asyncio.create_task(Summarizer(service).run())
        clients = WyomingServer(service, voices, queues)
        if wyoming is not None:
            await clients.start(wyoming)
        try:
            yield
        finally:
            await clients.stop()
            await calls.end()
            summarizing.cancel()
            await asyncio.gather(summarizing, return_exceptions=True)
            await service.end()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            if traces is not None:
                await asyncio.to_thread(traces.close)

    # No generated documentation pages: they load scripts from a foreign host.
    app = FastAPI(title="Parley", version=VERSION, lifespan=lifespan, openapi_url=None)
    elsewhere = partial(addresses, address)
    app.include_router(pages(service, version=VERSION, token_needed=address.token is not None, elsewhere=elsewhere))
    routers = (
        api, settings_file_api, memory_api, export_api, models_api, doctor_api, voices_api, sound_api,
        teaching_api, tools_api,
    )  # fmt: skip
    for router in routers:
        app.include_router(router(service))
    app.include_router(metrics_api(metrics, history))
    app.include_router(phone(address, certificate))
    app.include_router(audio_api(service, voices, queues))
    app.include_router(realtime(service, secrets))
    app.include_router(client_secrets(service, secrets))
    app.include_router(webrtc(calls, secrets))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    add_problems(app)
    add_refusals(app)
    bounds = {**LARGER_BODIES, **larger_bodies(service)}
    forms = (*FORMS, CALLS, RECORDINGS)
    app.add_middleware(Guard, address=address, larger_bodies=bounds, forms=forms, opens=secrets.opens,
                       refused=metrics.refused)  # fmt: skip
    app.add_middleware(Forwarded, proxies=proxies)
    return app
