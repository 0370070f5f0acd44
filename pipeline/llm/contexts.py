"""Keeps the keys and values of what a language model has recently read, so that a prompt that begins the same is
prefilled only from where it differs.

Nothing is copied: transformers' DynamicCache makes new tensors as it grows, so old tensors that are still referenced
stay as they were. The next reply can therefore start from one that is still being written.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import count, takewhile
from typing import Any

KEPT = 4
"""Contexts kept: the last ones of one conversation, or of several."""


class Context:
    """Tokens that were read or written, and the cache of their keys and values."""

    def __init__(self, tokens: list[int], cache: Any, contexts: Contexts, number: int) -> None:
        self.tokens = tokens
        self.cache = cache
        self._contexts, self._number = contexts, number

    def read(self, tokens: Sequence[int]) -> None:
        """Note that the model has read these tokens, and that the cache has them."""
        self.tokens += tokens
        self._contexts.keep(self._number, self.tokens, self.cache)


class Contexts:
    def __init__(self, config: Any) -> None:
        """`config` is the model's configuration."""
        self._config = config
        self._kept: dict[int, tuple[list[int], list[tuple[Any, Any]]]] = {}
        """By number, newest last: the tokens, and each layer's keys and values [1, heads, tokens, dim]."""
        self._numbers = count()
        self._one_at_a_time = threading.Lock()

    def begin(self, prompt: Sequence[int]) -> Context:
        """Begin a context with as much of the prompt as any kept one has read; the last token is always left unread."""
        from transformers import DynamicCache

        with self._one_at_a_time:
            same = {number: shared(tokens, prompt[:-1]) for number, (tokens, _) in self._kept.items()}
            best = max(same, key=lambda number: same[number], default=None)
            have = 0 if best is None else same[best]
            layers: list[tuple[Any, Any]] = []
            if best is not None and have:
                tokens, layers = self._kept[best]
                if 2 * have > len(tokens):  # the same conversation continues
                    del self._kept[best]
            number = next(self._numbers)
            self._kept[number] = [], []
            while len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
        beginning = [(keys[:, :, :have], values[:, :, :have]) for keys, values in layers]
        cache = DynamicCache(ddp_cache_data=beginning or None, config=self._config)
        return Context(list(prompt[:have]), cache, self, number)

    def forget(self) -> None:
        """Drop everything that is kept; replies being written go on."""
        with self._one_at_a_time:
            self._kept.clear()

    def keep(self, number: int, tokens: Sequence[int], cache: Any) -> None:
        """Keep a context, unless it has layers that cannot be cut anywhere: with a sliding window or with a state."""
        from transformers.cache_utils import DynamicLayer

        if all(type(layer) is DynamicLayer for layer in cache.layers):
            with self._one_at_a_time:
                if number in self._kept:
                    self._kept[number] = list(tokens), [(layer.keys, layer.values) for layer in cache.layers]


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the common beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
