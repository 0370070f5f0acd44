"""Which clips are used in which step. This follows from the seed and the step alone, so that a training can stop at any
moment and continue as if it had not."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["Order", "generator_of", "seed_of"]

BUCKET = 32
"""Batches within which clips are sorted by length: a batch is padded to its longest clip, yet stays nearly random."""


class Order:
    """Clips of the given lengths in batches of `batch`, epoch after epoch, each in a different order."""

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths, self._batch, self._seed = lengths, batch, seed
        self._epoch, self._batches = -1, list[list[int]]()
        self.batches = -(-len(lengths) // batch)
        """The number of batches in an epoch."""

    def __getitem__(self, number: int) -> list[int]:
        """The clips of batch 0, 1, …, counted through all epochs."""
        epoch, index = divmod(number, self.batches)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffled(epoch)
        return self._batches[index]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        draw = generator_of(self._seed, epoch)
        clips = torch.randperm(len(self._lengths), generator=draw).tolist()
        size = self._batch * BUCKET
        buckets = [sorted(clips[at : at + size], key=self._lengths.__getitem__) for at in range(0, len(clips), size)]
        ordered = [clip for bucket in buckets for clip in bucket]
        batches = [ordered[at : at + self._batch] for at in range(0, len(ordered), self._batch)]
        return [batches[index] for index in torch.randperm(len(batches), generator=draw).tolist()]


def generator_of(seed: int, *place: int) -> torch.Generator:
    """A random generator for a place in the training, independent of earlier draws."""
    return torch.Generator().manual_seed(seed_of(seed, *place))


def seed_of(seed: int, *place: int) -> int:
    """A different seed for each place."""
    for number in place:
        seed = (seed * 1_000_003 + number + 1) % (1 << 63)
    return seed
