"""Engines that tests start: one for a test, or one that the tests of a module share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from pipeline.engine import Engine

E = TypeVar("E", bound=Engine)

IN_ONE_LOOP = pytest.mark.asyncio(loop_scope="module")
"""A test with an engine that the module's tests share."""


@asynccontextmanager
async def started(engine: E) -> AsyncIterator[E]:
    """Loaded; at the end of the block it is stopped."""
    await engine.start(lambda progress: None)
    try:
        yield engine
    finally:
        await engine.stop()


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
