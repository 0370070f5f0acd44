"""What this machine has: processor, memory, graphics cards, disk, sound. It asks the system and loads no engine."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from config.cache import free_disk, hub_cache
from config.nvidia import Gpu, ask_nvidia, nvidia_cards, roomiest

__all__ = ["GB", "Gpu", "Hardware", "ask_nvidia", "in_words", "look", "resident"]

GB = 1000**3

MATTERING = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "neon")
"""Instruction sets that the speech model's and CTranslate2's kernels are written for."""


_PF_AVX2 = 40
"""PF_AVX2_INSTRUCTIONS_AVAILABLE, <winnt.h>."""


@dataclass(frozen=True, slots=True)
class Hardware:
    system: str
    """As `platform.system()`: Linux, Darwin, Windows."""
    processor: str
    cores: int
    """Physical ones, as far as the system tells them apart."""
    instructions: frozenset[str]
    memory_bytes: int
    free_memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    gpu_trouble: str = ""
    """Why a card of NVIDIA that seems to be here cannot be used, and what to do; else empty."""
    free_disk_bytes: int = 0
    """Where models are kept."""
    sound_cards: tuple[str, ...] = ()
    """Of the machine itself; a browser's headset is not among them."""
    mlx: bool = False
    """Whether Apple's array library is installed."""

    @property
    def apple_silicon(self) -> bool:
        """A Mac whose own GPU computes, by MLX."""
        return self.mlx and self.system == "Darwin" and "neon" in self.instructions

    @property
    def gpu(self) -> Gpu | None:
        """The one with the most free memory."""
        return roomiest(self.gpus)


def look(models: Path | None = None) -> Hardware:
    """Ask the system. Takes some 0.1 s, longer where nvidia-smi is slow, so keep it off the loop.

    Args:
        models: where models are kept, for the free disk; the hub's cache when left out.
    """
    memory = psutil.virtual_memory()
    gpus, trouble = nvidia_cards()
    return Hardware(
        system=platform.system(),
        processor=_processor(),
        cores=psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        instructions=instructions() or frozenset(),
        memory_bytes=memory.total,
        free_memory_bytes=memory.available,
        gpus=gpus,
        gpu_trouble=trouble,
        free_disk_bytes=free_disk(models or hub_cache()),
        sound_cards=_sound_cards(),
        mlx=find_spec("mlx") is not None,
    )


def _processor() -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        try:
            brand = subprocess.run(
                ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, timeout=10, check=True
            )
            return brand.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return platform.machine()
    return platform.processor() or platform.machine()


def instructions() -> frozenset[str] | None:
    """Of those in MATTERING, which the processor has; None where the system does not tell."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return frozenset({"neon"})
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("flags"):
            return frozenset(line.split()) & frozenset(MATTERING)
    if sys.platform == "win32":
        return frozenset({"avx2"} if ctypes.windll.kernel32.IsProcessorFeaturePresent(_PF_AVX2) else ())
    return None


def _sound_cards() -> tuple[str, ...]:
    """ALSA's list on Linux; other systems always have a sound service, whose devices the setup page lists."""
    if platform.system() != "Linux":
        return ("the system’s",)
    rows = (re.match(r"\s*\d+ \[[^]]*\]: (.+)", line) for line in _lines(Path("/proc/asound/cards")))
    return tuple(row[1] for row in rows if row)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def in_words(count: int) -> str:
    """Bytes as people say them: 24 kB, 12.5 MB, 200 MB, 1.6 GB."""
    if count >= 999_500_000:
        return f"{count / GB:.1f} GB"
    return f"{count / 1e6:.3g} MB" if count >= 1_000_000 else f"{-(-count // 1000)} kB"


def resident(pid: int, *, children: bool = False) -> int | None:
    """Bytes of memory that a process holds, with those it started where asked; None when it has ended.

    What several of them share is counted for each.
    """
    try:
        first = psutil.Process(pid)
        total: int = first.memory_info().rss
        started = first.children(recursive=True) if children else []
    except psutil.Error:
        return None
    for process in started:
        with suppress(psutil.Error):  # it ended a moment ago
            total += process.memory_info().rss
    return total
