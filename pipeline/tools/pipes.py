"""An MCP server that is run here, over its pipes: a message a line, and no line longer than may come at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TextIO

import psutil

from config.text import parsed
from pipeline.cleanup import uninterrupted
from pipeline.tools.answers import Allowance, TooMuch

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.client._transport import TransportStreams
    from mcp.shared.message import SessionMessage

GRACE_S = 2.0
"""For a server to end when its input does, and again when it is told to: the order of MCP's specification."""
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
PIECE = 1 << 16
"""Bytes that are read at once."""


@asynccontextmanager
async def piped(
    command: Sequence[str],
    environment: Mapping[str, str],
    errors: TextIO,
    allowance: Allowance,
    ended: asyncio.Event,
) -> AsyncIterator[TransportStreams]:
    """The streams of a server that runs until they are closed. Raises OSError where it cannot be started.

    Args:
        environment: beside what every server has of this process's.
        ended: is set when nothing more can come.
    """
    import anyio
    from mcp.client.stdio import get_default_environment
    from mcp.shared.message import SessionMessage

    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        env=get_default_environment() | dict(environment),
        start_new_session=True,
    )
    arrived, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, leaving = anyio.create_memory_object_stream[SessionMessage](0)
    reading = asyncio.create_task(_read(process, arrived, allowance))
    reading.add_done_callback(lambda _: ended.set())
    tasks = [reading, asyncio.create_task(_write(process, leaving, arrived, allowance))]
    try:
        yield incoming, outgoing
    finally:
        for task in tasks:
            task.cancel()
        await uninterrupted(_end(process, tasks))


async def _read(
    process: asyncio.subprocess.Process,
    arrived: MemoryObjectSendStream[SessionMessage | Exception],
    allowance: Allowance,
) -> None:
    """Until the server says no more, or too much. What is no message is passed over: some print what they do."""
    import anyio
    from mcp.shared.message import SessionMessage
    from mcp_types import jsonrpc_message_adapter

    assert process.stdout is not None
    begun: list[bytes] = []
    with suppress(TooMuch, anyio.BrokenResourceError, anyio.ClosedResourceError):
        async with arrived:
            while piece := await process.stdout.read(PIECE):
                allowance.spend(len(piece))
                *lines, rest = piece.split(b"\n")
                for line in lines:
                    whole = b"".join([*begun, line])
                    begun.clear()
                    with suppress(ValueError):
                        tree = await asyncio.to_thread(parsed, whole)
                        await arrived.send(SessionMessage(jsonrpc_message_adapter.validate_python(tree, by_name=False)))
                begun.append(rest)


async def _write(
    process: asyncio.subprocess.Process,
    leaving: MemoryObjectReceiveStream[SessionMessage],
    arrived: MemoryObjectSendStream[SessionMessage | Exception],
    allowance: Allowance,
) -> None:
    """Until there is nothing more to say, or nobody who takes it: then nothing more is to be heard either."""
    from mcp_types import JSONRPCRequest

    assert process.stdin is not None
    async with leaving, arrived:
        with suppress(ConnectionError):
            async for item in leaving:
                text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                if isinstance(item.message, JSONRPCRequest):
                    allowance.renew()
                process.stdin.write(f"{text}\n".encode())
                await process.stdin.drain()


async def _end(process: asyncio.subprocess.Process, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Whoever it has started is ended too, also where it has ended before them."""
    await asyncio.gather(*tasks, return_exceptions=True)
    assert process.stdin is not None
    process.stdin.close()
    rest = asyncio.create_task(_drain(process))
    started = await asyncio.to_thread(_started, process.pid)
    for sign in (signal.SIGTERM, KILL):
        if await _ended(process):
            break
        _signal(process, started, sign)
    _signal(process, started, KILL)
    await _ended(process)
    rest.cancel()


async def _ended(process: asyncio.subprocess.Process) -> bool:
    """Within the time for it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE_S):
            await process.wait()
    return process.returncode is not None


async def _drain(process: asyncio.subprocess.Process) -> None:
    """What it still says, so that it sees the end of its input; and its pipe stays open until all of it is read."""
    assert process.stdout is not None
    while await process.stdout.read(PIECE):
        pass


def _started(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.Error:
        return []


def _signal(process: asyncio.subprocess.Process, started: Sequence[psutil.Process], sign: int) -> None:
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        return
    with suppress(ProcessLookupError):
        process.send_signal(sign)
    for each in started:
        with suppress(psutil.Error):
            each.send_signal(sign)
