"""The test command itself: which tests run, and what its last line says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from config.places import ROOT
from tests import checks

SOME = """
import pytest, time

def test_a_passing_one(): pass
def test_a_failing_one(): assert False
@pytest.mark.skip
def test_a_skipped_one(): pass
@pytest.mark.slow
def test_a_slow_one(): pass
@pytest.mark.timeout(1)
def test_a_hanging_one(): time.sleep(60)
"""


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "tests.checks", "--without-vllm", *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def some(tmp_path: Path) -> str:
    file = tmp_path / "test_some.py"
    file.write_text(SOME)
    return str(file)


def test_some_tests_alone_are_counted_and_one_that_hangs_is_named(some: str) -> None:
    done = command(some, "-c", str(ROOT / "pyproject.toml"), "-o", "faulthandler_timeout=0.5")
    assert done.returncode == 1
    assert re.search("crashed while running '.*::test_a_hanging_one'", done.stdout)
    assert "in test_a_hanging_one" in done.stderr, "where it hung"
    assert done.stdout.splitlines()[-1].startswith("Failed: some tests: 2 failed, 1 passed, 1 skipped in ")
    assert "slowest 20 durations" in done.stdout
    assert "== style" not in done.stdout


def test_pytests_options_are_passed_on_and_slow_ones_run_when_asked_for(some: str) -> None:
    done = command("--slow", "-k", "slow or passing", some, "-c", str(ROOT / "pyproject.toml"))
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith("All checks passed: 1 passed in ")


def test_every_test_is_either_quick_or_slow() -> None:
    tests = [check.arguments for check in (*checks.QUICK, *checks.SLOW) if check.module == "pytest"]
    markers = [arguments[arguments.index("-m") + 1] for arguments in tests]
    assert markers == [
        "not slow and not (browser or sound_server)", "not slow and browser", "not slow and sound_server", "slow",
    ]  # fmt: skip


def test_what_runs_in_real_time_stands_where_it_is_looked_for() -> None:
    marks = re.compile(r"^(?:pytestmark = |@).*mark\.(browser|sound_server)\b", re.MULTILINE)
    texts = {file: file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py")}
    marked = [(file, mark) for file, text in texts.items() for mark in marks.findall(text)]
    assert marked
    for file, mark in marked:
        assert {file, *file.parents}.intersection(ROOT / place for place in checks.REAL_TIME[mark])


def test_a_check_that_is_no_test_is_named_when_it_fails() -> None:
    told = checks.summary(checks.Outcome(("types",), Counter(passed=1203, skipped=4)), 751.234)
    assert told == "Failed: types: 1203 passed, 4 skipped in 751.23s (12:31 min)"


def test_a_check_beside_the_next_one_is_shown_after_it_and_counts(capfd: pytest.CaptureFixture[str]) -> None:
    beside = checks.Check("imports", "no_such_module", (), beside_next=True)
    outcome = checks.run([beside, checks.Check("where", "this", ()), checks.Check("platform", "platform", ())])
    assert outcome.failed == ("imports",)
    printed = capfd.readouterr().out
    assert (
        printed.index("Zen of Python") < printed.index("== imports") < printed.index("No module named no_such_module")
    )
    assert printed.index("== imports") < printed.index("== platform")
