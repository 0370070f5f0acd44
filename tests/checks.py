"""`python3 setup.py test`: style, types and behaviour; with arguments, some tests alone."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from config.places import ROOT
from start import environment
from start.progress import duration

BY_FILE = ("--dist", "loadfile")
"""The tests of a file share engines, servers and a browser, so one process has them all; small files come last."""
ONE_MORE = ("-n", str(1 + (os.cpu_count() or 1)), *BY_FILE)
"""Than there are cores: now and then one waits for the disk, or for what it started."""
THREE = ("-n", "3", *BY_FILE)
"""At a time, of those that wait more than they compute."""
GROUPED = ("-n", "auto", "--dist", "loadgroup")
"""Few and long: whichever process is free has the next one, but for those that share an engine of gigabytes."""
ALONE = ("-n", "1")
"""Still in a process of its own: a test that hangs ends with its process, and the next goes on in a new one."""
REAL_TIME = {
    "browser": ("tests/browser",),
    "sound_server": ("tests/integration/test_sound_server.py", "tests/web/realtime/test_sound_server.py"),
}
"""Where the tests with these marks stand: to collect all the others once more would take half a minute."""


@dataclass(frozen=True, slots=True)
class Check:
    title: str
    module: str
    arguments: tuple[str, ...]
    beside_next: bool = False
    """It computes on one core, which the next one leaves it at times; what it prints is shown when that has ended."""


FORM = (Check("style", "ruff", ("check", ".")), Check("format", "ruff", ("format", "--check", ".")))
TYPES = Check("types", "mypy", (".",), beside_next=True)
STYLE = (*FORM, TYPES)
QUICK = (
    *FORM,
    Check("tests", "pytest", (*ONE_MORE, "-m", f"not slow and not ({' or '.join(REAL_TIME)})")),
    TYPES,
    # What plays and listens in real time comes after what keeps every core busy; whether it plays without a gap can
    # only be heard where nothing else runs.
    Check("tests with a browser", "pytest", (*THREE, "-m", "not slow and browser", *REAL_TIME["browser"])),
    Check(
        "tests with a sound server", "pytest", (*ALONE, "-m", "not slow and sound_server", *REAL_TIME["sound_server"])
    ),
)
SLOW = (Check("slow tests", "pytest", (*GROUPED, "-m", "slow")),)


def chosen(slow: bool, arguments: list[str]) -> tuple[Check, ...]:
    """What is to run; `arguments` are pytest's own: paths, -k and all else."""
    if not arguments:
        return SLOW if slow else QUICK
    which = "slow" if slow else "not slow"
    return (Check("some tests", "pytest", (*ALONE, "-m", which, *arguments)),)


@dataclass(frozen=True, slots=True)
class Outcome:
    failed: tuple[str, ...] = ()
    """Titles of checks."""
    counts: Counter[str] = field(default_factory=Counter)
    """How many tests failed, passed and were skipped."""

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.failed + other.failed, self.counts + other.counts)


def run(checks: Sequence[Check]) -> Outcome:
    """All of them, one after the other but for those that run beside their next."""
    if not checks:
        return Outcome()
    check, *rest = checks
    if not check.beside_next or not rest:
        return _run(check) + run(rest)
    with tempfile.TemporaryFile("w+") as printed, _started(check, stdout=printed, stderr=printed) as process:
        if os.name == "posix":
            os.setpriority(os.PRIO_PROCESS, process.pid, 10)  # nobody waits for it alone
        try:
            outcome = _run(rest[0])
            failed = (check.title,) if process.wait() else ()
        finally:
            process.terminate()
        printed.seek(0)
        print(f"\n== {check.title}\n{printed.read()}", end="", flush=True)
    return Outcome(failed) + outcome + run(rest[1:])


def _run(check: Check) -> Outcome:
    print(f"\n== {check.title}", flush=True)
    with tempfile.TemporaryDirectory(prefix="parley-tests-") as folder:
        report = Path(folder) / "report.xml"
        options = ("-q", "--durations=20", f"--junitxml={report}") if check.module == "pytest" else ()
        with _started(check, *options) as process:
            status = process.wait()
        return Outcome((check.title,) if status else (), counted(report) if report.exists() else Counter())


def _started(check: Check, *options: str, **streams: Any) -> subprocess.Popen[bytes]:
    # Test processes run side by side, one a core: threads of their own would only wait for each other.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-m", check.module, *check.arguments, *options]
    return subprocess.Popen(command, cwd=ROOT, env=environment, **streams)


def counted(report: Path) -> Counter[str]:
    """Outcomes in a report of pytest's, in JUnit's format."""
    counts: Counter[str] = Counter()
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        failed, skipped = (sum(int(suite.get(name, 0)) for name in names) for names in _OUTCOMES)
        counts += Counter(failed=failed, passed=int(suite.get("tests", 0)) - failed - skipped, skipped=skipped)
    return counts


_OUTCOMES = (("failures", "errors"), ("skipped",))


def summary(outcome: Outcome, seconds: float) -> str:
    """One line, with the words by which pytest's last line is known."""
    counts = outcome.counts
    told = ", ".join(f"{counts[kind]} {kind}" for kind in ("failed", "passed", "skipped") if counts[kind])
    verdict = f"Failed: {', '.join(outcome.failed)}" if outcome.failed else "All checks passed"
    return f"{verdict}: {told or 'no tests ran'} in {seconds:.2f}s ({duration(seconds)})"


def vllm_for_tests() -> None:
    """vLLM's tests are left out where it cannot be, and one sentence says so."""
    free = shutil.disk_usage(ROOT).free
    room = environment.VLLM_CUDA_BYTES if environment.has_nvidia() else environment.VLLM_BYTES
    if sys.platform != "linux" or (not environment.python_of(environment.VLLM).exists() and free < room):
        why = f"it needs {room / 1000**3:.0f} GB of free disk" if sys.platform == "linux" else "it runs on Linux only"
        print(f"The tests of vLLM are left out: {why}.", flush=True)
        return
    environment.ensure_vllm()


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="setup.py test",
        usage="%(prog)s [-h] [--style | --slow] [--without-vllm] [PATH ...] [pytest's options]",
        description="Checks style, types and behaviour. With a PATH of tests, or options of pytest's such as -k, "
        "it runs those tests alone.",
        allow_abbrev=False,
    )
    parser.add_argument("--style", action="store_true", help="style and types alone, without tests")
    parser.add_argument("--slow", action="store_true", help="the slow tests, in place of the others")
    parser.add_argument("--without-vllm", action="store_true", help="do not make .venv-vllm for the slow tests")
    return parser


def main(argv: list[str]) -> int:
    began = time.monotonic()
    options, arguments = parser().parse_known_args(argv)
    if options.style and (options.slow or arguments):
        parser().error("--style runs no tests: leave out --slow, paths and pytest's options.")
    if options.slow and not options.without_vllm:
        try:
            vllm_for_tests()
        except environment.SetupError as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
    tests = [argument for argument in arguments if argument != "--"]
    outcome = run(STYLE if options.style else chosen(options.slow, tests))
    print(f"\n{summary(outcome, time.monotonic() - began)}", flush=True)
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
