"""The names that the protocol used in its beta, for clients that ask for them (`OpenAI-Beta: realtime=v1`). Each
message is translated or left out; whatever the beta did not have passes unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Tree = dict[str, Any]

EVENTS = {
    "conversation.item.added": "conversation.item.created",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
}
LATER = frozenset({"conversation.item.done"})
"""Events that came only with general availability."""

FORMATS = {"audio/pcm": "pcm16", "audio/pcmu": "g711_ulaw", "audio/pcma": "g711_alaw"}
CONTENTS = {"output_text": "text", "output_audio": "audio"}
INPUT = {
    "turn_detection": "turn_detection",
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
}
"""The session's field name in the beta, and its name within `audio.input`."""
SAME = ("id", "object", "model", "instructions", "tools", "tool_choice", "tracing", "include")
NAMES = {"modalities": "output_modalities", "max_response_output_tokens": "max_output_tokens"}


def read(message: Tree) -> Tree:
    """Return a client's message with today's names. Anything else is returned unchanged, to be refused later."""
    match message:
        case {"type": "transcription_session.update", "session": dict(session)}:
            return {**message, "type": "session.update", "session": {**_session(session), "type": "transcription"}}
        case {"type": "session.update", "session": dict(session)}:
            return {**message, "session": _session(session)}
        case {"type": "response.create", "response": dict(response)}:
            return {**message, "response": _response(response)}
        case {"type": "conversation.item.create", "item": dict(item)}:
            return {**message, "item": _item(item, {old: new for new, old in CONTENTS.items()})}
    return message


def written(message: Tree) -> Tree | None:
    """Return a server message with the beta's names; None for an event that the beta did not have."""
    kind = message["type"]
    if kind in LATER:
        return None
    told = {**message, "type": EVENTS.get(kind, kind)}
    if "session" in told:
        told["session"] = _told_session(told["session"])
    if "item" in told:
        told["item"] = _item(told["item"], CONTENTS)
    if "response" in told:
        response = dict(told["response"])
        response["modalities"] = _both(response.pop("output_modalities"))
        response["output"] = [_item(item, CONTENTS) for item in response["output"]]
        told["response"] = response
    return told


def _session(beta: Mapping[str, Any]) -> Tree:
    session: Tree = {name: value for name, value in beta.items() if name in {*SAME, "type", "audio", "parley"}}
    for old, new in NAMES.items():
        if beta.get(old) is not None:
            session[new] = _one(beta[old]) if old == "modalities" else beta[old]
    audio = dict(session.get("audio") or {})
    hearing, speaking = dict(audio.get("input") or {}), dict(audio.get("output") or {})
    for old, new in INPUT.items():
        if old in beta:
            hearing[new] = beta[old]
    for side, name in ((hearing, "input_audio_format"), (speaking, "output_audio_format")):
        if beta.get(name) is not None:
            side["format"] = {"type": next((new for new, old in FORMATS.items() if old == beta[name]), beta[name])}
    for name in ("voice", "speed"):
        if beta.get(name) is not None:
            speaking[name] = beta[name]
    audio |= {name: side for name, side in (("input", hearing), ("output", speaking)) if side}
    known = {*session, *NAMES, *INPUT, "input_audio_format", "output_audio_format", "voice", "speed", "temperature"}
    rest = {name: value for name, value in beta.items() if name not in {*known, "client_secret", "turn_detection"}}
    return {**session, **rest, **({"audio": audio} if audio else {})}


def _told_session(session: Mapping[str, Any]) -> Tree:
    audio = session.get("audio") or {}
    hearing, speaking = audio.get("input") or {}, audio.get("output") or {}
    beta: Tree = {name: session[name] for name in SAME if name in session}
    if "output_modalities" in session:
        beta["modalities"] = _both(session["output_modalities"])
    if "max_output_tokens" in session:
        beta["max_response_output_tokens"] = session["max_output_tokens"]
    for old, new in INPUT.items():
        if new in hearing:
            beta[old] = hearing[new]
    if "format" in hearing:
        beta["input_audio_format"] = FORMATS[hearing["format"]["type"]]
    if "format" in speaking:
        beta["output_audio_format"] = FORMATS[speaking["format"]["type"]]
    if "voice" in speaking:
        beta["voice"] = speaking["voice"]
    return beta


def _response(beta: Mapping[str, Any]) -> Tree:
    response = {name: value for name, value in beta.items() if name not in {*NAMES, "temperature"}}
    for old, new in NAMES.items():
        if beta.get(old) is not None:
            response[new] = _one(beta[old]) if old == "modalities" else beta[old]
    for name in ("voice", "output_audio_format"):
        response.pop(name, None)
    if isinstance(beta.get("input"), list):
        contents = {old: new for new, old in CONTENTS.items()}
        response["input"] = [_item(item, contents) if isinstance(item, dict) else item for item in beta["input"]]
    return response


def _item(item: Mapping[str, Any], names: Mapping[str, str]) -> Tree:
    if not isinstance(item.get("content"), list):
        return dict(item)
    content = [
        {**part, "type": names.get(part.get("type", ""), part.get("type"))} if isinstance(part, dict) else part
        for part in item["content"]
    ]
    return {**item, "content": content}


def _one(modalities: Any) -> Any:
    """The beta says audio and text where it means speech together with its transcript."""
    return ["audio"] if isinstance(modalities, list) and "audio" in modalities else modalities


def _both(modalities: list[str]) -> list[str]:
    return ["audio", "text"] if "audio" in modalities else ["text"]
