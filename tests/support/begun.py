"""Engines that are used while they still load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from pipeline.engine import Engine

E = TypeVar("E", bound=Engine)


@asynccontextmanager
async def begun(engine: E) -> AsyncIterator[E]:
    """Its start has begun, and goes on behind the block; at its end it is stopped."""
    starting = asyncio.create_task(engine.start(lambda progress: None))
    while engine.status.state == "stopped":  # noqa: ASYNC110  # nothing tells of that
        await asyncio.sleep(0)
    try:
        yield engine
    finally:
        await engine.stop()
        await asyncio.gather(starting, return_exceptions=True)
