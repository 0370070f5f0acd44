"""The doctor's measurements of the voice on this machine, kept for the precision "auto".

It is measured by the doctor, when nothing else runs, and not when the voice is first loaded: then every other engine is
loading too, and the wrong choice would be kept.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

KEEPS_PACE = 0.9
"""Real-time factor up to which a voice speaks without pauses, with room for what else the computer does."""

FINEST_FIRST = ("bf16", "int8", "int4")
"""Those to choose among on a processor."""


def keep(data: Path, model: str, factors: Mapping[str, float]) -> None:
    """Write down the real-time factors of a model in precisions, measured on this machine."""
    file = _file(data)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps({"machine": machine(), "model": model, "factors": dict(factors)}), encoding="utf-8")
    beside.replace(file)


def chosen(data: Path, model: str) -> str | None:
    """The finest precision that keeps pace on this machine's processor; None where none was measured that does."""
    try:
        kept = json.loads(_file(data).read_text(encoding="utf-8"))
        if (kept["machine"], kept["model"]) != (machine(), model):
            return None
        return next((name for name in FINEST_FIRST if float(kept["factors"].get(name, 9.9)) <= KEEPS_PACE), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # it is measured again at the next check


def machine() -> str:
    """Enough of a description to tell another computer, to which the data folder was moved."""
    return f"{platform.node()} {platform.machine()} {os.cpu_count()}"


def _file(data: Path) -> Path:
    return data / "voice-speed.json"
