"""What the doctor says of computers that are made up: each trouble in plain words, with what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from config import Settings
from config.hardware import GB, Gpu, Hardware
from config.profiles import PROFILES, Name
from pipeline.doctor.computer import chosen, command, judged
from pipeline.doctor.cuda import Torch, ask_torch, trouble

CARD = Gpu("RTX 4090", 24 * GB, 23 * GB, "560.35", 8.9)
DESKTOP = Hardware("Linux", "a processor", 8, frozenset({"avx2"}), 32 * GB, 28 * GB, free_disk_bytes=100 * GB)
WITH_CARD = replace(DESKTOP, gpus=(CARD,))


def judge(hardware: Hardware, profile: Name, card: str = "") -> tuple[str, str]:
    verdict = judged(hardware, list(chosen(PROFILES[profile].applied_to(Settings()))), card)
    return verdict.grade, verdict.text


def test_a_computer_that_suits_its_engines() -> None:
    assert judge(WITH_CARD, "gpu") == (
        "good", "a processor, 8 cores, 28.0 of 32.0 GB of memory free, RTX 4090 with 23.0 of 24.0 GB free.",
    )  # fmt: skip
    assert judge(DESKTOP, "offline")[0] == judge(DESKTOP, "cpu")[0] == "good"


def test_a_mac_whose_gpu_speaks() -> None:
    mac = replace(DESKTOP, system="Darwin", processor="Apple M4", instructions=frozenset({"neon"}))
    assert judge(replace(mac, mlx=True), "cpu")[1].endswith("GB of memory free, this Mac’s own GPU.")
    assert judge(mac, "cpu")[1].endswith("no NVIDIA card.")


def test_the_profile_for_a_card_without_one() -> None:
    grade, text = judge(DESKTOP, "gpu")
    assert grade == "bad"
    assert "Needs an NVIDIA graphics card with 11.0 GB free; none was found." in text
    assert text.endswith("choose it with `python3 main.py --profile cpu`.")


def test_a_card_with_too_little_memory() -> None:
    small = replace(WITH_CARD, gpus=(replace(CARD, name="RTX 3060", memory_bytes=12 * GB, free_bytes=11 * GB),))
    grade, text = judge(small, "gpu")
    assert grade == "fair"
    assert "together take 18.1 GB of the card: choose smaller ones, or end the programs that use it." in text
    crowded = replace(WITH_CARD, gpus=(replace(CARD, free_bytes=GB // 2),))
    assert "the RTX 4090 has 500 MB" in judge(crowded, "gpu")[1]


def test_a_driver_that_hangs_is_said_where_a_card_would_be_used() -> None:
    hanging = "NVIDIA’s driver did not answer within 10 s: restart the computer."
    silent = replace(DESKTOP, gpu_trouble=hanging)
    grade, text = judge(silent, "cpu", hanging)
    assert grade == "fair", "it works without"
    assert text.endswith(f"an NVIDIA card that Parley cannot use. {hanging}")
    grade, text = judge(silent, "gpu", hanging)
    assert grade == "bad"
    assert text.endswith(f"{hanging} Until then choose the profile cpu: `python3 main.py --profile cpu`.")
    assert "there is none here" not in text


@pytest.mark.parametrize(
    ("torch", "words"),
    [
        (Torch("2.13.0", "13.0", available=True), ""),
        (Torch("2.13.0+cpu", None, available=False), "without CUDA, so it cannot use the RTX 4090: delete the"),
        (Torch("2.13.0", "13.0", available=False), "too old for PyTorch’s CUDA 13.0: update the driver to 580 or"),
        (Torch("2.9.0", "12.8", available=False, said="unknown error"), "find the RTX 4090 (unknown error): restart"),
        (Torch("2.9.0", "12.8", available=False), "does not find the RTX 4090: restart the computer"),
    ],
)  # fmt: skip
def test_why_pytorch_does_not_use_the_card(torch: Torch, words: str) -> None:
    said = trouble(CARD, torch)
    assert words in said
    assert bool(words) == bool(said)


async def test_this_pytorch_is_asked_in_a_process_of_its_own() -> None:
    found = await ask_torch()
    assert found.version
    assert found.cuda is not None or not found.available


def test_the_command_that_fetches_what_is_missing() -> None:
    assert command(PROFILES["cpu"].applied_to(Settings())) == "python3 setup.py models --profile cpu"
    own = PROFILES["cpu"].applied_to(Settings())
    own.ears.model = "small"
    assert command(own) == "python3 setup.py models"
