"""Where this project lies, and where its data does unless another folder is named."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
"""Settings, memory, voices, logs."""
