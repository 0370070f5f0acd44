"""The example of docs/MEMORY.md does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from config.places import ROOT

DOCUMENT = ROOT / "docs" / "MEMORY.md"


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, DOCUMENT.name, "exec"), {})
    # Whether it has its vector already, and so is found by its meaning too, is not said.
    shown = r"\[1 Mar 2026\]\nAnn: My sister Clara plays the cello\.\n1\.0 [a-z, ]*words, who said it [0-9a-f]{32}\n"
    assert re.fullmatch(shown, capsys.readouterr().out)
