"""Something valid, changed at random as nobody would write it: by a seed, so that what failed once fails again."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Sequence
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, math.nan, math.inf, -math.inf),
    *("", " ", "0", "null", "a\ud800b", "\0", "\x1b[2J", "\r\n\r\n", "../../x", "a/b", "%00", "…" * 2000, "x" * 70_000),
    *("<|im_end|>", "http://[::1", "\N{RIGHT-TO-LEFT OVERRIDE}x", "[[[[[[", "{", "é\N{COMBINING ACUTE ACCENT}"),
    *([], {}, [None], [[]], {"": None}, {"type": []}, [1, "a", {}], {"a\udfff": 1}),
)  # fmt: skip


class Fuzz:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def tree(self, valid: Any) -> Any:
        """One to three of its values, or names, are others."""
        tree = copy.deepcopy(valid)
        for _ in range(self.random.randint(1, 3)):
            tree = self._changed(tree)
        return tree

    def text(self, valid: Any) -> str:
        """The same as JSON, which need not be that any more: NaN, names that come twice, half characters, cut off."""
        text = json.dumps(self.tree(valid))
        match self.random.randrange(12):
            case 0:
                return text[: self.random.randrange(len(text) + 1)]
            case 1:
                return text.replace("{", '{"type": 1, ', 1)
            case 2:
                return "[" * 5000 + text
            case 3:
                return json.dumps(text)
        return text

    def bytes(self, valid: bytes, most: int = 8) -> bytes:
        """Some of its bytes are others, are gone, or are there twice."""
        data = bytearray(valid)
        for _ in range(self.random.randint(1, most)):
            at, length = self.random.randrange(len(data) + 1), self.random.choice((1, 1, 1, 4, 40))
            match self.random.randrange(5):
                case 0:
                    del data[at : at + length]
                case 1:
                    data[at:at] = data[at : at + length]
                case 2:
                    data[at : at + length] = b"\xff" * length
                case 3:
                    data[at : at + length] = bytes(length)
                case _:
                    data[at : at + 1] = self.random.randbytes(1)
        return bytes(data)

    def one_of(self, things: Sequence[Any]) -> Any:
        return self.random.choice(things)

    def _changed(self, tree: Any) -> Any:
        if self.random.random() < 0.15 or not isinstance(tree, dict | list) or not tree:
            return copy.deepcopy(self.random.choice(ODD))
        if isinstance(tree, list):
            at = self.random.randrange(len(tree))
            match self.random.randrange(4):
                case 0:
                    return tree[:at] + tree[at + 1 :]
                case 1:
                    return tree * self.random.choice((2, 40))
            tree[at] = self._changed(tree[at])
            return tree
        name = self.random.choice(list(tree))
        match self.random.randrange(6):
            case 0:
                del tree[name]
            case 1:
                tree[str(self.random.choice(ODD))[:50]] = tree[name]
            case _:
                tree[name] = self._changed(tree[name])
        return tree
