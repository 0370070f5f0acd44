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
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import setup
from config.places import ROOT

SIDE_BY_SIDE = ("-n", "auto", "--dist", "loadgroup")
BY_FILE = ("-n", "2", "--dist", "loadfile")
"""Two at a time, since they wait more than they compute; the tests of a file share their browser and server."""
ALONE = ("-n", "1")
"""Still in a process of its own: a test that hangs ends with its process, and the next goes on in a new one."""
REAL_TIME = "browser or sound_server"


@dataclass(frozen=True, slots=True)
class Check:
    title: str
    module: str
    arguments: tuple[str, ...]


QUICK = (
    Check("style", "ruff", ("check", ".")),
    Check("format", "ruff", ("format", "--check", ".")),
    Check("types", "mypy", (".",)),
    Check("tests", "pytest", (*SIDE_BY_SIDE, "-m", f"not slow and not ({REAL_TIME})")),
    # What plays and listens in real time comes after what keeps every core busy.
    Check("tests with a browser and a sound server", "pytest", (*BY_FILE, "-m", f"not slow and ({REAL_TIME})")),
)
SLOW = (Check("slow tests", "pytest", (*SIDE_BY_SIDE, "-m", "slow")),)


def chosen(slow: bool, arguments: list[str]) -> tuple[Check, ...]:
    """What is to run; `arguments` are pytest's own: paths, -k and all else."""
    if not arguments:
        return SLOW if slow else QUICK
    which = "slow" if slow else "not slow"
    return (Check("some tests", "pytest", (*ALONE, "-m", which, *arguments)),)


def run(check: Check) -> tuple[int, Counter[str]]:
    """The exit status, and how many tests failed, passed and were skipped; none for a check that is no test."""
    print(f"\n== {check.title}", flush=True)
    # Test processes run side by side, one a core: threads of their own would only wait for each other.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-m", check.module, *check.arguments]
    if check.module != "pytest":
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode, Counter()
    with tempfile.TemporaryDirectory(prefix="parley-tests-") as folder:
        report = Path(folder) / "report.xml"
        command += ["-q", "--durations=20", f"--junitxml={report}"]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
        return done.returncode, counted(report) if report.exists() else Counter()


def counted(report: Path) -> Counter[str]:
    """Outcomes in a report of pytest's, in JUnit's format."""
    counts: Counter[str] = Counter()
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        failed, skipped = (sum(int(suite.get(name, 0)) for name in names) for names in _OUTCOMES)
        counts += Counter(failed=failed, passed=int(suite.get("tests", 0)) - failed - skipped, skipped=skipped)
    return counts


_OUTCOMES = (("failures", "errors"), ("skipped",))


def summary(failed: list[str], counts: Counter[str], seconds: float) -> str:
    """One line, with the words by which pytest's last line is known."""
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("failed", "passed", "skipped") if counts[outcome])
    verdict = f"Failed: {', '.join(failed)}" if failed else "All checks passed"
    return f"{verdict}: {told or 'no tests ran'} in {seconds:.2f}s ({setup.duration(seconds)})"


def vllm_for_tests() -> None:
    """vLLM's tests are left out where it cannot be, and one sentence says so."""
    free = shutil.disk_usage(ROOT).free
    room = setup.VLLM_CUDA_BYTES if setup.has_nvidia() else setup.VLLM_BYTES
    if sys.platform != "linux" or (not setup.python_of(setup.VLLM).exists() and free < room):
        why = f"it needs {room / 1000**3:.0f} GB of free disk" if sys.platform == "linux" else "it runs on Linux only"
        print(f"The tests of vLLM are left out: {why}.", flush=True)
        return
    setup.ensure_vllm()


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="setup.py test",
        usage="%(prog)s [-h] [--slow] [--without-vllm] [PATH ...] [pytest's options]",
        description="Checks style, types and behaviour. With a PATH of tests, or options of pytest's such as -k, "
        "it runs those tests alone.",
        allow_abbrev=False,
    )
    parser.add_argument("--slow", action="store_true", help="the slow tests, in place of the others")
    parser.add_argument("--without-vllm", action="store_true", help="do not make .venv-vllm for the slow tests")
    return parser


def main(argv: list[str]) -> int:
    began = time.monotonic()
    options, arguments = parser().parse_known_args(argv)
    if options.slow and not options.without_vllm:
        try:
            vllm_for_tests()
        except setup.SetupError as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
    failed: list[str] = []
    counts: Counter[str] = Counter()
    for check in chosen(options.slow, [argument for argument in arguments if argument != "--"]):
        status, outcomes = run(check)
        counts += outcomes
        if status:
            failed.append(check.title)
    print(f"\n{summary(failed, counts, time.monotonic() - began)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
