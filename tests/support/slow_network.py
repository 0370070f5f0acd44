"""A network with a long way and losses, between a client and a server on this machine."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

DELAY_S, LOSS = 0.2, 0.02
"""One way, and the share of packets that are lost."""
RESENT_S = 0.4
"""What TCP adds for a lost segment: until the sender repeats it, everything behind it waits."""
SEGMENT = 1400
"""Bytes of a packet."""


@asynccontextmanager
async def slow_tcp(port: int, seed: int = 1) -> AsyncIterator[int]:
    """Yield a port that leads to another one, slowly."""
    chance = random.Random(seed)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        clock = asyncio.get_running_loop().time

        async def arrive() -> None:
            while True:
                due, data = await on_the_way.get()
                await asyncio.sleep(due - clock())
                if not data:
                    writer.close()
                    return
                writer.write(data)
                await writer.drain()

        async def send() -> None:
            due = 0.0
            while data := await reader.read(SEGMENT):
                due = max(due, clock() + DELAY_S) + (RESENT_S if chance.random() < LOSS else 0.0)
                on_the_way.put_nowait((due, data))
            on_the_way.put_nowait((max(due, clock() + DELAY_S), b""))

        try:
            await asyncio.gather(send(), arrive())
        except ConnectionError:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, back), carry(there, writer))

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


CANDIDATE = re.compile(r"(a=candidate:\S+ \d+ udp \d+ )(\S+) (\d+)", re.IGNORECASE)


class _Side(asyncio.DatagramProtocol):
    """What one side of a call takes for the other side."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._transport: asyncio.DatagramTransport
        self.address: tuple[str, int] = ("", 0)
        """Of the side that sends here."""
        self.other: _Side
        self.lost = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    @property
    def port(self) -> int:
        return int(self._transport.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes, addr: object) -> None:
        if self._chance.random() < LOSS:
            self.lost += 1
        elif self.other.address[1]:
            asyncio.get_running_loop().call_later(DELAY_S, self.other.send, data)

    def send(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(data, self.address)

    def close(self) -> None:
        self._transport.close()


class SlowCall:
    """Carries the packets of one WebRTC call. Both sides must learn of each other through `seen_by_…`."""

    def __init__(self, client: _Side, server: _Side) -> None:
        self._client, self._server = client, server

    @property
    def lost(self) -> int:
        """How many packets were lost in either direction."""
        return self._client.lost + self._server.lost

    def seen_by_server(self, offer: str) -> str:
        return self._seen(offer, self._client, self._server.port)

    def seen_by_client(self, answer: str) -> str:
        return self._seen(answer, self._server, self._client.port)

    def _seen(self, sdp: str, side: _Side, port: int) -> str:
        found = CANDIDATE.search(sdp)
        assert found is not None, sdp
        side.address = (found[2], int(found[3]))
        return CANDIDATE.sub(rf"\g<1>127.0.0.1 {port}", sdp)


@asynccontextmanager
async def slow_call(seed: int = 1) -> AsyncIterator[SlowCall]:
    loop, chance = asyncio.get_running_loop(), random.Random(seed)
    sides: list[_Side] = []
    for _ in range(2):
        _, side = await loop.create_datagram_endpoint(lambda: _Side(chance), local_addr=("127.0.0.1", 0))
        sides.append(side)
    client, server = sides
    client.other, server.other = server, client
    try:
        yield SlowCall(client, server)
    finally:
        for side in sides:
            side.close()
