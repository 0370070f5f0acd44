"""The setup page's parts about the machine: what it can run, what is loaded, recordings, settings as a file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import READY_WITHIN, WEATHER, Launch

Opener = Callable[..., Page]
MODEL = "someone/whisper-of-noise"
WEIGHTS = 40_000_000


@pytest.fixture
def setup_page(launch: Launch, open_page: Opener, server: str) -> Page:
    page = open_page(launch(), f"{server}/setup")
    expect(page.locator("[data-health='voice espeak']")).to_contain_text("Ready", timeout=READY_WITHIN)
    return page


def test_the_table_says_what_runs_here_and_what_is_in_use(setup_page: Page) -> None:
    expect(setup_page.locator("#machine-line")).to_contain_text("cores")
    row = setup_page.locator(".model", has_text="eSpeak NG")
    expect(row).to_contain_text("Runs well")
    expect(row).to_contain_text("In use")
    expect(setup_page.locator(".model", has_text="CSM-1B")).to_have_count(1)


def test_what_is_loaded_is_listed_with_its_memory(setup_page: Page) -> None:
    expect(setup_page.locator("#loaded li", has_text="pocketsphinx")).to_contain_text(re.compile(r"\d+ MB of memory"))


def test_settings_are_taken_along_and_brought_back(setup_page: Page, tmp_path: Path) -> None:
    with setup_page.expect_download() as download:
        setup_page.get_by_role("link", name="Export settings").click()
    tree: dict[str, Any] = json.loads(Path(download.value.path()).read_text())
    assert "api_key" not in tree["mind"]
    before = tree["voice"]["pitch"]
    tree["voice"]["pitch"] = 61
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(tree))
    setup_page.locator("#settings-file").set_input_files(file)
    expect(setup_page.get_by_label("Pitch", exact=True)).to_have_value("61")
    file.write_text('{"voice": {"pitch": 1000}}')
    setup_page.locator("#settings-file").set_input_files(file)
    expect(setup_page.locator("#file-error")).to_contain_text("at most 99")
    file.write_text("not json")
    setup_page.locator("#settings-file").set_input_files(file)
    expect(setup_page.locator("#file-error")).to_contain_text("isn’t a Parley settings file")
    tree["voice"]["pitch"] = before
    file.write_text(json.dumps(tree))
    setup_page.locator("#settings-file").set_input_files(file)
    expect(setup_page.get_by_label("Pitch", exact=True)).to_have_value(str(before))


def reveal_recordings(page: Page) -> None:
    """They show with a voice that takes them, and are the same behind any. The page may not hide them again."""
    page.evaluate(
        "() => { for (let part = document.getElementById('references'); part; part = part.parentElement)"
        " Object.defineProperty(part, 'hidden', { value: part.removeAttribute('hidden'), writable: true }); }"
    )


def test_a_recording_is_added_corrected_and_removed(setup_page: Page) -> None:
    setup_page.locator("#reference-file").set_input_files(WEATHER)
    expect(setup_page.locator("#reference-line")).to_contain_text("Added", timeout=READY_WITHIN)
    words = setup_page.locator(".reference textarea")
    expect(words).to_have_value("What is the weather in paris?")
    reveal_recordings(setup_page)
    words.fill("What is the weather in Paris?")
    words.blur()
    expect(setup_page.locator("#reference-line")).to_have_text("Saved.")
    setup_page.reload()
    expect(words).to_have_value("What is the weather in Paris?")
    expect(setup_page.locator("[data-health='voice espeak']")).to_contain_text("Ready")  # the page has settled
    reveal_recordings(setup_page)
    setup_page.get_by_role("button", name="Remove weather_question.flac").click()
    expect(setup_page.locator(".reference")).to_have_count(0)
