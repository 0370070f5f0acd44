"""PyTorch and the graphics card: using a card needs a build for CUDA, and a driver new enough for it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from config.hardware import Gpu
from pipeline.engine import EngineError

OLDEST_DRIVER: Mapping[int, int] = MappingProxyType({11: 450, 12: 525, 13: 580})
"""By CUDA's major version, the oldest driver that runs all its minor versions (NVIDIA, "CUDA Compatibility")."""

_ASK = """
import json, sys, warnings
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    import torch
    available = torch.cuda.is_available()
said = " ".join(str(told[-1].message).split()) if told else ""
json.dump({"version": torch.__version__, "cuda": torch.version.cuda, "available": available, "said": said}, sys.stdout)
"""
_PATIENCE_S = 100.0
"""Seconds; the first import of PyTorch reads gigabytes."""


@dataclass(frozen=True, slots=True)
class Torch:
    version: str
    cuda: str | None
    """The version of CUDA that it was built for, if any."""
    available: bool
    """Whether it finds a card that it can use."""
    said: str = ""
    """Its own explanation if it does not."""


async def ask_torch() -> Torch:
    """Ask PyTorch in a separate process, because this one imports nothing heavy. Raises EngineError."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _ASK, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(_PATIENCE_S):
            said, _ = await process.communicate()
        return Torch(**json.loads(said))
    except (TimeoutError, ValueError) as error:
        raise EngineError("PyTorch cannot be used: run `python3 setup.py` to repair the installation.") from error
    finally:
        if process.returncode is None:
            process.kill()


def trouble(gpu: Gpu, torch: Torch) -> str:
    """Say in whole sentences why PyTorch does not use the card, and what to do; empty if it does."""
    if torch.available:
        return ""
    if torch.cuda is None:
        return (
            f"PyTorch was installed without CUDA, so it cannot use the {gpu.name}: delete the folder .venv and run "
            "`python3 setup.py`, which then installs the build for CUDA."
        )
    wanted = OLDEST_DRIVER.get(int(torch.cuda.partition(".")[0]), 0)
    driver = gpu.driver.partition(".")[0]
    if driver.isdigit() and int(driver) < wanted:
        return (
            f"NVIDIA’s driver {gpu.driver} is too old for PyTorch’s CUDA {torch.cuda}: update the driver to {wanted} "
            "or later and restart the computer."
        )
    said = f" ({torch.said[:160]})" if torch.said else ""
    return (
        f"PyTorch does not find the {gpu.name}{said}: restart the computer, and if that does not help, reinstall "
        "NVIDIA’s driver."
    )
