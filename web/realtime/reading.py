"""A client's message, read: what it asks for, and what of it cannot be followed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from config.text import parsed
from web.realtime import events as wire
from web.validation import explain

MOST_FAULTS = 8
"""Fields of one `session.update` that are named as wrong, each by an `error`."""


class Refusal(Exception):
    """A message that cannot be followed: a code for programs, a sentence for people, and the field it is about."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


def tree(text: str | None) -> dict[str, Any]:
    """The message as JSON; None is one that is no text. Raises Refusal."""
    if text is None:
        raise Refusal("invalid_message", "Send events as text messages in JSON; sound goes in base64.")
    try:
        read = parsed(text)
    except (ValueError, RecursionError):
        raise Refusal("invalid_json", "This message is not JSON.") from None
    if not isinstance(read, dict):
        raise Refusal("invalid_json", "A message must be a JSON object with a type.")
    return read


def understood(message: dict[str, Any]) -> tuple[wire.AnyClientEvent, list[Refusal]]:
    """The message, and what had to be left out of it. Raises Refusal where it says nothing that could be done.

    One field that is not possible does not lose the rest of a `session.update`, which clients do not send again.
    """
    left_out: list[Refusal] = []
    while True:
        try:
            return wire.CLIENT_EVENT.validate_python(message), left_out
        except ValidationError as error:
            left_out.append(_refusal(message, error))
            place = error.errors(include_url=False)[0]["loc"]
            if message.get("type") != "session.update" or len(left_out) > MOST_FAULTS:
                raise left_out[0] from None
            message = copy.deepcopy(message)
            if not _pruned(message, place):
                raise left_out[0] from None


def _refusal(message: Mapping[str, Any], error: ValidationError) -> Refusal:
    first = error.errors(include_url=False)[0]
    if not first["loc"] and first["type"] == "union_tag_not_found":
        return Refusal("missing_type", "The message has no type.", "type")
    if not first["loc"]:
        return Refusal("unknown_event", f"There is no event of the type {str(message['type'])[:100]!r}.", "type")
    field, sentence = explain(error, message)
    return Refusal("invalid_value", sentence, field)


def _pruned(message: dict[str, Any], place: tuple[int | str, ...]) -> bool:
    """Takes the field at a place out of the message's session; whether there was one. A place names branches too."""
    node: Any = message
    last: tuple[Any, int | str] | None = None
    for part in place:
        try:
            below = node[part]
        except (LookupError, TypeError):
            continue  # a branch of a union, or a field that is missing: what it is missing in is what is wrong
        last, node = (node, part), below
        if isinstance(last[0], list):
            break  # an entry of a list goes as a whole
    if last is None or last[0] is message:
        return False  # the session itself, or what stands beside it
    del last[0][last[1]]
    return True
