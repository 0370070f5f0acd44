"""Reads the header of a GGUF file before anything loads it: which model it is, how large, and whether it is complete.

The format is llama.cpp's (ggml-org/ggml, docs/gguf.md): a magic word, counts, keys and values, then a name, a shape, a
type and an offset for each tensor, and the tensors. A file comes from others, so every length in it is checked.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from pipeline.engine import EngineError

_SCALARS = dict(enumerate(("<B", "<b", "<H", "<h", "<I", "<i", "<f", "<?", "", "", "<Q", "<q", "<d")))
"""struct formats of GGUF's value types, by number."""
_STRING, _ARRAY = 8, 9

_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36),
}  # fmt: skip
"""For each tensor type: numbers per block, and bytes per block (ggml/src/ggml-common.h)."""

_LONGEST = 64 << 20
"""Most bytes of a string and most items of an array. A template has some 10 kB, a vocabulary 300,000 tokens."""


@dataclass(frozen=True, slots=True)
class Header:
    values: dict[str, Any]
    """The keys and values, without the arrays."""
    parameters: int
    weight_bytes: int

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", ""))

    @property
    def chat_template(self) -> str:
        return str(self.values.get("tokenizer.chat_template", ""))

    @property
    def context(self) -> int | None:
        """The context in tokens that the model was trained for."""
        return self._number("context_length")

    def token_bytes(self) -> int:
        """Return the memory in bytes for the keys and values of one token, in half precision."""
        width, heads = self._number("embedding_length") or 0, self._number("attention.head_count") or 1
        key, value = (self._number(f"attention.{name}_length") or width // heads for name in ("key", "value"))
        layers, kept = self._number("block_count") or 0, self._number("attention.head_count_kv") or heads
        return 2 * layers * kept * (key + value)

    def _number(self, name: str) -> int | None:
        value = self.values.get(f"{self.architecture}.{name}")
        return value if isinstance(value, int) and value > 0 else None


def read(file: Path) -> Header:
    """Read the header; takes some 0.2 s if the vocabulary is large.

    Raises EngineError, with one sentence, if the file is not a complete GGUF file.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as content:
            if content.read(4) != b"GGUF":
                raise EngineError(f"{file.name} is not a GGUF file: choose one whose name ends in .gguf.")
            with mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _header(Reader(data), file.name, size)
    except OSError as error:
        raise EngineError(f"{file} cannot be read ({error.strerror}): choose another file.") from error
    except (struct.error, _CutShort) as error:
        raise EngineError(f"{file.name} is incomplete: download it again.") from error
    except (ValueError, KeyError, ZeroDivisionError) as error:
        raise EngineError(f"{file.name} is not a valid GGUF file ({error}): download it again.") from error


class _CutShort(Exception):
    """The file ends before the content that it announces."""


class Reader:
    """Reads what follows the magic word, value by value. Raises struct.error, ValueError, KeyError and _CutShort."""

    def __init__(self, data: mmap.mmap | bytes) -> None:
        self._data, self.at = data, 4

    def one(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._data, self.at)
        self.at += struct.calcsize(form)
        return value

    def skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self._data):
            raise _CutShort

    def length(self) -> int:
        length = int(self.one("<Q"))
        if length > _LONGEST:
            raise ValueError(f"a length of {length}")
        return length

    def text(self) -> str:
        begin = self.at + 8
        self.skip(8 + self._peek())
        return self._data[begin : self.at].decode(errors="replace")

    def value(self, kind: int) -> Any:
        """Read a value; an array is skipped and returned as None."""
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.one(_SCALARS[kind])
        inner, items = self.one("<I"), self.length()
        if inner == _STRING:
            for _ in range(items):
                self.skip(8 + self._peek())
        elif inner == _ARRAY:
            raise ValueError("an array of arrays")
        else:
            self.skip(items * struct.calcsize(_SCALARS[inner]))
        return None

    def _peek(self) -> int:
        (length,) = struct.unpack_from("<Q", self._data, self.at)
        if length > _LONGEST:
            raise ValueError(f"a length of {length}")
        return int(length)


def _header(reader: Reader, name: str, size: int) -> Header:
    version = reader.one("<I")
    if version not in (2, 3):
        raise EngineError(f"{name} is a GGUF file of version {version}, but Parley reads only 2 and 3: choose another.")
    tensors, pairs = reader.length(), reader.length()
    values: dict[str, Any] = {}
    for _ in range(pairs):
        key = reader.text()
        value = reader.value(reader.one("<I"))
        if value is not None:
            values[key] = value
    parameters = weights = end = 0
    for _ in range(tensors):
        reader.text()
        dimensions = reader.one("<I")
        if dimensions > 8:
            raise ValueError(f"a tensor of {dimensions} dimensions")
        numbers = prod(reader.one("<Q") for _ in range(dimensions))
        block, block_bytes = _BLOCKS.get(reader.one("<I"), (1, 0))  # a type newer than this table counts as nothing
        taken = numbers // block * block_bytes
        parameters, weights, end = parameters + numbers, weights + taken, max(end, reader.one("<Q") + taken)
    alignment = int(values.get("general.alignment", 32))
    whole = -(-reader.at // alignment) * alignment + end
    if size < whole:
        have, announced = f"{size / 1e6:.0f}", f"{whole / 1e6:.0f} MB"
        raise EngineError(f"{name} is cut short: {have} of its {announced} are here; fetch it again.")
    return Header(values, parameters, weights)
