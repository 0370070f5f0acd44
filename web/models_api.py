"""What this machine can run, which models are here, and fetching those that are not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from config.cache import is_here
from config.hardware import Hardware, look
from config.models import MODELS, Stage, fetches, find, room_for, verdict
from config.profiles import Choice, propose
from pipeline.catalogue import CATALOGUE
from pipeline.llm.openai import OpenAIChat
from pipeline.offers import offered
from web.downloads import Downloads
from web.http import Problem, checked, json_object
from web.service import Service


class Wanted(BaseModel):
    model_config = ConfigDict(extra="forbid")
    stage: Stage
    engine: Annotated[str, Field(max_length=40)]
    model: Annotated[str, Field(max_length=300)] = ""
    token: Annotated[str, Field(max_length=300)] = ""


class Server(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: Annotated[str, Field(max_length=500)]
    api_key: Annotated[str, Field(max_length=500)] = ""


def models_api(service: Service) -> APIRouter:
    downloads = Downloads()

    @asynccontextmanager
    async def until_the_end(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await downloads.stop()

    router = APIRouter(lifespan=until_the_end)

    @router.get("/api/hardware")
    async def hardware() -> dict[str, Any]:
        """The machine, the models with a verdict on each, and the profile that is proposed."""
        return await asyncio.to_thread(_described)

    @router.get("/api/downloads")
    async def progress() -> dict[str, Any]:
        return asdict(downloads.status)

    @router.post("/api/downloads")
    async def download(request: Request) -> dict[str, Any]:
        """Fetch one model; GET tells how far it has come. A token is kept where the hub's library looks, mode 600."""
        wanted = checked(Wanted, await json_object(request))
        if not fetches(wanted.stage, wanted.engine, wanted.model):
            raise Problem(422, "This choice needs no download.", "model")
        downloads.begin([f"{wanted.stage}:{wanted.engine}:{wanted.model}"], wanted.token.strip())
        return asdict(downloads.status)

    @router.delete("/api/downloads")
    async def stop() -> dict[str, Any]:
        """Stop; what has come is kept."""
        await downloads.stop()
        return asdict(downloads.status)

    @router.post("/api/mind/models")
    async def offered(request: Request) -> dict[str, Any]:
        """Ask a language model's server what it has. The kept key is shown only to the address it was kept for."""
        server = checked(Server, await json_object(request))
        mind = service.settings.mind
        key = server.api_key or (mind.api_key.get_secret_value() if server.url == mind.url else "")
        chat = OpenAIChat(server.url, "", api_key=key)
        try:
            return {"models": [str(entry["id"]) for entry in await chat.models()]}
        finally:
            await chat.stop()

    return router


def _described() -> dict[str, Any]:
    machine = look()
    proposal = propose(machine)
    return {
        "hardware": asdict(machine) | {"instructions": sorted(machine.instructions)},
        "models": [_row(machine, number) for number in range(len(MODELS))],
        "proposal": {
            "profile": proposal.profile.name,
            "why": proposal.why,
            "available": offered(proposal.profile),
            "choices": {stage: _choice(stage, choice) for stage, choice in proposal.profile.choices},
        },
    }


def _row(machine: Hardware, number: int) -> dict[str, Any]:
    model = MODELS[number]
    judged, room = verdict(model, machine), room_for(model.download_bytes, machine)
    here = bool(model.fetches) and all(is_here(fetch) for fetch in model.fetches)
    return {
        "stage": model.stage,
        "engine": model.engine,
        "name": model.name,
        "label": model.label,
        "line": model.line,
        "download_bytes": model.download_bytes,
        "runs": judged.runs,
        "why": judged.why,
        "here": here,
        "offered": (model.stage, model.engine) in CATALOGUE,
        "room": here or room.runs == "well",
        "room_why": room.why,
    }


def _choice(stage: Stage, choice: Choice) -> dict[str, str]:
    model = find(stage, choice.engine, choice.model)
    return {"engine": choice.engine, "model": choice.model, "label": model.label if model else choice.engine}
