"""Long recordings, cut into clips where the speaker pauses.

A clip of 3 to 15 seconds holds a sentence or two: long enough to be a voice, short enough for a batch. What others cut
at a fixed length ends in the middle of a word, under a text that goes on.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["BLOCK", "LONGEST", "SHORTEST", "levels", "longest_silence", "pauses", "pieces", "trimmed"]

SHORTEST, LONGEST = 1.0, 30.0
"""Seconds that a clip may have at all."""
GOOD_FROM, GOOD_TO = 3.0, 15.0
"""Seconds between which a pause is taken."""
PAUSE = 0.3
"""Seconds; shorter ones lie within words and phrases."""
MARGIN = 0.2
"""Seconds of silence that a clip keeps at its ends, so that no breath and no last consonant is lost."""
BLOCK = 0.02
"""Seconds over which loudness is measured."""
QUIET = -60.0
"""dB of full scale; what is below it is silent in any recording."""
BELOW_SPEECH = (35.0, 20.0)
"""dB below the loud parts of a recording: silent from the first on, and voice up to the second, whatever the noise."""
ABOVE_NOISE = 6.0
"""dB above the softest twentieth of a recording, which is its pauses: as loud as a room's noise may become in them."""


def levels(samples: Tensor, rate: int) -> Tensor:
    """Loudness of each whole block of float [samples], in dB of full scale: float32 [blocks]."""
    size = round(BLOCK * rate)
    blocks = samples[: len(samples) // size * size].reshape(-1, size)
    return 20 * blocks.pow(2).mean(dim=1).sqrt().clamp(min=1e-6).log10()


def silent(samples: Tensor, rate: int) -> Tensor:
    """Which blocks hold no voice: bool [blocks]."""
    loudness = levels(samples, rate)
    if not len(loudness):
        return torch.ones(0, dtype=torch.bool)
    noise, speech = (float(level) for level in loudness.quantile(torch.tensor([0.05, 0.9])))
    surely, hardly = (speech - below for below in BELOW_SPEECH)
    return loudness < max(surely, min(noise + ABOVE_NOISE, hardly), QUIET)


def pauses(samples: Tensor, rate: int, shortest: float = PAUSE) -> list[tuple[int, int]]:
    """Silences of at least `shortest` seconds, as samples from … to."""
    size = round(BLOCK * rate)
    marks = torch.nn.functional.pad(silent(samples, rate).int(), (1, 1)).diff().nonzero().flatten().tolist()
    spans = [(first * size, last * size) for first, last in zip(marks[::2], marks[1::2], strict=True)]
    return [(first, last) for first, last in spans if last - first >= shortest * rate]


def longest_silence(samples: Tensor, rate: int) -> float:
    """Seconds."""
    return max(((last - first) / rate for first, last in pauses(samples, rate, BLOCK)), default=0.0)


def trimmed(samples: Tensor, rate: int) -> tuple[int, int]:
    """From where to where there is a voice, with a margin: samples from … to; (0, 0) if there is none."""
    size, margin = round(BLOCK * rate), round(MARGIN * rate)
    voiced = (~silent(samples, rate)).nonzero().flatten().tolist()
    if not voiced:
        return 0, 0
    return max(0, voiced[0] * size - margin), min(len(samples), (voiced[-1] + 1) * size + margin)


def pieces(samples: Tensor, rate: int) -> list[tuple[int, int]]:
    """A recording of any length as clips, samples from … to: each ends at a pause, the longest there is between 3 and
    15 s from where it begins. Where nobody pauses for 30 s it ends there, and is for the caller to refuse."""
    start, end = trimmed(samples, rate)
    breaks = [(first, last) for first, last in pauses(samples, rate) if start < first and last < end]
    found = []
    while end - start > GOOD_TO * rate:
        within = [span for span in breaks if start + GOOD_FROM * rate <= span[0] <= start + GOOD_TO * rate] or [
            span for span in breaks if start + GOOD_TO * rate < span[0] <= start + LONGEST * rate
        ][:1]
        if not within:
            cut = min(end, start + round((LONGEST + 0.1) * rate))
            found.append((start, cut))
            start = cut
            continue
        first, last = max(within, key=lambda span: span[1] - span[0])
        margin = min(round(MARGIN * rate), (last - first) // 2)
        found.append((start, first + margin))
        start = last - margin
    return [*found, (start, end)] if end > start else found
