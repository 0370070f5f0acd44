"""What examples use of torchaudio, on soundfile and soxr: torchaudio itself is no dependency here."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import soundfile
import soxr
import torch
from torch import Tensor


def load(path: str | Path) -> tuple[Tensor, int]:
    """A recording as float32 [channels, samples], and its rate."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return torch.from_numpy(samples.T), rate


def save(path: str | Path, audio: Tensor, sample_rate: int) -> None:
    """float [channels, samples] into a file."""
    soundfile.write(path, audio.T.numpy(), sample_rate)


def resample(audio: Tensor, orig_freq: int, new_freq: int) -> Tensor:
    """float [samples] at another rate."""
    return torch.from_numpy(soxr.resample(audio.numpy(), orig_freq, new_freq))


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """`import torchaudio` then finds the stand-in."""
    module, functional = ModuleType("torchaudio"), ModuleType("torchaudio.functional")
    functional.resample = resample  # type: ignore[attr-defined]
    module.load, module.save, module.functional = load, save, functional  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchaudio", module)
    monkeypatch.setitem(sys.modules, "torchaudio.functional", functional)
