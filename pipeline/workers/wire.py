"""The encoding of messages between an engine and its users across a network: data, never code.

A message is JSON preceded by its length in four bytes, followed by the arrays it refers to. Types that JSON lacks are
objects with one key: {"array": [type, shape]}, {"tuple": […]}, {"dict": {…}}, and a dataclass by its name,
{"Spoken": […]}, if both ends were given that class beforehand.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

PROTOCOL = 1
"""The version of the messages and of the engine methods they name. Increment it when either changes, so that a gateway
reports an older or newer cluster at its start, not in the middle of a conversation."""

_LENGTH = struct.Struct("!I")

_TYPES = frozenset({"float32", "float64", "int16", "int32", "int64", "uint8", "bool"})

LARGEST = 16 << 20
"""Bytes of a message that Ray Serve's proxy accepts: the default of uvicorn, its server."""


class WireError(ValueError):
    """A message that cannot be sent, or that is not one of ours."""


class Wire:
    def __init__(self, kinds: Iterable[type] = ()) -> None:
        """Args: kinds: the dataclasses that may be sent."""
        self._kinds: Mapping[str, type] = MappingProxyType({kind.__name__: kind for kind in kinds})

    def encoded(self, value: object) -> bytes:
        """Encode a value. Raises WireError if it is not data."""
        arrays: list[bytes] = []
        text = json.dumps(self._plain(value, arrays), separators=(",", ":")).encode()
        message = b"".join([_LENGTH.pack(len(text)), text, *arrays])
        if len(message) > LARGEST:
            raise WireError(f"{len(message) >> 20} MB are too many for one message.")
        return message

    def decoded(self, message: bytes) -> Any:
        """Decode a message. Raises WireError."""
        try:
            (length,) = _LENGTH.unpack_from(message)
            text = message[_LENGTH.size : _LENGTH.size + length]
            rest = _Rest(message, _LENGTH.size + length)
            value = self._rich(json.loads(text), rest)
        except (ValueError, TypeError, KeyError, RecursionError, struct.error) as error:
            raise WireError(f"A message cannot be read ({type(error).__name__}).") from error
        if rest.at != len(message):
            raise WireError("A message is longer than it says.")
        return value

    def _plain(self, value: object, arrays: list[bytes]) -> object:
        if value is None or isinstance(value, str | bool | int | float):
            return value
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.ndarray) and value.dtype.name in _TYPES:
            arrays.append(np.ascontiguousarray(value).tobytes())
            return {"array": [value.dtype.name, list(value.shape)]}
        if isinstance(value, list):
            return [self._plain(each, arrays) for each in value]
        if isinstance(value, tuple):
            return {"tuple": [self._plain(each, arrays) for each in value]}
        if isinstance(value, Mapping):
            return {"dict": {str(name): self._plain(each, arrays) for name, each in value.items()}}
        name = type(value).__name__
        if is_dataclass(value) and self._kinds.get(name) is type(value):
            return {name: [self._plain(getattr(value, field.name), arrays) for field in fields(value)]}
        raise WireError(f"A {name} cannot be sent to another machine.")

    def _rich(self, value: Any, rest: _Rest) -> Any:
        if isinstance(value, list):
            return [self._rich(each, rest) for each in value]
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        match kind:
            case "array":
                return rest.array(*content)
            case "tuple":
                return tuple(self._rich(each, rest) for each in content)
            case "dict":
                return {name: self._rich(each, rest) for name, each in content.items()}
        return self._kinds[kind](*(self._rich(each, rest) for each in content))


class _Rest:
    """The bytes after the JSON."""

    def __init__(self, message: bytes, at: int) -> None:
        self._message = message
        self.at = at

    def array(self, type: str, shape: list[int]) -> np.ndarray[Any, Any]:
        if type not in _TYPES or not all(isinstance(size, int) and size >= 0 for size in shape):
            raise WireError(f"There is no array of {type!r} and {shape!r}.")
        count = math.prod(shape)
        array = np.frombuffer(self._message, type, count, self.at).reshape(shape)
        self.at += array.nbytes
        return array.copy()  # a copy, since the array may be written to and outlives the message
