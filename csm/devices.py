"""Which of the available devices CSM runs on.

"cpu", "cuda" and "mps" are PyTorch's; "mlx" is Apple's own library on the GPU of a Mac (csm/backends/mlx).
"""

from __future__ import annotations

import importlib.util
import platform
import sys
import warnings
from dataclasses import dataclass

import torch

from .backends.eager import Engine
from .errors import DeviceMissing
from .model import Csm, CsmConfig, TransformerConfig

__all__ = ["MLX_MISSING", "Machine", "agrees_with_the_cpu", "choose_device", "has_mlx", "pick_device"]

MLX_MISSING = "MLX, which runs on the GPU of a Mac with Apple silicon, is not installed"


@dataclass(frozen=True)
class Machine:
    """What a machine offers. cuda: PyTorch can use an NVIDIA GPU; mlx: the package is installed; mps: PyTorch can use
    the GPU of a Mac, and gets the same results there as on the CPU."""

    cuda: bool = False
    apple_silicon: bool = False
    mlx: bool = False
    mps: bool = False

    @classmethod
    def here(cls) -> Machine:
        """Describe this machine. Only if the choice depends on it, compute on PyTorch's MPS for a second or two."""
        apple = sys.platform == "darwin" and platform.machine() == "arm64"
        mlx = has_mlx()
        mps = apple and not mlx and torch.backends.mps.is_available() and agrees_with_the_cpu(torch.device("mps"))
        return cls(torch.cuda.is_available(), apple, mlx, mps)


def has_mlx() -> bool:
    """Whether the package mlx is installed."""
    return importlib.util.find_spec("mlx") is not None


def choose_device(asked: str | torch.device | None, machine: Machine) -> str:
    """Return the requested device; for None or "auto", the fastest one that works correctly. If "cuda" is requested but
    missing, warn and use the CPU. Raises DeviceMissing for "mlx" without MLX.
    """
    name = "auto" if asked is None else str(asked)
    if name == "auto":
        if machine.cuda:
            return "cuda"
        if machine.apple_silicon and machine.mlx:
            return "mlx"
        return "mps" if machine.mps else "cpu"
    if name.startswith("cuda") and not machine.cuda:
        warnings.warn("There is no CUDA GPU here: CSM runs on the CPU.", stacklevel=5)
        return "cpu"
    if name == "mlx" and not machine.mlx:
        raise DeviceMissing(f'{MLX_MISSING}: pip install "parley-csm[mlx]", or leave the device out.')
    return name


def pick_device(device: str | torch.device | None) -> torch.device:
    """Return PyTorch's device for work that only PyTorch can do, such as training: the requested or the best one.

    Raises DeviceMissing for "mlx".
    """
    if device == "mlx":
        raise DeviceMissing("This runs on PyTorch only: use cpu, cuda or mps instead of mlx.")
    machine = Machine(cuda=torch.cuda.is_available())
    return torch.device(choose_device(device, machine))


def agrees_with_the_cpu(device: torch.device) -> bool:
    """Whether a small model with random weights gives the same codes on the device as on the CPU.

    CSM's output was reported as noise on Apple's MPS (SesameAILabs/csm#88), and not every PyTorch supports all
    operations.
    """
    stack = TransformerConfig(layers=2, heads=4, kv_heads=2, dim=128, ffn=192, context=64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Csm(CsmConfig(stack, stack, text_vocab_size=16, audio_vocab_size=67, audio_codebooks=8))
    model.requires_grad_(False)
    rows = torch.arange(12 * 9).view(12, 9) % 16

    def said(there: torch.device) -> torch.Tensor:
        engine = Engine(model.to(there))
        engine.prefill([rows])
        return torch.cat([engine.next_frame(0, 1).cpu() for _ in range(4)])

    expected = said(torch.device("cpu"))
    try:
        return torch.equal(said(device), expected)
    except (RuntimeError, NotImplementedError):  # the device lacks an operation
        return False
