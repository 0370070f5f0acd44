"""The protocol's events over a connection, with size limits: a line of JSON, then data, then a payload.

The package's own reader accepts any announced length; here each length is limited.
"""

from __future__ import annotations

import asyncio
from typing import Any

from wyoming.event import Event, Eventable, async_write_event

from config.text import parsed
from web import unread
from web.unread import drop

LINE, DATA, PAYLOAD = 64 << 10, 1 << 20, 1 << 20
"""Bytes of an event's parts. A payload is a short piece of sound: 1 MiB holds 32 s at 16 kHz."""


class NotWyoming(Exception):
    """What arrived is not an event, or too large."""


async def read_event(reader: asyncio.StreamReader) -> Event | None:
    """Read an event; None if the client has left. Raises NotWyoming.

    Args:
        reader: created with the limit LINE.
    """
    try:
        line = await reader.readline()
        if not line:
            return None
        head = _object(line)
        data = head.get("data") or {}
        if not isinstance(data, dict) or not isinstance(head.get("type"), str):
            raise NotWyoming
        if length := _length(head, "data_length", DATA):
            data = {**data, **_object(await reader.readexactly(length))}
        payload = None
        if length := _length(head, "payload_length", PAYLOAD):
            payload = await reader.readexactly(length)
        return Event(head["type"], data, payload)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except ValueError:  # also for a line that is too long
        raise NotWyoming from None


async def write_event(writer: asyncio.StreamWriter, event: Eventable) -> None:
    """Raises ConnectionError if the client has left or stopped reading."""
    try:
        async with asyncio.timeout(unread.UNREAD_S):
            await async_write_event(event.event(), writer)
    except TimeoutError:
        drop(writer.transport)
        raise ConnectionAbortedError("The client stopped reading.") from None


def _object(text: bytes) -> dict[str, Any]:
    tree = parsed(text)
    if not isinstance(tree, dict):
        raise NotWyoming
    return tree


def _length(head: dict[str, Any], name: str, most: int) -> int:
    length = head.get(name) or 0
    if not isinstance(length, int) or not 0 <= length <= most:
        raise NotWyoming
    return length
