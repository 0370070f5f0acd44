"""The doctor's measurements of the voice on this machine, kept for the precision "auto".

The doctor measures when nothing else runs. Measuring when the voice is first loaded would keep the wrong choice,
because all other engines are loading at that time.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

KEEPS_PACE = 0.9
"""Real-time factor up to which a voice speaks without pauses, with some reserve for other programs."""

FINEST_FIRST = ("bf16", "int8", "int4")
"""The precisions to choose from on a CPU."""


def keep(data: Path, model: str, factors: Mapping[str, float]) -> None:
    """Store a model's real-time factors by precision, measured on this machine."""
    file = _file(data)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps({"machine": machine(), "model": model, "factors": dict(factors)}), encoding="utf-8")
    beside.replace(file)


def chosen(data: Path, model: str) -> str | None:
    """Return the finest precision that keeps up on this machine's CPU; None if none is known to."""
    try:
        kept = json.loads(_file(data).read_text(encoding="utf-8"))
        if (kept["machine"], kept["model"]) != (machine(), model):
            return None
        return next((name for name in FINEST_FIRST if float(kept["factors"].get(name, 9.9)) <= KEEPS_PACE), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # the next check measures it again


def machine() -> str:
    """Describe this computer well enough to notice that the data folder was moved to another one."""
    return f"{platform.node()} {platform.machine()} {os.cpu_count()}"


def _file(data: Path) -> Path:
    return data / "voice-speed.json"
