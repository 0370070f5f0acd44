"""Cut long recordings into clips where the speaker pauses.

A clip of 3 to 15 seconds holds a sentence or two: long enough to show a voice, short enough for a batch. Cutting at a
fixed length, as others do, ends clips in the middle of a word while their text goes on.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["BLOCK", "LONGEST", "SHORTEST", "levels", "longest_silence", "pauses", "pieces", "trimmed"]

SHORTEST, LONGEST = 1.0, 30.0
"""Shortest and longest clip that is accepted, in seconds."""
GOOD_FROM, GOOD_TO = 3.0, 15.0
"""Range of clip lengths, in seconds, in which a pause is chosen as the end."""
PAUSE = 0.3
"""Shortest pause, in seconds; shorter silences occur within words and phrases."""
MARGIN = 0.2
"""Seconds of silence kept at both ends of a clip, so that no breath or final consonant is lost."""
BLOCK = 0.02
"""Seconds over which loudness is measured."""
QUIET = -60.0
"""dB of full scale; anything quieter is silent in any recording."""
BELOW_SPEECH = (35.0, 20.0)
"""dB below the loud parts of a recording. Below the first it is always silent; above the second it is always voice,
whatever the noise."""
ABOVE_NOISE = 6.0
"""dB above the quietest twentieth of a recording, which is its pauses. Noise in a pause may rise to this level."""


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
    """Silences of at least `shortest` seconds, as pairs of first and last sample."""
    size = round(BLOCK * rate)
    marks = torch.nn.functional.pad(silent(samples, rate).int(), (1, 1)).diff().nonzero().flatten().tolist()
    spans = [(first * size, last * size) for first, last in zip(marks[::2], marks[1::2], strict=True)]
    return [(first, last) for first, last in spans if last - first >= shortest * rate]


def longest_silence(samples: Tensor, rate: int) -> float:
    """The length of the longest silence, in seconds."""
    return max(((last - first) / rate for first, last in pauses(samples, rate, BLOCK)), default=0.0)


def trimmed(samples: Tensor, rate: int) -> tuple[int, int]:
    """The range of samples that holds voice, with a margin; (0, 0) if there is none."""
    size, margin = round(BLOCK * rate), round(MARGIN * rate)
    voiced = (~silent(samples, rate)).nonzero().flatten().tolist()
    if not voiced:
        return 0, 0
    return max(0, voiced[0] * size - margin), min(len(samples), (voiced[-1] + 1) * size + margin)


def pieces(samples: Tensor, rate: int) -> list[tuple[int, int]]:
    """Cut a recording of any length into clips, as ranges of samples. Each clip ends at a pause: the longest one
    between 3 and 15 s after its start, or otherwise the next one. If nobody pauses for 30 s, the clip ends a little
    after that, and the caller must reject it."""
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
