"""The interfaces through which the rest of the library computes frames. Each backend implements both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..codec.protocol import StreamingDecoder
from ..model import CsmConfig

__all__ = ["Frames", "SlotFrames", "Spoken"]

Spoken = Callable[[], tuple[Tensor, Tensor]]
"""Waits for a frame that is under way: its codes [codebooks] and its sound, float32 [1920], on the host."""


class Frames(Protocol):
    """`batch` sequences that advance together. Call `prefill`, then `next_frame` repeatedly."""

    batch: int

    @property
    def config(self) -> CsmConfig: ...

    @property
    def device(self) -> torch.device:
        """Where noise is drawn."""
        ...

    @property
    def ahead(self) -> int:
        """How many frames should be under way when one is waited for, so that the device never waits for the host."""
        ...

    def forget(self) -> None:
        """Read the next prompts from their first row."""
        ...

    def prefill(self, prompts: Sequence[Tensor]) -> None:
        """Read a prompt for each sequence: rows int64 [n, codebooks + 1] on the host; each may have its own n."""
        ...

    def next_frame(self, temperature: float, topk: int, noise: Tensor | None = None) -> Tensor:
        """Return the next frame of every sequence: codes [batch, codebooks].

        noise: Exp(1) draws [batch, codebooks, codes] on `device`; None chooses the likeliest codes.
        """
        ...

    def speak_frame(
        self, decoder: StreamingDecoder, temperature: float, topk: int, noise: Tensor | None = None
    ) -> Spoken:
        """Compute the next frame of the first sequence, and its sound; return while they may still be under way."""
        ...


class SlotFrames(Protocol):
    """Sequences of which any subset can advance, each with its stream of sound. csm/batch.py assigns them."""

    selective: bool
    """Whether a sequence in the middle of an utterance can be left out of a step."""
    noise: Tensor
    """Exp(1) draws [count, codebooks, codes], which the caller fills before a step."""

    @property
    def length(self) -> int:
        """The most rows that a sequence may hold."""
        ...

    def prefill(self, slot: int, held: Tensor, prompt: Tensor) -> None:
        """Read a prompt from its first row that differs from `held`, the rows that the sequence holds."""
        ...

    def copy(self, source: int, slot: int, first: int, last: int) -> None:
        """Copy the keys and values of rows first..last-1 from another sequence."""
        ...

    def begin(self, slot: int, temperature: float, topk: int) -> None:
        """Begin an utterance of this sequence, with these sampling settings for its frames."""
        ...

    def step(self, slots: Sequence[int], longest: int) -> tuple[Tensor, Tensor]:
        """Return the next frame of some sequences, none of which holds more than `longest` rows: codes [n, codebooks]
        and sound [n, 1920], both on the host."""
        ...
