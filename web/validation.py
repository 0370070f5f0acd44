"""Describes what is wrong with an input: one sentence, and the field concerned."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.settings import PERSON

ONE_LINE = r"^\s*\S[^\r\n\t]*$"
USABLE = {PERSON: "letters, digits, spaces, hyphens and apostrophes", ONE_LINE: "one line of text"}
"""The characters allowed in fields with such a pattern; other patterns allow only ASCII."""

BRANCH = re.compile(r"constrained-|str$|int$|float$|bool$|function-|lax-or-strict|list\[|literal\[|dict\[|is-instance")
"""Names that pydantic gives to the branches of a union."""


def explain(error: ValidationError, tree: object) -> tuple[str, str]:
    """Return the first problem of `tree`: (field as `turns.silence_ms`, sentence)."""
    return explained(error.errors(include_url=False)[0], tree)


def explained(fault: ErrorDetails, tree: object) -> tuple[str, str]:
    """Return the same for one fault of an error.

    pydantic's own messages are for programmers, and its field paths also contain the branches of unions.
    """
    field = ".".join(_fields(tree, fault["loc"]))
    return field, sentence(field, fault["type"], fault.get("ctx", {}), fault["msg"])


def _fields(node: object, place: tuple[int | str, ...]) -> Iterator[str]:
    for number, part in enumerate(place):
        try:
            node = node[part]  # type: ignore[index]  # the input can be anything
        except (LookupError, TypeError):
            if number < len(place) - 1 or BRANCH.match(str(part)):
                continue  # a union's branch
        yield str(part)


def sentence(field: str, kind: str, limits: Mapping[str, Any], otherwise: str) -> str:
    name = field or "The message"
    match kind:
        case "extra_forbidden":
            return f"There is no field named {name}."
        case "union_tag_invalid":
            return f"{name}.type must be {limits['expected_tags'].replace(', ', ' or ')}."
        case "union_tag_not_found":
            return f"{name}.type is missing."
        case "missing":
            return f"{name} is missing."
        case "greater_than_equal":
            return f"{name} must be at least {limits['ge']}."
        case "less_than_equal":
            return f"{name} must be at most {limits['le']}."
        case "literal_error":
            return f"{name} must be {limits['expected'].replace('True', 'true').replace('False', 'false')}."
        case "string_too_long":
            return f"{name} may have at most {limits['max_length']} characters."
        case "string_too_short" | "too_short":
            return f"{name} must not be empty."
        case "string_unicode":
            return f"{name} contains a broken character: type it again."
        case "too_long" if limits["max_length"] == 0:
            return f"{name} must be empty, because it is not supported here."
        case "too_long":
            return f"{name} may have at most {limits['max_length']} entries."
        case "string_pattern_mismatch":
            use = USABLE.get(limits["pattern"], "letters, digits, hyphens and underscores")
            return f"{name} has a character that cannot be used here, or is too long: use {use}."
        case "none_required":
            return f"{name} is not supported here; leave it out."
        case "value_error":
            return f"{name}: {limits['error']}."
        case "bool_parsing" | "bool_type":
            return f"{name} must be true or false."
        case "int_parsing" | "int_type" | "int_from_float":
            return f"{name} must be a whole number."
        case "float_parsing" | "float_type" | "finite_number":
            return f"{name} must be a number."
        case "string_type":
            return f"{name} must be text."
        case "list_type":
            return f"{name} must be a list."
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{name} must be an object with fields."
    if kind.startswith("date"):
        return f"{name} must be a date such as 2026-05-31."
    return f"{name} has a value that cannot be used here ({otherwise[:1].lower()}{otherwise[1:]})."
