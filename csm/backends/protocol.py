"""What computes frames, as the rest of the library sees it. Each backend has both kinds."""

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
    """`batch` sequences that advance together. `prefill`, then ask for each `next_frame`."""

    batch: int

    @property
    def config(self) -> CsmConfig: ...

    @property
    def device(self) -> torch.device:
        """Where noise is drawn."""
        ...

    @property
    def ahead(self) -> int:
        """How many frames are to be under way when one is waited for, so that the device never waits for the host."""
        ...

    def forget(self) -> None:
        """The next prompts are heard from their first row."""
        ...

    def prefill(self, prompts: Sequence[Tensor]) -> None:
        """Takes a prompt for each sequence: rows int64 [n, codebooks + 1] on the host, n of their own each."""
        ...

    def next_frame(self, temperature: float, topk: int, noise: Tensor | None = None) -> Tensor:
        """The next frame of every sequence: codes [batch, codebooks].

        noise: Exp(1) draws [batch, codebooks, codes] on `device`; None chooses the likeliest codes.
        """
        ...

    def speak_frame(
        self, decoder: StreamingDecoder, temperature: float, topk: int, noise: Tensor | None = None
    ) -> Spoken:
        """The next frame of the first sequence, and its sound; returns while they may still be under way."""
        ...


class SlotFrames(Protocol):
    """Sequences that speak in any company, each with its stream of sound (csm/batch.py lends them out)."""

    selective: bool
    """Whether a sequence in the middle of an utterance can be left out of a step."""
    noise: Tensor
    """Exp(1) draws [count, codebooks, codes], for the caller to fill before a step."""

    @property
    def length(self) -> int:
        """Rows that a sequence may hold."""
        ...

    def prefill(self, slot: int, held: Tensor, prompt: Tensor) -> None:
        """Hears a prompt from the first row on that the sequence, which holds the rows `held`, does not hold."""
        ...

    def copy(self, source: int, slot: int, first: int, last: int) -> None:
        """Takes over the keys and values of rows first..last-1 from another sequence."""
        ...

    def begin(self, slot: int, temperature: float, topk: int) -> None:
        """The next frames of this sequence are an utterance, and are chosen so."""
        ...

    def step(self, slots: Sequence[int], longest: int) -> tuple[Tensor, Tensor]:
        """The next frame of some sequences, none of which holds more than `longest` rows: codes [n, codebooks] and
        sound [n, 1920], both on the host."""
        ...
