"""Reads a client's offer, and refuses it in one sentence if it cannot work."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from config.text import parsed
from web.api.audio.errors import Refused
from web.api.audio.requests import form_body
from web.realtime import events as wire
from web.realtime import parts
from web.realtime.reading import Refusal, understood

_FINGERPRINT = re.compile(r"a=fingerprint:sha-(?:256|384|512) (?:[0-9a-f]{2}:)+[0-9a-f]{2}\s*", re.IGNORECASE)
"""The fingerprints that aiortc can check."""

LONGEST = 64 << 10
"""Bytes of an offer; a browser's has about four thousand."""


@dataclass(frozen=True, slots=True)
class Offer:
    sdp: str
    channel: bool
    """Whether it has a section for a data channel."""


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A request for a call."""

    sdp: str
    session: parts.Session | None = None
    left_out: tuple[Refusal, ...] = ()
    """The parts of the session that could not be applied."""


async def asked(request: Request) -> CallRequest:
    """Read the offer from the body, or from the form field `sdp` with an optional `session`. Raises Refused."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() == "multipart/form-data":
        return await _from_form(request)
    body = await request.body()
    if len(body) > LONGEST:
        raise Refused(413, f"An offer has at most {LONGEST >> 10} KiB.", "sdp")
    return CallRequest(_text(body, "sdp"))


async def _from_form(request: Request) -> CallRequest:
    async with form_body(request, LONGEST) as form:
        fields = {
            name: value if isinstance(value, str) else _text(await value.read(LONGEST + 1), name)
            for name, value in form.items()
        }
    if "sdp" not in fields:
        raise Refused(400, "Send the offer as the field sdp of the form.", "sdp")
    if "session" not in fields:
        return CallRequest(fields["sdp"])
    try:
        session = parsed(fields["session"])
    except ValueError:
        raise Refused(400, "session is not JSON.", "session") from None
    try:
        event, left_out = understood({"type": "session.update", "session": session})
    except Refusal as refusal:
        raise Refused(400, str(refusal), "session") from refusal
    assert isinstance(event, wire.SessionUpdate)
    return CallRequest(fields["sdp"], event.session, tuple(left_out))


def _text(body: bytes, name: str) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Refused(400, f"{name} is not text.", name) from None


def offer(sdp: str, client: str) -> Offer:
    """Return the offer with only the permitted addresses: those of the requesting client, `client`.

    Any other host that it names is not looked up and receives no packet from here. A client whose address is not listed
    is answered at the address that its first packet comes from.

    Raises Refused.
    """
    lines = sdp.replace("\r\n", "\n").split("\n")
    if lines[0].strip() != "v=0":
        raise Refused(400, "This is not an offer: send the SDP of a WebRTC peer's offer.", "sdp", "invalid_sdp")
    media = [line[2:].split() for line in lines if line.startswith("m=")]
    kinds = [section[0] for section in media if section]
    if kinds.count("audio") != 1 or kinds.count("application") > 1 or len(kinds) > kinds.count("application") + 1:
        raise Refused(400, "Offer one audio track and a data channel, and nothing else.", "sdp", "invalid_sdp")
    if not any(line.lower().startswith("a=rtpmap:") and "opus/48000" in line.lower() for line in lines):
        raise Refused(400, "Offer Opus for the audio track.", "sdp", "invalid_sdp")
    prints = [line for line in lines if line.startswith("a=fingerprint:")]
    if not prints or not all(map(_FINGERPRINT.fullmatch, prints)):
        raise Refused(400, "Offer the fingerprint of your certificate (a=fingerprint).", "sdp", "invalid_sdp")
    if _direction(lines) in {"sendonly", "inactive"}:
        raise Refused(400, "Offer an audio track that also receives sound (sendrecv).", "sdp", "invalid_sdp")
    if not _named(lines):  # aiortc would build only half a peer from it
        raise Refused(400, "Give each section of the offer a name of its own (a=mid), bundled.", "sdp", "invalid_sdp")
    kept = [line for line in lines if not line.startswith("a=end-of-candidates")]
    kept = [line for line in kept if not line.startswith("a=candidate:") or _is_at(line, client)]
    return Offer("\r\n".join(kept), "application" in kinds)


def _named(lines: list[str]) -> bool:
    """Whether each section has exactly one name, unique to it, and the bundle names no other."""
    sections: list[list[str]] = []
    bundled: set[str] = set()
    for line in lines:
        if line.startswith("m="):
            sections.append([])
        elif line.startswith("a=mid:") and sections:
            sections[-1].append(line[6:].strip())
        elif line.startswith("a=group:BUNDLE"):
            bundled.update(line.split()[1:])
    names = {each[0] for each in sections if len(each) == 1}
    return len(names) == len(sections) and bundled <= names


def _direction(lines: list[str]) -> str:
    """Return the direction of the audio; a line before the sections applies to all of them."""
    found, section = "sendrecv", ""
    for line in lines:
        if line.startswith("m="):
            section = line[2:].split(" ")[0]
        elif section in {"", "audio"} and line[2:] in {"sendrecv", "sendonly", "recvonly", "inactive"}:
            found = line[2:]
    return found


def _is_at(line: str, client: str) -> bool:
    """Whether a candidate is reached by UDP at exactly that address."""
    words: list[Any] = line.split()
    if len(words) < 6 or words[2].lower() != "udp":
        return False
    try:
        return ipaddress.ip_address(words[4]) == ipaddress.ip_address(client)
    except ValueError:
        return False
