"""What this machine has: processor, memory, graphics cards, disk, sound. Asked of the system; no engine is loaded."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from config.cache import free_disk, hub_cache

GB = 1000**3

MATTERING = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "neon")
"""Instruction sets that the speech model's and CTranslate2's kernels are written for."""

_QUERY = "name,memory.total,memory.free,driver_version,compute_cap"
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    memory_bytes: int
    free_bytes: int
    driver: str = ""
    capability: float = 0.0
    """CUDA's compute capability; 8.0 and above compute in bfloat16. 0 where the driver does not tell."""


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
    free_disk_bytes: int = 0
    """Where models are kept."""
    sound_cards: tuple[str, ...] = ()
    """Of the machine itself; a browser's headset is not among them."""

    @property
    def gpu(self) -> Gpu | None:
        """The one with the most free memory."""
        return max(self.gpus, key=lambda gpu: gpu.free_bytes, default=None)


def look(models: Path | None = None) -> Hardware:
    """Ask the system. Takes some 0.1 s, longer where nvidia-smi is slow, so keep it off the loop.

    Args:
        models: where models are kept, for the free disk; the hub's cache when left out.
    """
    memory = psutil.virtual_memory()
    return Hardware(
        system=platform.system(),
        processor=_processor(),
        cores=psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        instructions=_instructions(),
        memory_bytes=memory.total,
        free_memory_bytes=memory.available,
        gpus=ask_nvidia(),
        free_disk_bytes=free_disk(models or hub_cache()),
        sound_cards=_sound_cards(),
    )


def ask_nvidia(run: Callable[[list[str]], str] | None = None) -> tuple[Gpu, ...]:
    """NVIDIA's cards by nvidia-smi; none where that is missing or the driver does not answer within ten seconds."""
    try:
        return parse_nvidia((run or _run)(["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]))
    except (OSError, subprocess.SubprocessError):
        return ()


def parse_nvidia(table: str) -> tuple[Gpu, ...]:
    """nvidia-smi's rows: name, total and free memory in MiB, driver, compute capability.

    A row without figures is left out, such as that of a card which shares the processor's memory ("[N/A]").
    """
    found = []
    for row in table.splitlines():
        cells = [cell.strip() for cell in row.split(",")]
        if len(cells) == 5 and cells[1].isdigit() and cells[2].isdigit():
            capability = float(cells[4]) if re.fullmatch(r"\d+\.\d+", cells[4]) else 0.0
            found.append(Gpu(cells[0], int(cells[1]) * _MIB, int(cells[2]) * _MIB, cells[3], capability))
    return tuple(found)


def _run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout


def _processor() -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        try:
            return _run(["sysctl", "-n", "machdep.cpu.brand_string"]).strip()
        except (OSError, subprocess.SubprocessError):
            return platform.machine()
    return platform.processor() or platform.machine()


def _instructions() -> frozenset[str]:
    """From /proc/cpuinfo; elsewhere only what follows from the machine's kind."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return frozenset({"neon"})
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("flags"):
            return frozenset(line.split()) & frozenset(MATTERING)
    return frozenset()


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
