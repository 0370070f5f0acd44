"""This machine's processor, memory, graphics cards, disk and sound, as the system reports them; loads no engine."""

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
"""Instruction sets that the kernels of the speech model and of CTranslate2 use."""


_PF_AVX2 = 40
"""PF_AVX2_INSTRUCTIONS_AVAILABLE, <winnt.h>."""


@dataclass(frozen=True, slots=True)
class Hardware:
    system: str
    """As `platform.system()` names it: Linux, Darwin, Windows."""
    processor: str
    cores: int
    """Physical cores, as far as the system tells them apart."""
    instructions: frozenset[str]
    memory_bytes: int
    free_memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    gpu_trouble: str = ""
    """Why an NVIDIA card that seems to be present cannot be used, and what to do; empty if there is no problem."""
    free_disk_bytes: int = 0
    """On the disk where models are stored."""
    sound_cards: tuple[str, ...] = ()
    """The machine's own; a browser's headset is not among them."""
    mlx: bool = False
    """Whether Apple's array library is installed."""

    @property
    def apple_silicon(self) -> bool:
        """Whether this is a Mac whose own GPU can compute through MLX."""
        return self.mlx and self.system == "Darwin" and "neon" in self.instructions

    @property
    def gpu(self) -> Gpu | None:
        """The card with the most free memory."""
        return roomiest(self.gpus)


def look(models: Path | None = None) -> Hardware:
    """Ask the system. Takes about 0.1 s, longer if nvidia-smi is slow, so keep it off the event loop.

    Args:
        models: where models are stored, to measure the free disk; by default the hub's cache.
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
    """Return which of MATTERING the processor has; None if the system does not say."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return frozenset({"neon"})
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("flags"):
            return frozenset(line.split()) & frozenset(MATTERING)
    if sys.platform == "win32":
        return frozenset({"avx2"} if ctypes.windll.kernel32.IsProcessorFeaturePresent(_PF_AVX2) else ())
    return None


def _sound_cards() -> tuple[str, ...]:
    """Return ALSA's list on Linux. Other systems always have a sound service; the setup page lists its devices."""
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
    """Format a number of bytes for people: 24 kB, 12.5 MB, 200 MB, 1.6 GB."""
    if count >= 999_500_000:
        return f"{count / GB:.1f} GB"
    return f"{count / 1e6:.3g} MB" if count >= 1_000_000 else f"{-(-count // 1000)} kB"


def resident(pid: int, *, children: bool = False) -> int | None:
    """Return the bytes of memory that a process holds, with its child processes if asked; None if that cannot be read.

    Memory shared by several of them is counted for each.
    """
    try:
        first = psutil.Process(pid)
        total: int = first.memory_info().rss
        started = first.children(recursive=True) if children else []
    except (psutil.Error, OSError):  # OSError: this process has too many open files
        return None
    for process in started:
        with suppress(psutil.Error, OSError):  # it ended a moment ago
            total += process.memory_info().rss
    return total
