"""The doctor as a button: the running engines are tried, and each verdict is sent as it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from pipeline.doctor import Finding, examine
from web.http import Problem
from web.service import Service


def doctor_api(service: Service) -> APIRouter:
    router = APIRouter()
    examining = asyncio.Lock()

    @router.post("/api/doctor")
    async def examined() -> StreamingResponse:
        """JSON lines: {"begun": {check, title}} and {"finding": {…}} for each check in turn."""
        if examining.locked():
            raise Problem(409, "The check is under way in another window: wait for its end.")
        return StreamingResponse(lines(), media_type="application/jsonl")

    async def lines() -> AsyncIterator[str]:
        async with examining, aclosing(examine(service.engines, service.settings, service.data)) as steps:
            async for step in steps:
                kind = "finding" if isinstance(step, Finding) else "begun"
                yield json.dumps({kind: asdict(step)}) + "\n"

    return router
