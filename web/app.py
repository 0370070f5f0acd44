"""The app: pages, API, WebSocket and static files behind one guard."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from web.api import api
from web.export import export_api
from web.guard import Address, Guard
from web.http import add_problems
from web.memory_api import MAX_IMPORT, memory_api
from web.pages import pages
from web.realtime import realtime
from web.service import Service
from web.setup_api import LARGER_BODIES, setup_api
from web.sound_api import sound_api

STATIC = Path(__file__).parent / "static"
VERSION: str = tomllib.loads((STATIC.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def create_app(service: Service, address: Address) -> FastAPI:
    """The engines are begun by whoever serves the app, once it listens, and stopped with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        writing = asyncio.create_task(service.turns.write())
        try:
            yield
        finally:
            await service.end()
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    # No generated documentation pages: they load scripts from a foreign host.
    app = FastAPI(title="Parley", version=VERSION, lifespan=lifespan, openapi_url=None)
    app.include_router(pages(service, version=VERSION, token_needed=address.token is not None))
    app.include_router(api(service))
    app.include_router(memory_api(service))
    app.include_router(export_api(service))
    app.include_router(setup_api(service))
    app.include_router(sound_api(service))
    app.include_router(realtime(service))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    add_problems(app)
    app.add_middleware(Guard, address=address, larger_bodies={"/api/memory/import": MAX_IMPORT, **LARGER_BODIES})
    return app
