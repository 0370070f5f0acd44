"""Parley's own set-up: `python3 setup.py` makes the environment; `test` checks everything.

Standard library only, since it runs before anything is installed; and old syntax, so that an old Python can still
read the sentence that tells it so. (`pip install .` does not use this file: pyproject.toml names another backend.)
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
OLDEST, NEWEST = (3, 11), (3, 13)
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
ENVIRONMENT_BYTES = 4 * 1000**3
"""Free disk wanted: 2.5 GB of environment, and room to unpack."""


class SetupError(Exception):
    """The environment cannot be made; the message is one sentence that says what to do."""


def python_of(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def check_python() -> None:
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise SetupError(
            f"Parley needs Python 3.11, 3.12 or 3.13, and this is {platform.python_version()}: "
            "start it with one of those, for example `python3.11 main.py`."
        )


def has_nvidia() -> bool:
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()


def steps(requirements: list[str]) -> list[tuple[str, list[str]]]:
    """What is installed, in order: a word for the user and pip's arguments."""
    torch = next(line for line in requirements if line.startswith("torch=="))
    if sys.platform == "linux" and platform.machine() == "x86_64" and not has_nvidia():
        # PyPI's build for Linux brings gigabytes of CUDA, of no use without an NVIDIA card.
        # Its own needs come with the next step.
        first = ("PyTorch for the CPU", ["--no-deps", "--index-url", TORCH_CPU_INDEX, "--retries", "1", torch])
    else:
        first = ("PyTorch", [torch])
    return [
        first,
        ("speech, memory and pages", ["-r", str(ROOT / "requirements.txt")]),
        ("packages without their pins", ["--no-deps", "-r", str(ROOT / "requirements-nodeps.txt")]),
    ]


def wanted(files: list[str]) -> str:
    """A fingerprint of what should be installed."""
    text = sys.version + "".join((ROOT / name).read_text(encoding="utf-8") for name in files)
    return hashlib.sha256(text.encode()).hexdigest()


APP_FILES = ["requirements.txt", "requirements-nodeps.txt"]
DEV_FILES = ["requirements-dev.txt"]


