"""A client of `/v1/realtime`, as a test writes it down."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import numpy as np
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from websockets.asyncio.client import ClientConnection

SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)

LOUD = (np.sin(np.arange(24_000) / 10) * 8000).astype("<i2")
"""A second that the scripted voice activity takes for speech."""
SILENCE = np.zeros(24_000, "<i2")

Told = dict[str, Any]


class Client:
    """Every event is checked against the stock SDK's own definitions as it comes."""

    def __init__(self, socket: ClientConnection, *, stock: bool = True) -> None:
        """One that is not `stock` is also told what the SDK does not know."""
        self._socket = socket
        self._stock = stock

    async def send(self, type: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": type, **fields}))

    async def update(self, **session: Any) -> Told:
        await self.send("session.update", session={"type": "realtime", **session})
        return (await self.the("session.updated"))["session"]  # type: ignore[no-any-return]

    async def speak(self, *sounds: np.ndarray) -> None:
        for sound in sounds:
            await self.send("input_audio_buffer.append", audio=base64.b64encode(sound.tobytes()).decode())

    async def write(self, text: str, **fields: Any) -> Told:
        """A typed message of the user; its item."""
        content = [{"type": "input_text", "text": text}]
        await self.send(
            "conversation.item.create", item={"type": "message", "role": "user", "content": content}, **fields
        )
        return (await self.the("conversation.item.added"))["item"]  # type: ignore[no-any-return]

    async def until(self, *types: str) -> list[Told]:
        """Every event up to the first of one of these types, that one included."""
        seen: list[Told] = []
        async with asyncio.timeout(60):
            while not seen or seen[-1]["type"] not in types:
                event = json.loads(await self._socket.recv())
                if self._stock:
                    SERVER_EVENT.validate_python(event)
                seen.append(event)
        return seen

    async def the(self, type: str) -> Told:
        return (await self.until(type))[-1]

    async def error(self) -> Told:
        return (await self.the("error"))["error"]  # type: ignore[no-any-return]
