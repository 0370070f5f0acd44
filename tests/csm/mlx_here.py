"""Whether tests on a Mac's own GPU can run: by MLX, where it is installed, unless SKIP_MLX_TESTS=1; by PyTorch's MPS.

On a virtual Mac, as GitHub's are, they do not: its GPU is a stand-in that other projects saw add up otherwise, refuse
memory (actions/runner-images#9918) and end the process (ml-explore/mlx#31).
"""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import import_module

import pytest
import torch

__all__ = ["mlx_is_here", "mps_is_here", "need_mlx"]


def mlx_is_here() -> bool:
    if os.environ.get("SKIP_MLX_TESTS") == "1" or _is_virtual_mac():
        return False
    try:
        import_module("mlx.core")
    except ImportError:  # not installed, or for another system
        return False
    return True


def need_mlx() -> None:
    """Skips the module that is being collected, and says why."""
    if not mlx_is_here():
        pytest.skip("MLX is not installed, or SKIP_MLX_TESTS=1", allow_module_level=True)


def mps_is_here() -> bool:
    return torch.backends.mps.is_available() and not _is_virtual_mac()


def _is_virtual_mac() -> bool:
    if platform.system() != "Darwin":
        return False
    told = subprocess.run(["sysctl", "-n", "kern.hv_vmm_present"], capture_output=True, text=True, check=False)
    return told.stdout.strip() == "1"
