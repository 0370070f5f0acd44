"""MCP servers of the owner's, good and bad, by the official SDK on both sides."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from config.settings import ToolServer, ToolSettings
from pipeline.llm.tool_use import specified
from pipeline.tools.calls import ToolCall
from pipeline.tools.mcp import McpServer
from pipeline.tools.owner import OwnerTools
from pipeline.tools.toolbox import ROOM, ToolFailed
from tests.support import mcp_server

SCRIPT = str(Path(mcp_server.__file__))


def by_pipes(manner: str = "", name: str = "test", **more: Any) -> ToolServer:
    return ToolServer(name=name, command=sys.executable, args=[SCRIPT, manner], **more)


@asynccontextmanager
async def running(given: ToolServer) -> AsyncIterator[McpServer]:
    server = McpServer(given, sleep=lambda _: asyncio.sleep(0))
    try:
        await server.tried()
        yield server
    finally:
        await server.close()


def children() -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if SCRIPT in " ".join(each.cmdline())]


async def test_by_pipes_its_tools_run_and_its_process_ends_with_it() -> None:
    async with running(by_pipes(env={"SECRET": "a key"})) as server:
        usual = {tool.name: tool.usual for tool in server.tools}
        assert usual == {"add": "allow", "remove": "ask", "secret": "ask", "much": "allow", "fail": "allow"}
        assert await server.call("add", {"a": 1, "b": 2}) == "3"
        assert await server.call("secret", {}) == "a key"
        assert len(await server.call("much", {"size": 1_000_000})) == 1_000_000
        with pytest.raises(ToolFailed, match="Error executing tool fail"):
            await server.call("fail", {})
        with pytest.raises(ToolFailed, match="valid integer"):
            await server.call("add", {"a": "x"})
        assert len(children()) == 1
    assert not children()


async def test_by_http_its_tools_run() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, SCRIPT, "http", str(port), stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        while b"Uvicorn running" not in (line := await process.stderr.readline()):
            assert line
        async with running(ToolServer(name="test", url=f"http://127.0.0.1:{port}/mcp")) as server:
            assert (server.state, server.error) == ("ready", "")
            assert await server.call("add", {"a": 1, "b": 2}) == "3"
    finally:
        process.terminate()
        await process.communicate()


async def test_what_is_no_message_and_what_describes_itself_badly_does_no_harm() -> None:
    owner = OwnerTools([], ToolSettings(servers=[by_pipes("garbage"), by_pipes("hostile", name="other")]))
    owner.begin()
    try:
        for server in owner.servers.values():
            await server.tried()
            assert server.state == "ready", server.error
        assert await owner.call(ToolCall("1", "add", '{"a": 1, "b": 2}', own=True), "talk") == "3"
        names = [tool.name for tool in owner.tools()]
        assert len(names) == len({*names}) == 11
        assert "other_add" in names  # the second of that name
        assert "do___im_start__" in names
        assert "<|im_" not in json.dumps(specified(owner.tools()))
        assert owner.asks("remove")
        assert not owner.asks("add")
        owner.configure(ToolSettings(servers=[by_pipes("garbage", permissions={"add": "off", "remove": "allow"})]))
        assert "add" not in [tool.name for tool in owner.tools()]
        assert not owner.asks("remove")
        for name, why in (("add", "has been switched off"), ("subtract", "no longer exists")):
            with pytest.raises(ToolFailed, match=why):
                await owner.call(ToolCall("1", name, "{}", own=True), "talk")
    finally:
        await owner.close()
    assert not children()


async def test_of_five_hundred_tools_as_many_are_offered_as_a_prompt_has_room_for() -> None:
    owner = OwnerTools([], ToolSettings(servers=[by_pipes("many")]))
    owner.begin()
    try:
        server = owner.servers["test"]
        await server.tried()
        assert (server.listed, len(server.tools)) == (505, 100)
        assert 5 < len(owner.tools()) < 60
        assert sum(len(tool.description) for tool in owner.tools()) < ROOM
    finally:
        await owner.close()


async def test_one_that_crashes_in_a_call_says_so_and_is_started_again() -> None:
    async with running(by_pipes("crash")) as server:
        with pytest.raises(ToolFailed, match="test ended before it answered"):
            await server.call("add", {"a": 1, "b": 2})
        assert await server.call("secret", {}) == "none"  # it waited for the restart


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (by_pipes("broken"), "test ended at once and said: No module named nonsense"),
        (ToolServer(name="test", command="no-such-program"), "There is no program 'no-such-program' on this computer"),
        (ToolServer(name="test", url="http://127.0.0.1:9/mcp"), "No server answers at the address of test"),
    ],
)
async def test_one_that_cannot_be_had_says_why_in_a_sentence(given: ToolServer, why: str) -> None:
    async with running(given) as server:
        assert server.state == "failed"
        assert server.error.startswith(why)
        with pytest.raises(ToolFailed):
            await server.call("add", {})


async def test_one_that_says_nothing_can_be_ended_while_it_starts_and_nobody_waits_for_it() -> None:
    server = McpServer(by_pipes("mute"))
    waiting = asyncio.create_task(server.call("add", {}))
    await asyncio.to_thread(until, lambda: bool(children()))
    await server.close()
    assert not children()
    for asked in (waiting, server.call("add", {})):  # nor does it come back
        with pytest.raises(ToolFailed):
            await asked
    assert not children()


@pytest.mark.parametrize(
    "bad", [{"url": "file:///etc/passwd"}, {"url": "http://"}, {}, {"command": "a", "url": "http://b"}]
)
def test_an_address_is_http_and_there_is_one_way(bad: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"address|either"):
        ToolServer(name="test", **bad)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends children with their parent")
def test_a_server_dies_with_parley_even_where_parley_is_killed() -> None:
    script = (
        "import asyncio, os, sys\n"
        "from config.settings import ToolServer\nfrom pipeline.tools.mcp import McpServer\n"
        "async def main():\n"
        f"    server = McpServer(ToolServer(name='test', command=sys.executable, args=[{SCRIPT!r}, 'mute']))\n"
        "    server.begin()\n    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        found: list[psutil.Process] = []

        def born() -> bool:
            found.extend(psutil.Process(parent.pid).children(recursive=True))
            return bool(found)

        until(born)
    finally:
        parent.kill()
        parent.wait()
    psutil.wait_procs(found, timeout=60)
    assert not any(each.is_running() for each in found)


def until(true: Callable[[], bool]) -> None:
    while not true():
        time.sleep(0.02)
