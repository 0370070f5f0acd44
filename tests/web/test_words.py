"""Sentences that send the user somewhere: what they name is there."""

from __future__ import annotations

import re

from config.places import ROOT


def test_what_is_said_to_be_on_the_setup_page_is_there() -> None:
    page = (ROOT / "web" / "templates" / "setup.html").read_text(encoding="utf-8")
    parts = set(re.findall(r"<(?:h2|legend)[^>]*>(?:<span.*?</span> )?([^<]+)<", page))
    assert {"Microphone", "Mind", "Turn-taking", "This computer"} <= parts
    named: set[tuple[str, str]] = set()
    for room in ("config", "pipeline", "rag", "start", "web"):
        for file in (ROOT / room).rglob("*.py"):
            found = re.finditer(r"under (?:“([A-Z][^”{]+)”|([A-Z][A-Za-z-]+)[,.])", file.read_text("utf-8"))
            named.update(match[1] or match[2] for match in found)
    lacking = named - parts
    assert named
    assert not lacking, f"sentences name {lacking}, which the setup page does not have"
