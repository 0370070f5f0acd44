"""What is an offer, and what is refused before a peer is made for it."""

from __future__ import annotations

import pytest

from web.api.audio.errors import Refused
from web.realtime.webrtc.offer import offer

AUDIO = """m=audio 9 UDP/TLS/RTP/SAVPF 111
a=mid:0
a=sendrecv
a=rtpmap:111 opus/48000/2
a=fingerprint:sha-256 18:D1:0A
a=candidate:1 1 udp 2122260223 192.168.1.7 50000 typ host
a=candidate:2 1 udp 2122260223 0f1e.local 50001 typ host
a=candidate:3 1 tcp 1518280447 192.168.1.7 9 typ host tcptype active
a=candidate:4 1 udp 1686052607 203.0.113.9 50000 typ srflx raddr 0.0.0.0 rport 0
a=candidate:5 1 udp 2122260223 evil.example 53 typ host
a=candidate:broken
a=end-of-candidates"""
CHANNEL = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=mid:1"


def sdp(*sections: str) -> str:
    return "\n".join(("v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0", *sections, ""))


def test_only_the_client_who_asks_is_spoken_to() -> None:
    read = offer(sdp(AUDIO, CHANNEL), "192.168.1.7")
    assert read.channel
    assert [line for line in read.sdp.split("\r\n") if "candidate" in line] == [
        "a=candidate:1 1 udp 2122260223 192.168.1.7 50000 typ host"
    ]


def test_a_client_without_a_channel_is_taken() -> None:
    assert not offer(sdp(AUDIO), "127.0.0.1").channel


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "This is not an offer"),
        ("hello", "This is not an offer"),
        ("v=0\r\nm=\r\n", "Offer one audio track"),
        (sdp(CHANNEL), "Offer one audio track"),
        (sdp(AUDIO, AUDIO), "Offer one audio track"),
        (sdp(AUDIO, "m=video 9 UDP/TLS/RTP/SAVPF 96"), "Offer one audio track"),
        (sdp(AUDIO, CHANNEL, CHANNEL), "Offer one audio track"),
        (sdp(AUDIO.replace("opus/48000/2", "PCMU/8000")), "Offer Opus"),
        (sdp(AUDIO.replace("sendrecv", "sendonly")), "also receives sound"),
        (sdp(AUDIO.replace("a=mid:0\n", "")), "Give each section"),
        (sdp(AUDIO, CHANNEL.replace("mid:1", "mid:0")), "Give each section"),
        (sdp("a=group:BUNDLE 0 7", AUDIO), "Give each section"),
        (sdp(AUDIO.replace("18:D1:0A", "ZZ:18:D1")), "Offer the fingerprint"),
        (sdp(AUDIO.replace("sha-256", "sha-1")), "Offer the fingerprint"),
        (sdp(AUDIO.replace("a=fingerprint:sha-256 18:D1:0A\n", "")), "Offer the fingerprint"),
        (sdp("a=inactive", AUDIO.replace("a=sendrecv\n", "")), "also receives sound"),
    ],
)
def test_what_no_call_can_come_of_is_refused_in_a_sentence(text: str, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        offer(text, "127.0.0.1")
    assert (refused.value.status, refused.value.code) == (400, "invalid_sdp")
