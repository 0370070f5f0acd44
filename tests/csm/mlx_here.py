"""Whether tests of MLX can run: where it is installed, unless SKIP_MLX_TESTS=1."""

from __future__ import annotations

import os
from importlib import import_module

import pytest

__all__ = ["mlx_is_here", "need_mlx"]


def mlx_is_here() -> bool:
    if os.environ.get("SKIP_MLX_TESTS") == "1":
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
