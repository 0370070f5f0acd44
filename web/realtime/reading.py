"""Reads a client's message: what it asks for, and which parts of it cannot be applied."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.text import parsed
from web.realtime import events as wire
from web.realtime import parts
from web.validation import explained

MOST_FAULTS = 8
"""The most faulty fields of one `session.update` that are reported, each by an `error`."""
MOST_ROUNDS = 8
"""How many times it is validated: once the faulty fields are removed, others may turn out to be wrong."""

Place = tuple[int | str, ...]


class Refusal(Exception):
    """A message that cannot be followed: a code for programs, a sentence for people, and the field concerned."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


def refused(refusal: Refusal, event_id: str | None = None) -> wire.ErrorEvent:
    """Return the `error` event that tells the client."""
    detail = parts.ErrorDetail(
        type="invalid_request_error",
        code=refusal.code,
        message=str(refusal),
        param=refusal.param,
        event_id=event_id,
    )
    return wire.ErrorEvent(error=detail)


def tree(text: str | None) -> dict[str, Any]:
    """Parse the message as JSON; None stands for a message that is not text. Raises Refusal."""
    if text is None:
        raise Refusal("invalid_message", "Send events as text messages in JSON; sound goes in base64.")
    try:
        read = parsed(text)
    except ValueError:
        raise Refusal("invalid_json", "This message is not JSON.") from None
    if not isinstance(read, dict):
        raise Refusal("invalid_json", "A message must be a JSON object with a type.")
    return read


def understood(message: dict[str, Any]) -> tuple[wire.AnyClientEvent, list[Refusal]]:
    """Return the event, and what had to be left out of it. Raises Refusal if nothing that can be done remains.

    Invalid fields do not discard the rest of a `session.update`, since clients do not send it again.
    """
    left_out: list[Refusal] = []
    for _ in range(MOST_ROUNDS):
        try:
            return wire.CLIENT_EVENT.validate_python(message), left_out
        except ValidationError as error:
            first, *_ = faults = error.errors(include_url=False)
            if message.get("type") != "session.update" or _place(message, first["loc"]) is None:
                raise _refusal(message, first) from None
            wrong: dict[Place, ErrorDetails] = {}
            for fault in faults:
                if (place := _place(message, fault["loc"])) is not None:
                    wrong.setdefault(place, fault)  # a union reports a fault for each of its branches
            left_out += [_refusal(message, fault) for fault in list(wrong.values())[: MOST_FAULTS - len(left_out)]]
            message = copy.deepcopy(message)
            for place in sorted(wrong, key=_order, reverse=True):  # from the end of a list: the others keep their index
                _prune(message, place)
    raise left_out[0]


def _refusal(message: Mapping[str, Any], fault: ErrorDetails) -> Refusal:
    if not fault["loc"] and fault["type"] == "union_tag_not_found":
        return Refusal("missing_type", "The message has no type.", "type")
    if not fault["loc"]:
        return Refusal("unknown_event", f"There is no event with the type {str(message['type'])[:100]!r}.", "type")
    field, sentence = explained(fault, message)
    return Refusal("invalid_value", sentence, field)


def _place(message: dict[str, Any], loc: Place) -> Place | None:
    """Return the path of the session field that a fault is in; None if it is the session itself or outside it.

    A fault's location also names branches of unions, and missing fields: then the object that lacks them is wrong.
    """
    node: Any = message
    place: list[int | str] = []
    for part in loc:
        try:
            below = node[part]
        except (LookupError, TypeError):
            continue
        place.append(part)
        if isinstance(node, list):
            break  # an entry of a list is removed as a whole
        node = below
    return tuple(place) if len(place) > 1 else None


def _order(place: Place) -> list[tuple[int, str]]:
    return [(part, "") if isinstance(part, int) else (0, part) for part in place]


def _prune(message: dict[str, Any], place: Place) -> None:
    node: Any = message
    *above, last = place
    with suppress(LookupError):  # its parent is already gone
        for part in above:
            node = node[part]
        del node[last]
