"""The folder of this project, and the default folder for its data."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
"""Settings, memory, voices, logs."""
