"""Servers of tools that mean harm: what they send is bounded, and none of it stops the loop on which everyone talks."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from config.settings import ToolServer, ToolSettings
from pipeline.llm.tool_use import specified
from pipeline.tools import answers, mcp
from pipeline.tools.calls import Tool, ToolCall
from pipeline.tools.checked import BadCall, checked
from pipeline.tools.mcp import McpServer
from pipeline.tools.owner import OwnerTools
from pipeline.tools.toolbox import ToolFailed
from tests.support import hostile_mcp

pytestmark = pytest.mark.timeout(60)

SCRIPT = str(Path(hostile_mcp.__file__))
TOO_MUCH = "hostile sent more than 4 MB at once"


@asynccontextmanager
async def hostile(manner: str) -> AsyncIterator[tuple[OwnerTools, McpServer]]:
    """By pipes."""
    given = ToolServer(name="hostile", command=sys.executable, args=[SCRIPT, manner])
    owner = OwnerTools([], ToolSettings(servers=[given]))
    owner.begin()
    server = owner.servers["hostile"]
    try:
        await server.tried()
        yield owner, server
    finally:
        await owner.close()
    assert not [each for each in psutil.Process().children(recursive=True) if SCRIPT in each.cmdline()]


async def call(owner: OwnerTools) -> str:
    return await owner.call(ToolCall("1", "do", "{}", own=True), "talk")


async def test_a_pattern_of_the_servers_own_is_not_run() -> None:
    async with hostile("pattern") as (owner, _):
        assert await call(owner) == "ok"


async def test_a_list_of_600_megabytes() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with hostile("list") as (_, server):
        assert server.state == "failed"
        assert server.error.startswith(TOO_MUCH)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


async def test_an_answer_of_600_megabytes_ends_it_and_it_is_started_again() -> None:
    async with hostile("answer") as (owner, server):
        with pytest.raises(ToolFailed, match=TOO_MUCH):
            await call(owner)
        await server.tried()
        assert server.state == "ready"


async def test_what_nobody_asked_for_is_not_listened_to_for_ever() -> None:
    async with hostile("chatter") as (owner, server):
        assert await call(owner) == "ok"
        await asyncio.wait_for(server._died.wait(), 50)
        assert server._allowance.exceeded


async def test_pages_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp, "MOST_TOOLS", 3)
    async with hostile("pages") as (owner, server):
        assert (server.state, server.listed) == ("ready", 30)
        assert await call(owner) == "ok"


async def test_a_result_of_very_many_parts() -> None:
    async with hostile("parts") as (owner, _):
        assert await call(owner) == "\n".join("x" * answers.MOST_PARTS)


async def test_half_characters_and_what_is_no_text() -> None:
    async with hostile("half") as (owner, _):
        assert await call(owner) == "a\N{REPLACEMENT CHARACTER}b"
        assert json.dumps(specified(owner.tools()), ensure_ascii=False).encode()
    async with hostile("bytes") as (owner, _):
        assert await call(owner) == "ok"


async def test_schemas_that_servers_of_language_models_would_refuse() -> None:
    async with hostile("odd") as (owner, server):
        assert (server.state, server.listed) == ("ready", 4)
        (tool,) = owner.tools()
        assert (tool.name, dict(tool.parameters)) == ("do", {"type": "object"})
    async with hostile("nonsense") as (_, server):
        assert server.error.startswith("hostile does not speak MCP correctly")
    async with hostile("deep") as (owner, server):
        assert server.state == "ready", server.error
        assert await call(owner) == "ok"


async def test_one_that_never_answers_keeps_nobody_from_ending_it() -> None:
    async with hostile("silent") as (owner, server):
        waiting = asyncio.create_task(call(owner))
        await asyncio.sleep(0)
        await server.close()
        with pytest.raises(ToolFailed):
            await waiting


@pytest.mark.parametrize("required", [5, "name", {"name": 1}, [None, "name"]])
def test_a_clients_schema_that_requires_nonsense(required: object) -> None:
    tool = Tool("do", parameters={"required": required})
    with suppress(BadCall):
        checked(ToolCall("1", "do", "{}"), [tool])


# --- by HTTP ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(body: bytes, *headers: str) -> AsyncIterator[McpServer]:
    """Whatever is asked is answered so."""
    asked = list[bytes]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            head = "\r\n".join(["HTTP/1.1 200 OK", "Connection: close", *headers, "", ""])
            writer.write(head.encode())
            for _ in range(20):
                writer.write(body)
                await writer.drain()
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    server = McpServer(ToolServer(name="hostile", url=f"http://127.0.0.1:{port}/mcp"))
    try:
        await server.tried()
        assert b"accept-encoding: identity" in asked[0].lower()
        yield server
    finally:
        await server.close()
        listening.close()


JSON, EVENTS = "Content-Type: application/json", "Content-Type: text/event-stream"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b" " * hostile_mcp.MILLION, [JSON]),
        (b"data: " + b"x" * hostile_mcp.MILLION, [EVENTS]),
        (
            b'data: {"jsonrpc": "2.0", "method": "notifications/x", "params": {"x": "%s"}}\n\n' % (b"x" * 10_000) * 100,
            [EVENTS],
        ),
    ],
    ids=["an answer", "an event", "events"],
)
async def test_more_than_was_asked_for(body: bytes, headers: list[str]) -> None:
    async with answering(body, *headers) as server:
        assert server.state == "failed"
        assert server.error.startswith(TOO_MUCH)


async def test_what_is_packed_is_not_unpacked() -> None:
    async with answering(gzip.compress(bytes(100 * hostile_mcp.MILLION), 1), JSON, "Content-Encoding: gzip") as server:
        assert server.state == "failed"
        assert server.error.endswith(".")
