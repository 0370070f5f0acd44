"""The settings as a file: taken along to another machine, and brought back."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from config import Settings
from pipeline.engine import EngineError
from web.api import check_engines, keep_key, told
from web.http import Problem, checked, json_object
from web.service import Service, public_settings


def settings_api(service: Service) -> APIRouter:
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
