"""Our WebRTC peer, which answers an offer. It asks no server elsewhere and looks up no name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceTransport,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidAccessError, InvalidStateError, OperationError
from aiortc.mediastreams import MediaStreamTrack

from web.api.audio.errors import Refused
from web.realtime.webrtc.hearing import Arrivals
from web.realtime.webrtc.offer import Offer

CHANNEL = "oai-events"
MOST_UNREAD = 256
"""Messages of a client that may wait to be read."""
MOST_BUFFERED = 1 << 20
"""Bytes that may wait for a client to read them."""
LONGEST_MESSAGE = 256 << 10
"""Bytes of a client's message, as stated in the answer (a=max-message-size)."""


class Peer:
    def __init__(self, track: MediaStreamTrack) -> None:
        """`track` is what the client hears."""
        self.messages: asyncio.Queue[str | None] = asyncio.Queue(MOST_UNREAD)
        """Messages from the data channel; None for one that is not text."""
        self.heard: MediaStreamTrack | None = None
        """What the client sends; None if it sends nothing."""
        self.ended = asyncio.Event()
        """Set once the connection failed or the client closed it."""
        self._linked, self._open, self._drained = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._channel: RTCDataChannel | None = None
        self._awaits_channel = False
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        transceiver = self._connection.addTransceiver(track, "sendrecv")
        opus = [each for each in RTCRtpSender.getCapabilities("audio").codecs if each.mimeType == "audio/opus"]
        transceiver.setCodecPreferences(opus)
        hear_at_once(transceiver.receiver)
        self._connection.on("connectionstatechange", self._state_changed)
        self._connection.on("datachannel", self._channel_made)
        self._connection.on("track", self._track_made)

    async def answer(self, offer: Offer, addresses: Iterable[str]) -> str:
        """Return the answer, for a connection at these addresses of this machine and no others. Raises Refused."""
        self._awaits_channel = offer.channel
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
            for transport in self._transports():
                await listen(transport, addresses)
            await self._connection.setLocalDescription(await self._connection.createAnswer())
        except (
            # what aiortc raises for text that only looks like an offer
            *(ValueError, TypeError, AttributeError, LookupError, AssertionError),
            *(InvalidAccessError, InvalidStateError, OperationError),
        ) as error:
            raise Refused(400, "This offer cannot be answered: it is incomplete.", "sdp", "invalid_sdp") from error
        return str(self._connection.localDescription.sdp)

    async def connected(self) -> None:
        """Wait until sound and events can pass."""
        await self._linked.wait()
        if self._awaits_channel:
            await self._open.wait()

    async def send(self, text: str) -> None:
        """Send an event, or drop it if the client has no channel. Waits while a client does not read.

        Raises:
            ValueError: it is larger than the client accepts.
        """
        channel = self._channel
        if channel is None or channel.readyState != "open":
            return
        while channel.bufferedAmount > MOST_BUFFERED and channel.readyState == "open":
            self._drained.clear()
            await self._drained.wait()
        if channel.readyState == "open":
            channel.send(text)

    @property
    def overrun(self) -> bool:
        """Whether the client sends more of one message than is allowed."""
        sctp = self._connection.sctp
        return sctp is not None and sctp._advertised_rwnd < 0

    async def close(self) -> None:
        await self._connection.close()

    def _state_changed(self) -> None:
        match self._connection.connectionState:
            case "connected":
                self._linked.set()
            case "failed" | "closed":
                self.ended.set()
                self._drained.set()

    def _channel_made(self, channel: RTCDataChannel) -> None:
        if channel.label != CHANNEL or self._channel is not None:
            channel.close()
            return
        self._channel = channel
        channel.bufferedAmountLowThreshold = MOST_BUFFERED // 2
        channel.on("bufferedamountlow", self._drained.set)
        channel.on("message", self._message)
        self._open.set()

    def _track_made(self, track: MediaStreamTrack) -> None:
        self.heard = track

    def _message(self, message: str | bytes) -> None:
        if len(message) > LONGEST_MESSAGE or self.messages.full():
            self.ended.set()
            return
        self.messages.put_nowait(message if isinstance(message, str) else None)

    def _transports(self) -> list[RTCIceTransport]:
        found = {each.receiver.transport.transport for each in self._connection.getTransceivers()}
        if self._connection.sctp is not None:
            found.add(self._connection.sctp.transport.transport)
        return list(found)


def hear_at_once(receiver: RTCRtpReceiver) -> None:
    """Replace aiortc's jitter buffer, for which it has no setting."""
    name = "_RTCRtpReceiver__jitter_buffer"
    assert hasattr(receiver, name)
    setattr(receiver, name, Arrivals())


async def listen(transport: RTCIceTransport, addresses: Iterable[str]) -> None:
    """Gather candidates at these addresses only: aioice would take all but the loopback, and has no setting."""
    connection = transport._connection
    connection._local_candidates_start = True
    connection._local_candidates += await connection.get_component_candidates(1, list(addresses))
    connection._local_candidates_end = True
