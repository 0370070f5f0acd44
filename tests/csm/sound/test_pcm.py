"""Sound as 16-bit samples."""

from __future__ import annotations

import numpy as np
import torch

from csm.sound.pcm import to_pcm16


def test_the_nearest_sample_is_taken_and_nothing_wraps_around() -> None:
    sound = torch.tensor([0.0, 0.6, -0.6, 1.4, -1.4, 1.0]) * torch.tensor([1, 1 / 32767, 1 / 32767, 1 / 32767, 1, 3])
    assert np.frombuffer(to_pcm16(sound), "<i2").tolist() == [0, 1, -1, 1, -32767, 32767]
