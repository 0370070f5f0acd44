"""A client of the protocol, whose session is there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.web.conftest import Running
from tests.web.realtime.wire import Client


@pytest.fixture
async def client(running: Running) -> AsyncIterator[Client]:
    async with running.connect() as socket:
        client = Client(socket)
        await client.the("session.created")
        yield client
