"""What this machine can run, which models it has, and downloading the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from config.engines import Stage, fetches, named
from config.hardware import Hardware, look
from config.models import MODELS, Model, is_downloaded, licence, room_for, verdict
from config.profiles import PROFILES, Proposal, propose
from config.settings import Settings
from pipeline.llm.openai import OpenAIChat
from web.api.downloads import Downloads
from web.api.http import Problem, checked, json_object
from web.changes import NO_ADDRESS, NO_KEY, NO_MODEL, fits_a_header, is_address, is_model_name, not_installed
from web.service import Service

STARTERS = {
    (stage, choice.engine, named(stage, choice.engine, choice.model))
    for name in ("offline", "small")
    for stage, choice in PROFILES[name].choices
}
"""What a first start chooses by itself, as stage, engine and model."""
MODELS_S = 20.0
"""Seconds for a server's complete list of models."""


class WantedModel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    stage: Stage
    engine: Annotated[str, Field(max_length=40)]
    model: Annotated[str, Field(max_length=300)] = ""


class DownloadOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")
    models: Annotated[list[WantedModel], Field(min_length=1, max_length=10)]
    token: Annotated[str, Field(max_length=300)] = ""


class ServerToAsk(BaseModel):
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
        """This computer, the models with a verdict on each, and the proposed profile."""
        return await asyncio.to_thread(_described, service.settings)

    @router.get("/api/downloads")
    async def progress() -> dict[str, Any]:
        """The progress of the download."""
        return asdict(downloads.status)

    @router.post("/api/downloads")
    async def download(request: Request) -> dict[str, Any]:
        """Download models; GET returns the progress. A token is stored where the hub's library looks, with mode 600."""
        order = checked(DownloadOrder, await json_object(request))
        if not all(is_model_name(name) for each in order.models for name in (each.engine, each.model)):
            raise Problem(422, NO_MODEL, "models")
        if not any(fetches(each.stage, each.engine, each.model) for each in order.models):
            raise Problem(422, "This choice needs no download.", "models")
        downloads.begin([f"{each.stage}:{each.engine}:{each.model}" for each in order.models], order.token.strip())
        return asdict(downloads.status)

    @router.delete("/api/downloads")
    async def stop() -> dict[str, Any]:
        """Stop the download; what has arrived is kept."""
        await downloads.stop()
        return asdict(downloads.status)

    @router.post("/api/mind/models")
    async def offered(request: Request) -> dict[str, Any]:
        """Ask a language model's server for its models. The stored key is sent only to the address it belongs to."""
        server = checked(ServerToAsk, await json_object(request))
        if not is_address(server.url):
            raise Problem(422, NO_ADDRESS, "url")
        if not fits_a_header(server.api_key):
            raise Problem(422, NO_KEY, "api_key")
        mind = service.settings.mind
        key = server.api_key or (mind.api_key.get_secret_value() if server.url == mind.url else "")
        chat = OpenAIChat(server.url, "", api_key=key)
        try:
            async with asyncio.timeout(MODELS_S):
                return {"models": [str(entry["id"]) for entry in await chat.models()]}
        except TimeoutError:
            raise Problem(503, f"{server.url} did not answer completely within {MODELS_S:.0f} s: restart it.") from None
        finally:
            await chat.stop()

    return router


def _described(settings: Settings) -> dict[str, Any]:
    machine = look()
    rows = [_row(model, machine, settings) for model in MODELS]
    return {
        "hardware": asdict(machine) | {"instructions": sorted(machine.instructions)},
        "models": rows,
        "proposal": _proposed(propose(machine), machine, rows),
    }


def _proposed(proposal: Proposal, machine: Hardware, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the profile as rows of the table by stage, and the size of its downloads."""
    choices = {}
    for stage, choice in proposal.profile.choices:
        name = named(stage, choice.engine, choice.model)
        choices[stage] = next(
            row for row in rows if (row["stage"], row["engine"], row["name"]) == (stage, choice.engine, name)
        )
    to_fetch = sum(row["download_bytes"] for row in choices.values() if not row["here"] and not row["missing"])
    room = room_for(to_fetch, machine)
    return {
        "profile": proposal.profile.name,
        "why": proposal.why,
        "choices": choices,
        "download_bytes": to_fetch,
        "room": room.runs == "well",
        "room_why": room.why,
    }


def _row(model: Model, machine: Hardware, settings: Settings) -> dict[str, Any]:
    judged, room = verdict(model, machine), room_for(model.download_bytes, machine)
    here = is_downloaded(model)
    return {
        "stage": model.stage,
        "engine": model.engine,
        "name": model.name,
        "starter": (model.stage, model.engine, model.name) in STARTERS,
        "default": model.name == named(model.stage, model.engine, ""),
        "label": model.label,
        "line": model.line,
        "licence": licence(model),
        "download_bytes": model.download_bytes,
        "runs": judged.runs,
        "why": judged.why,
        "here": here,
        "missing": _missing(model.engine, settings),
        "room": here or room.runs == "well",
        "room_why": room.why,
    }


def _missing(engine: str, settings: Settings) -> str | None:
    """Return what else an engine needs before it can be chosen, in one sentence."""
    if engine == "openai" and not settings.mind.url:
        return "Enter its address, or choose another."
    return not_installed(engine)
