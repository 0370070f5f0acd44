"""Whether tests of MLX can run: where it is installed, unless SKIP_MLX_TESTS=1."""

from __future__ import annotations

import os

import pytest

__all__ = ["need_mlx"]


def need_mlx() -> None:
    """Skips the module that is being collected, and says why."""
    if os.environ.get("SKIP_MLX_TESTS") == "1":
        pytest.skip("SKIP_MLX_TESTS=1", allow_module_level=True)
    pytest.importorskip("mlx.core", reason="MLX is not installed", exc_type=ImportError)
