"""Frames, one after the other: the one place that decides how a frame is computed.

An `Engine` holds everything that stays on the device while speech is made: keys and values, the last hidden state,
positions. This one runs the model as it is; another way to compute a frame overrides `next_frame`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..model import Csm, KeyValueCache
from ..rows import common, frame_rows
from ..sampling import Chooser

__all__ = ["Engine", "prefill_new"]


class Engine:
    """`batch` sequences of up to `length` rows (default: as the model). `prefill`, then ask for each `next_frame`.

    A prompt that begins with the rows a sequence already holds is heard from the first difference on: a conversation
    that grows costs only what is new.
    """

    def __init__(self, model: Csm, batch: int = 1, length: int | None = None) -> None:
        config = model.config
        self.model, self.batch = model, batch
        self.cache, self.depth_cache = model.cache(batch, length), model.depth_cache(batch)
        self.hidden = torch.zeros(batch, config.backbone.dim, device=model.device, dtype=model.dtype)
        self.positions = torch.zeros(batch, dtype=torch.int64, device=model.device)
        self.forget()

    def forget(self) -> None:
        """The next prompts are heard from their first row, whatever the caches hold."""
        self._rows = [torch.zeros(0, self.model.config.audio_codebooks + 1, dtype=torch.int64)] * self.batch
        self._frames: list[Tensor] = []

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Tensor]) -> None:
        """Takes a prompt for each sequence: rows [n, codebooks + 1] on the host, n of their own each."""
        self._settle()
        for index, prompt in enumerate(prompts):
            # Should hearing fail half-way, nothing is known for sure of what the caches hold.
            held, self._rows[index] = self._rows[index], prompt[:0]
            self.hidden[index] = prefill_new(self.model, self.cache.rows(index, index + 1), held, prompt)
            self._rows[index] = prompt
            self.positions[index] = len(prompt)

    @torch.inference_mode()
    def next_frame(self, temperature: float, topk: int, noise: Tensor | None = None) -> Tensor:
        """The next frame of every sequence: codes [batch, codebooks], on the device.

        noise: Exp(1) draws [batch, codebooks, codes] on the device; None chooses the likeliest codes.
        """
        if self._frames:
            self.advance(self._frames[-1])
        self._frames.append(self.frame(temperature, topk, noise))
        return self._frames[-1]

    def frame(self, temperature: float, topk: int, noise: Tensor | None) -> Tensor:
        """The frame that follows the hidden state."""
        return self.model.frame(self.hidden, self.depth_cache, Chooser(temperature, topk, noise))

    def advance(self, codes: Tensor) -> None:
        """The hidden state that follows a frame."""
        longest = max(len(rows) for rows in self._rows) + len(self._frames)
        self.hidden = self.model.advance(codes, self.positions, self.cache.prefix(longest))
        self.positions += 1

    def _settle(self) -> None:
        """Counts the frames that were listened to (all but the newest) among the rows the caches hold."""
        if len(self._frames) > 1:
            frames = torch.stack(self._frames[:-1], dim=1).cpu()
            self._rows = [torch.cat((rows, frame_rows(new))) for rows, new in zip(self._rows, frames, strict=True)]
        self._frames = []


def prefill_new(model: Csm, cache: KeyValueCache, held: Tensor, prompt: Tensor) -> Tensor:
    """Hears a prompt from the first row on that the cache, of one sequence, does not hold → its last hidden state."""
    # The last row is heard anew even if it is known: what follows from it is wanted, not only its keys.
    known = min(common(held, prompt), len(prompt) - 1)
    where, rows = slice(known, len(prompt)), prompt[None, known:].to(model.device)
    return model.prefill(rows.clamp(min=0), rows >= 0, where, cache.prefix(len(prompt)))[0, -1]
