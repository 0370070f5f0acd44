"""Parley's own measurements: `/metrics` for Prometheus, and the last hour for the Activity page."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client.exposition import choose_encoder

from web.metrics.history import PastHour
from web.metrics.metrics import Metrics

METRICS = "/metrics"


def figures(metrics: Metrics) -> APIRouter:
    router = APIRouter()

    @router.get(METRICS)
    async def exported(request: Request) -> Response:
        """All metrics, in Prometheus' text format, or in OpenMetrics if the request asks for it."""
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), headers={"Content-Type": media_type})

    return router


def metrics_api(metrics: Metrics, history: PastHour) -> APIRouter:
    router = figures(metrics)

    @router.get("/api/activity")
    async def activity() -> dict[str, Any]:
        """The last hour in bins of half a minute, oldest first, and the current state."""
        return history.told()

    return router
