"""The packed product by each processor's instructions, bit for bit: ARM's by an emulator, others where they are had."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from csm.backends.cpu_kernel import SOURCES

PRODUCTS = Path(__file__).with_name("products.cpp")
EXACT = "-O2 -std=c++20 -static -Wno-psabi -ffp-contract=off"
"""A fused multiplication and addition rounds once where two round twice: not here, so that bits can be compared."""

PATHS = {
    "AVX2": ("g++ -march=haswell", "vpmaddubsw", ""),
    "AVX-VNNI": ("g++ -march=haswell -mavxvnni", "{vex} vpdpbusd", ""),
    "AVX-512 VNNI": ("g++ -march=skylake-avx512 -mavx512vnni", "zmm", ""),
    "ARM with dot products": ("aarch64-linux-gnu-g++ -march=armv8.2-a+dotprod", "sdot", "qemu-aarch64-static"),
    "ARM without": ("aarch64-linux-gnu-g++ -march=armv8-a", ".arch armv8-a", "qemu-aarch64-static"),
}
"""How it is built, what in its assembly tells the path, and what runs it."""
NEEDS = {"AVX2": "avx2", "AVX-VNNI": "avx_vnni", "AVX-512 VNNI": "avx512_vnni"}
"""What the processor must have, as Linux calls it, where no emulator runs it."""


def built(compiler: str, *to: str) -> str:
    command = [*compiler.split(), *EXACT.split(), f"-I{SOURCES[0].parent}", str(PRODUCTS), *to]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def printed(compiler: str, emulator: str, program: Path) -> list[str]:
    built(compiler, "-o", str(program))
    run = [*([emulator] if emulator else []), str(program)]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_products_are_those_of_the_plain_path_bit_for_bit(path: str, tmp_path: Path) -> None:
    compiler, instruction, emulator = PATHS[path]
    if platform.machine() != "x86_64":
        pytest.skip("what is compared with is built for x86-64")
    if path in NEEDS and NEEDS[path] not in Path("/proc/cpuinfo").read_text(encoding="utf-8").split():
        pytest.skip(f"this processor has no {path}")
    for program in filter(None, ("g++", compiler.split()[0], emulator)):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    assert instruction in built(compiler, "-S", "-o", "-"), "the path that is meant"
    found = printed(compiler, emulator, tmp_path / "there")
    assert len(found) == 2 * 32 * 7 and len(set(found)) > 400
    assert found == printed("g++ -march=x86-64", "", tmp_path / "plain")
