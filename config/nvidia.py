"""NVIDIA's cards as nvidia-smi reports them: which are present, which one is used, or why there is none."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_QUERY = "index,uuid,name,memory.total,memory.free,driver_version,compute_cap"
_MIB = 1024**2
_PATIENCE_S = 10.0
"""Timeout for nvidia-smi, which hangs if the driver does."""


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    memory_bytes: int
    free_bytes: int
    driver: str = ""
    capability: float = 0.0
    """CUDA's compute capability; 8.0 and above compute in bfloat16. 0 if the driver does not report it."""
    index: int = 0
    """By PCI bus order, as nvidia-smi counts."""
    uuid: str = ""


def ask_nvidia() -> tuple[Gpu, ...]:
    """Return the NVIDIA cards that programs started from here may use; none if nvidia-smi is missing or hangs."""
    return nvidia_cards()[0]


def roomiest(cards: Sequence[Gpu]) -> Gpu | None:
    """Return the card with the most free memory, for which models are planned; None if there are no cards."""
    return max(cards, key=lambda gpu: gpu.free_bytes, default=None)


def one_card(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return variables that make all engines use the card with the most free memory; none if there is no choice.

    The process that starts the engines sets them first. By default CUDA counts the fastest card first, which need not
    be the one whose memory was planned with.
    """
    cards = ask_nvidia()
    gpu = roomiest(cards)
    if gpu is None or len(cards) < 2 or "CUDA_VISIBLE_DEVICES" in environment:
        return {}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(gpu.index)}


def nvidia_cards(
    run: Callable[[list[str]], str] | None = None,
    environment: Mapping[str, str] = os.environ,
    on_the_bus: Callable[[], bool] | None = None,
) -> tuple[tuple[Gpu, ...], str]:
    """Return NVIDIA's cards by nvidia-smi, and one sentence on why there are none although there should be, or "".

    Args:
        run: runs a command and returns its output.
        environment: its CUDA_VISIBLE_DEVICES says which cards programs may use.
        on_the_bus: whether a card is plugged in at all, with or without a driver.
    """
    there = on_the_bus or _nvidia_on_the_bus
    try:
        table = (run or _run)(["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"])
    except FileNotFoundError:
        missing = "This computer has an NVIDIA card, but no driver for it: install the driver and restart the computer."
        return (), missing if there() else ""
    except subprocess.TimeoutExpired:
        return (), f"NVIDIA’s driver did not answer within {_PATIENCE_S:.0f} s: restart the computer."
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "output", None) or error)
        if "No devices" in said and not there():
            return (), ""
        if "not a valid field" in said:
            return (), "NVIDIA’s driver is too old: update it and restart the computer."
        return (), f"NVIDIA’s driver does not work ({_first_line(said)}): restart the computer, or reinstall it."
    gpus = parse_nvidia(table)
    if gpus or not table.strip():
        return visible(gpus, environment.get("CUDA_VISIBLE_DEVICES")), ""
    if "[N/A]" in table:
        why = "The NVIDIA card does not report its memory, perhaps because it shares the processor’s"
        return (), f"{why}: choose the engines yourself on the setup page."
    return (), f"The output of nvidia-smi cannot be understood (“{_first_line(table)}”): update NVIDIA’s driver."


def visible(gpus: tuple[Gpu, ...], devices: str | None) -> tuple[Gpu, ...]:
    """Return the cards that CUDA_VISIBLE_DEVICES names, by number or start of their UUID; all if it is not set."""
    if devices is None or "MIG-" in devices:
        return gpus
    names = [name.strip() for name in devices.split(",") if name.strip()]
    return tuple(gpu for gpu in gpus if any(name == str(gpu.index) or _begins(gpu.uuid, name) for name in names))


def _begins(uuid: str, name: str) -> bool:
    return name.startswith("GPU-") and uuid.startswith(name)


def parse_nvidia(table: str) -> tuple[Gpu, ...]:
    """Parse nvidia-smi's rows: number, UUID, name, total and free memory in MiB, driver, compute capability.

    A row without numbers is left out, such as that of a card that shares the processor's memory ("[N/A]").
    """
    found = []
    for row in table.splitlines():
        cells = [cell.strip() for cell in row.split(",")]
        if len(cells) == 7 and all(cells[at].isdigit() for at in (0, 3, 4)):
            number, uuid, name, total, free, driver, capability = cells
            known = float(capability) if re.fullmatch(r"\d+\.\d+", capability) else 0.0
            found.append(Gpu(name, int(total) * _MIB, int(free) * _MIB, driver, known, int(number), uuid))
    return tuple(found)


def _nvidia_on_the_bus() -> bool:
    """Whether Linux sees a card plugged in, with or without a driver: vendor 10de, class 03 (display)."""
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = ((device / name).read_text(encoding="ascii").strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == "0x10de" and kind.startswith("0x03"):
            return True
    return False


def _run(command: list[str], patience_s: float = _PATIENCE_S) -> str:
    """Return what a command prints. Raises OSError, TimeoutExpired, CalledProcessError.

    A process that is stuck in a driver does not end when killed, so this does not wait for it.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    try:
        said, _ = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, said)
    return said


def _first_line(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "it says nothing")
    return line.rstrip(".")[:120]
