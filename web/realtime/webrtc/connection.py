"""Carries one call over a WebRTC peer. When reading, writing, the peer or the call ends, all of them end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from pipeline.cleanup import until_one_ends
from pipeline.engine import EngineError
from web.realtime import events as wire
from web.realtime.connection import PATIENCE, SlowReader
from web.realtime.pcm import decoded
from web.realtime.reading import Refusal, refused
from web.realtime.session import Call, Dismissed, TakenOver
from web.realtime.webrtc.hearing import TrackHearing
from web.realtime.webrtc.peer import Peer
from web.realtime.webrtc.playout import Playout, ReplyEncoder

CONNECT_S = 15.0
"""Seconds within which a client must have connected after it was answered."""
LOOK_EVERY_S = 0.5

logger = logging.getLogger(__name__)


class PeerEnded(Exception):
    """The peer is gone."""


class PeerConnection:
    def __init__(self, peer: Peer, playout: Playout, call: Call) -> None:
        self._peer = peer
        self._playout = playout
        self._call = call
        self._encoders: dict[str, ReplyEncoder] = {}
        """The encoder of each reply that is being sent."""

    def hang_up(self) -> None:
        self._peer.ended.set()

    async def run(self) -> None:
        """Carry the call until one side ends it."""
        try:
            await until_one_ends(self._connected(), self._until_ended())
            await until_one_ends(self._read(), self._write(), self._hear(), self._until_ended(), self._call.run())
        except EngineError as error:
            with suppress(ValueError):
                await self._peer.send(self._call.written(refused(Refusal("engine_error", str(error)))) or "")
        except SlowReader:
            logger.warning("A client stopped reading and was disconnected.", extra={"conversation": self._call.name})
        except (PeerEnded, TakenOver, Dismissed):
            pass
        finally:
            await self._peer.close()

    async def _connected(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._peer.connected()
        except TimeoutError:
            logger.info("A WebRTC client did not connect.", extra={"conversation": self._call.name})
            raise PeerEnded from None

    async def _until_ended(self) -> None:
        while not self._peer.ended.is_set() and not self._peer.overrun:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._peer.ended.wait()
        raise PeerEnded

    async def _read(self) -> None:
        while True:
            await self._call.take(await self._peer.messages.get())

    async def _hear(self) -> None:
        if self._peer.heard is not None:
            await TrackHearing(self._peer.heard, self._call.hear).run()
        await asyncio.Event().wait()

    async def _write(self) -> None:
        while True:
            event = await self._call.next()
            if isinstance(event, wire.ResponseOutputAudioDelta):
                self._call.sent(event)
                if (encoder := self._encoders.get(event.response_id)) is None:
                    encoder = self._encoders[event.response_id] = ReplyEncoder()
                sounds = await asyncio.to_thread(encoder.feed, decoded(event.delta))
                self._playout.add(event.response_id, sounds)
                continue
            if isinstance(event, wire.ResponseOutputAudioDone) and event.response_id in self._encoders:
                encoder = self._encoders.pop(event.response_id)
                self._playout.add(event.response_id, await asyncio.to_thread(encoder.finish))
            await self._send(event)
            self._call.sent(event)

    async def _send(self, event: wire.ServerEvent) -> None:
        if (text := self._call.written(event)) is None:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self._peer.send(text)
        except TimeoutError:
            raise SlowReader from None
        except ValueError:
            what = Refusal("event_too_large", f"An event ({event.event_id}) is larger than this client accepts.")
            await self._peer.send(self._call.written(refused(what)) or "")
