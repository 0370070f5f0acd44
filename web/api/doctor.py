"""The doctor behind the page's button: tries the running engines, and sends each verdict as it is found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any, cast

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from pipeline.doctor import WORDS, Finding, Step, examine
from web.api.http import Problem
from web.service import Service

CALLED_OFF_S = 2.0
"""Seconds for a check that is being cancelled to end, before another one is refused."""


def doctor_api(service: Service) -> APIRouter:
    router = APIRouter()
    examining = asyncio.Lock()

    @router.post("/api/doctor")
    async def examined() -> StreamingResponse:
        """Run the checks, as JSON lines; for each check in turn: {"begun": {…}}, any number of {"working": {…}},
        {"finding": {…}}.

        Closing the connection cancels the checks.
        """
        try:
            async with asyncio.timeout(CALLED_OFF_S), examining:
                pass
        except TimeoutError:
            raise Problem(409, "The check is already running in another window: wait until it is finished.") from None
        return _Streamed(lines(), media_type="application/jsonl")

    async def lines() -> AsyncGenerator[str, None]:
        steps = examine(service.engines, service.settings, service.data, talking=lambda: service.conversations > 0)
        async with examining, aclosing(steps):
            async for step in steps:
                yield json.dumps({type(step).__name__.lower(): _as_data(step)}) + "\n"

    return router


class _Streamed(StreamingResponse):
    """Closes its lines with itself, even if the client disconnects while one is being sent: otherwise whatever the
    doctor had stopped would stay stopped until garbage collection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(cast(AsyncGenerator[str, None], self.body_iterator)):
            await super().__call__(scope, receive, send)


def _as_data(step: Step) -> dict[str, Any]:
    """Return the step with its verdict in words, the same as in the terminal."""
    return asdict(step) | ({"word": WORDS[step.grade]} if isinstance(step, Finding) else {})
