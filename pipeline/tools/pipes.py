"""A local MCP server, connected by pipes: one message per line, each line limited in length."""

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
"""Time for a server to end after its input closes, and again after each signal, as MCP's specification orders."""
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
PIECE = 1 << 16
"""Bytes read at once."""


@asynccontextmanager
async def piped(
    command: Sequence[str],
    environment: Mapping[str, str],
    errors: TextIO,
    allowance: Allowance,
    ended: asyncio.Event,
) -> AsyncIterator[TransportStreams]:
    """Return the streams of a server that runs until they are closed. Raises OSError if it cannot be started.

    Args:
        environment: in addition to what every server inherits from this process.
        ended: set when nothing more can arrive.
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
    """Read until the server ends or sends too much. Lines that are no messages are skipped: some servers print."""
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
    """Write until there is nothing more to send, or the server stopped reading; then nothing more can arrive."""
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
    """End the process and all processes it has started, even if it ended before them."""
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
    """Wait for the end of the process, for GRACE_S at most, and return whether it has ended."""
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE_S):
            await process.wait()
    return process.returncode is not None


async def _drain(process: asyncio.subprocess.Process) -> None:
    """Read the rest of its output, so that it can finish and notice the end of its input."""
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
