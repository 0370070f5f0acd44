"""The HTTP API of the pages: health, settings, engines, records, notices. Memory and sound have files of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import SecretStr

from config import Settings
from config.cache import is_here
from config.engines import CATALOGUE, Stage, fetches
from config.profiles import PROFILES
from pipeline.engine import EngineError
from web.api.http import Problem, checked, json_object
from web.service import Service, public_settings

STAGES: tuple[Stage, ...] = ("ears", "mind", "voice")


def api(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    async def health() -> dict[str, Any]:
        """`ok` only when every stage is ready."""
        engines = {stage: asdict(status) for stage, status in service.engines.health().items()}
        ready = all(status["state"] == "ready" for status in engines.values())
        reloading = {stage: asdict(status) for stage, status in service.engines.reloading().items()}
        return {"ok": ready, "engines": engines, "reloading": reloading, "conversations": service.conversations}

    @router.get("/api/settings")
    async def settings() -> dict[str, Any]:
        return told(service.settings)

    @router.put("/api/settings")
    async def change(request: Request) -> dict[str, Any]:
        """Any branch of the tree; what is left out stays. Saved, then applied without a restart."""
        changes = await json_object(request)
        old = service.settings.model_dump(mode="json")
        new = checked(Settings, merged(old, changes))
        if "api_key" not in changes.get("mind", {}):
            keep_key(service.settings, new)
        check_engines(new)
        await asyncio.to_thread(check_models, service.settings, new)
        try:
            applied = await service.change(new)
        except EngineError as error:
            raise Problem(409, f"The settings were not changed: {error}") from error
        return {**told(service.settings), "applied": applied}

    @router.get("/api/engines")
    async def engines() -> dict[str, Any]:
        """What can be chosen for each stage, the running voice engine's voices, and profiles that choose for all."""
        specs = CATALOGUE.values()
        voices = []
        with suppress(EngineError):  # none to choose from while the voice is loading
            voices = [asdict(voice) for voice in await service.engines.voices()]
        return {
            "voices": voices,
            "stages": {
                stage: [
                    {
                        "name": spec.name,
                        "label": spec.label,
                        "line": spec.line,
                        "downloads": spec.downloads,
                        "model": spec.model,
                    }
                    for spec in specs
                    if spec.stage == stage
                ]
                for stage in STAGES
            },
            "profiles": [asdict(profile) for profile in PROFILES.values()],
        }

    @router.get("/api/turns")
    async def turns(limit: Annotated[int, Query(ge=1, le=200)] = 20) -> dict[str, Any]:
        """The last records, newest first, and the median of each mark since the end of speech, in seconds."""
        records = [record.as_dict() for record in service.turns.last(limit)]
        return {"turns": records, "medians": service.turns.medians()}

    @router.get("/api/notices")
    async def notices() -> dict[str, Any]:
        return {"notices": [asdict(notice) for notice in service.notices]}

    return router


def settings_file_api(service: Service) -> APIRouter:
    """The settings as a file: taken along to another machine, and brought back."""
    router = APIRouter()

    @router.get("/api/settings/export")
    async def export(key: Annotated[bool, Query()] = False) -> Response:
        """All but the language model server's key, unless that is asked for too. Recordings stay where they are."""
        tree = service.settings.model_dump(mode="json") if key else public_settings(service.settings)
        headers = {"Content-Disposition": 'attachment; filename="parley-settings.json"'}
        return Response(json.dumps(tree, indent=2) + "\n", media_type="application/json", headers=headers)

    @router.post("/api/settings/import")
    async def bring_back(request: Request) -> dict[str, Any]:
        """A tree as export gives it; what it leaves out becomes the default, but for the key of the same server."""
        tree = await json_object(request)
        new = checked(Settings, tree)
        if "api_key" not in tree.get("mind", {}):
            keep_key(service.settings, new)
        new.set_up = new.set_up or service.settings.set_up
        missing = [
            each.recording for each in new.voice.references if not (service.data / "voices" / each.recording).is_file()
        ]
        new.voice.references = [each for each in new.voice.references if each.recording not in missing]
        check_engines(new)
        try:
            applied = await service.change(new)
        except EngineError as error:
            raise Problem(409, f"The settings were not brought back: {error}") from error
        return {**told(service.settings), "applied": applied, "missing_recordings": missing}

    return router


def merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`tree` with the branches that `changes` names replaced; lists are replaced whole."""
    result = dict(tree)
    for name, value in changes.items():
        old = result.get(name)
        result[name] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def told(settings: Settings) -> dict[str, Any]:
    return {
        "settings": public_settings(settings),
        "api_key_set": bool(settings.mind.api_key.get_secret_value()),
        "defaults": public_settings(Settings()),
    }


def keep_key(old: Settings, new: Settings) -> None:
    """The key stays with the server that it was entered for: at another address it is forgotten."""
    same = not old.mind.url or _server(old.mind.url) == _server(new.mind.url)
    new.mind.api_key = old.mind.api_key if same else SecretStr("")


def _server(url: str) -> tuple[str, str]:
    try:
        return urlsplit(url)[:2]
    except ValueError:
        return "", url


def check_models(old: Settings, new: Settings) -> None:
    """Nothing is fetched behind the user's back: a choice is taken once its model is here."""
    for stage in STAGES:
        choice = getattr(new, stage)
        if (choice.engine, choice.model) == (getattr(old, stage).engine, getattr(old, stage).model):
            continue
        for fetch in fetches(stage, choice.engine, choice.model):
            if not is_here(fetch):
                raise Problem(
                    409,
                    f"{fetch.repository} is not on this computer yet: fetch it first.",
                    f"{stage}.engine",
                    lacking={"stage": stage, "engine": choice.engine, "model": choice.model},
                )


def check_engines(settings: Settings) -> None:
    """The tree takes any name; only those of the catalogue can be started."""
    for stage in STAGES:
        name = getattr(settings, stage).engine
        if (stage, name) not in CATALOGUE:
            known = ", ".join(spec.name for spec in CATALOGUE.values() if spec.stage == stage)
            raise Problem(
                422, f"There is no engine {name!r} for this stage; choose one of: {known}.", f"{stage}.engine"
            )