def ensure_environment(dev: bool = False) -> Path:
    """Make or complete .venv, and return its Python. Does nothing, quickly, when all is there."""
    check_python()
    python = python_of(VENV)
    files = APP_FILES + (DEV_FILES if dev else [])
    stamp = VENV / ("parley-dev" if dev else "parley-app")
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted(files):
        return python
    began = time.monotonic()
    free = shutil.disk_usage(ROOT).free
    if not python.exists() and free < ENVIRONMENT_BYTES:
        raise SetupError(
            f"Parley's environment needs 4 GB of free disk, and {ROOT} has {free / 1000**3:.1f} GB: "
            "free some space and start again."
        )
    print(f"Setting up Parley in {VENV} (about 2.5 GB; a few minutes, once).", flush=True)
    if not python.exists():
        make_venv(python)
    work = steps((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
    if dev:
        work.append(("what the tests need", ["-r", str(ROOT / "requirements-dev.txt")]))
    for number, (what, arguments) in enumerate(work, 1):
        install(python, f"[{number}/{len(work)}] {what}", arguments)
    stamp.write_text(wanted(files), encoding="utf-8")
    if dev:
        (VENV / "parley-app").write_text(wanted(APP_FILES), encoding="utf-8")
    print(f"Ready after {duration(time.monotonic() - began)}.", flush=True)
    return python


def make_venv(python: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True, check=False
    )
    if made.returncode or not python.exists():
        shutil.rmtree(VENV, ignore_errors=True)
        if "ensurepip" in made.stdout + made.stderr:
            raise SetupError(
                "This Python cannot make virtual environments: install its venv package (Debian and Ubuntu: "
                "`sudo apt install python3-venv`) and start again."
            )
        lines = (made.stderr or made.stdout).strip().splitlines() or ["no reason given"]
        raise SetupError(f"The virtual environment {VENV} could not be made: {lines[-1]}")


def install(python: Path, title: str, arguments: list[str]) -> None:
    """Run pip, showing what it does and for how long; its whole output goes to a log beside the environment."""
    log = VENV / "install.log"
    command = [str(python), "-m", "pip", "install", "--progress-bar", "off", "--disable-pip-version-check"]
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    line = ProgressLine(title)
    tail: list[str] = []
    with (
        log.open("a", encoding="utf-8") as kept,
        subprocess.Popen(
            command + arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        ) as pip,
    ):
        assert pip.stdout is not None
        for text in pip.stdout:
            kept.write(text)
            tail = ([*tail, text.strip()])[-60:]
            line.pip_said(text.strip())
    if pip.returncode and TORCH_CPU_INDEX in arguments:
        line.done("not to be had from PyTorch's own index")
        print("PyTorch's CPU index did not answer; taking PyPI's build, which is larger, instead.", flush=True)
        install(python, title, arguments[-1:])
        return
    if pip.returncode:
        line.done("failed")
        raise SetupError(why_pip_failed(tail, log))
    line.done("done")


def why_pip_failed(tail: list[str], log: Path) -> str:
    text = "\n".join(tail)
    if re.search(r"NewConnectionError|name resolution|Network is unreachable|ConnectTimeout|Connection refused", text):
        return (
            "The packages cannot be downloaded: there is no way to PyPI from here. Connect, or name a mirror with "
            "`pip config set global.index-url URL`, and start again; what was fetched is kept."
        )
    if re.search(r"No space left|Errno 28", text):
        return "The disk is full: free about 4 GB and start again; what was fetched is kept."
    failed = re.search(r"No matching distribution found for (\S+)", text) or re.search(
        r"(?:Failed to build|Failed building wheel for) (\S+)", text
    )
    error = next((line for line in reversed(tail) if line.startswith("ERROR")), "pip stopped without a reason")
    if failed:
        return (
            f"The package {failed.group(1)} could not be installed on Python {platform.python_version()} "
            f"({platform.system()} {platform.machine()}): try another Python between 3.11 and 3.13; "
            f"pip's words are in {log}."
        )
    return f"The packages could not be installed ({error[:200]}): pip's words are in {log}."


class ProgressLine:
    """One line that is rewritten on a terminal, and written now and then elsewhere."""

    EVERY = 15.0

    def __init__(self, title: str) -> None:
        self.title = title
        self.began = self.told = time.monotonic()
        self.packages = 0
        self.megabytes = 0.0
        self.doing = "looking"
        self.live = sys.stdout.isatty()
        self.tell(force=not self.live)

    def pip_said(self, text: str) -> None:
        if text.startswith("Collecting "):
            self.packages += 1
            self.doing = text[len("Collecting ") :].split(" ")[0]
        elif text.startswith(("Downloading ", "Using cached ")):
            size = re.search(r"\(([\d.]+) (kB|MB|GB)\)", text)
            if size:
                self.megabytes += float(size.group(1)) * {"kB": 0.001, "MB": 1.0, "GB": 1000.0}[size.group(2)]
            self.doing = "fetching " + text.split(" ")[1].rsplit("/", 1)[-1]
        elif text.startswith("Installing collected packages"):
            self.doing = "unpacking {} packages".format(text.count(",") + 1)
        self.tell()

    def words(self) -> str:
        passed = duration(time.monotonic() - self.began)
        return f"{self.title}: {self.packages} packages, {self.megabytes:.0f} MB, {passed}"

    def tell(self, force: bool = False) -> None:
        if self.live:
            text = f"{self.words()} · {self.doing}"
            print("\r\x1b[K" + text[: shutil.get_terminal_size().columns - 1], end="", flush=True)
        elif force or time.monotonic() - self.told >= self.EVERY:
            self.told = time.monotonic()
            print(f"{self.words()} · {self.doing}", flush=True)

    def done(self, how: str) -> None:
        print(("\r\x1b[K" if self.live else "") + f"{self.words()}: {how}", flush=True)


def duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"


CHECKS = [
    ("style", ["-m", "ruff", "check", "."]),
    ("format", ["-m", "ruff", "format", "--check", "."]),
    ("types", ["-m", "mypy", "."]),
    # Sound and browser tests play in real time, so they have the machine to themselves, after the others.
    ("tests", ["-m", "pytest", "-q", "-n", "auto", "--dist", "loadgroup", "-m", "not browser and not sound_server"]),
    ("tests with a browser and a sound server", ["-m", "pytest", "-q", "-m", "browser or sound_server"]),
]


def test(python: Path) -> int:
    """Everything CI runs. Returns 0 when all passed."""
    failed = []
    for what, arguments in CHECKS:
        print(f"\n== {what}", flush=True)
        if subprocess.run([str(python), *arguments], cwd=str(ROOT), check=False).returncode:
            failed.append(what)
    print("\nAll checks passed." if not failed else "\nFailed: {}.".format(", ".join(failed)), flush=True)
    return 1 if failed else 0


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="setup.py",
        description="Sets Parley up in .venv beside this file. main.py does the same on its first start.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("install", help="make the environment (what happens without a command, too)")
    commands.add_parser("test", help="install what the tests need, then check style, types and behaviour")
    options = parser.parse_args(argv)
    try:
        python = ensure_environment(dev=options.command == "test")
        if options.command == "test":
            return test(python)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print("Start Parley with: python3 main.py")
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
    print("\nStopped. Start again to go on where it stopped.", file=sys.stderr)
    sys.exit(130)
