"""The HTTP API of the pages: health, settings, engines, records, notices. Memory and sound have their own files."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from config import Settings
from config.engines import CATALOGUE
from config.profiles import PROFILES
from pipeline.engine import EngineError
from web.api.http import checked, json_object
from web.changes import STAGES, keep_cluster_key, keep_key, keep_tool_keys, merged, switch_off_strange_tools
from web.service import Service, public_settings


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
        """The settings without the API key, whether there is a key, and the defaults."""
        return told(service.settings)

    @router.put("/api/settings")
    async def change(request: Request) -> dict[str, Any]:
        """Change any branch of the tree; what you leave out stays. Applied without a restart, and saved once it
        works."""
        changes = await json_object(request)

        def edit(old: Settings) -> Settings:
            new = checked(Settings, merged(old.model_dump(mode="json"), changes))
            if "api_key" not in changes.get("mind", {}):
                keep_key(old, new)
            if "key" not in changes.get("cluster", {}):
                keep_cluster_key(old, new)
            keep_tool_keys(old, new)
            return new

        applied = await service.change(edit)
        return {**told(service.settings), "applied": applied}

    @router.get("/api/engines")
    async def engines() -> dict[str, Any]:
        """The engines of each stage, the voices of the running one, and the profiles."""
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
        """The latest records, newest first, and the median of each step since the end of speech, in seconds."""
        records = [record.as_dict() for record in service.turns.last(limit)]
        return {"turns": records, "medians": service.turns.medians()}

    @router.get("/api/notices")
    async def notices() -> dict[str, Any]:
        """What the user should know, for instance that the settings file was damaged."""
        return {"notices": [asdict(notice) for notice in service.notices]}

    return router


def settings_file_api(service: Service) -> APIRouter:
    """Export the settings to a file, and import them, for instance on another machine."""
    router = APIRouter()

    @router.get("/api/settings/export")
    async def export(key: Annotated[bool, Query()] = False) -> Response:
        """All settings, as JSON; keys only if `key` is true. Recordings of voices are not included."""
        tree = service.settings.model_dump(mode="json") if key else public_settings(service.settings)
        headers = {"Content-Disposition": 'attachment; filename="parley-settings.json"'}
        return Response(json.dumps(tree, indent=2) + "\n", media_type="application/json", headers=headers)

    @router.post("/api/settings/import")
    async def bring_back(request: Request) -> dict[str, Any]:
        """Settings as exported. What the file leaves out becomes the default, except the key of the same server.

        Servers of tools that were not there before are switched off.
        """
        tree = await json_object(request)
        brought = checked(Settings, tree)
        voices = service.data / "voices"
        missing = [each.recording for each in brought.voice.references if not (voices / each.recording).is_file()]

        def edit(old: Settings) -> Settings:
            new = brought.model_copy(deep=True)
            if "api_key" not in tree.get("mind", {}):
                keep_key(old, new)
            if "key" not in tree.get("cluster", {}):
                keep_cluster_key(old, new)
            keep_tool_keys(old, new)
            switch_off_strange_tools(old, new)
            new.set_up = new.set_up or old.set_up
            new.voice.references = [each for each in new.voice.references if each.recording not in missing]
            return new

        applied = await service.change(edit)
        return {**told(service.settings), "applied": applied, "missing_recordings": missing}

    return router


def told(settings: Settings) -> dict[str, Any]:
    return {
        "settings": public_settings(settings),
        "api_key_set": bool(settings.mind.api_key.get_secret_value()),
        "defaults": public_settings(Settings()),
    }
