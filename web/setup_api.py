"""All that the setup page asks for beside the settings themselves."""

from __future__ import annotations

from fastapi import APIRouter

from web.doctor_api import doctor_api
from web.models_api import models_api
from web.service import Service
from web.settings_api import settings_api
from web.voices_api import MAX_UPLOAD, voices_api

LARGER_BODIES = {"/api/voice/references": MAX_UPLOAD}


def setup_api(service: Service) -> APIRouter:
    router = APIRouter()
    for part in (models_api, doctor_api, settings_api, voices_api):
        router.include_router(part(service))
    return router
