"""The setup page's parts about the machine: what it can run, a download, the check, recordings, settings as a file."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from pipeline.catalogue import CATALOGUE
from tests.browser.conftest import READY_WITHIN, WEATHER, Launch, serving
from tests.support.chat_server import ChatServer, chat_server
from tests.support.hub import Hub, serve

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


def test_the_check_tells_its_verdicts(setup_page: Page) -> None:
    memory = setup_page.locator("#loaded li").filter(has=setup_page.get_by_text("Memory", exact=True))
    expect(memory).to_contain_text("Ready", timeout=READY_WITHIN)
    setup_page.get_by_role("button", name="Check everything").click()
    expect(setup_page.locator("#examine-line")).to_have_text("All is well.", timeout=READY_WITHIN)
    ears = setup_page.locator(".finding", has_text="Understanding")
    expect(ears).to_contain_text("6 of 6 words right")
    expect(ears).to_contain_text("Good")
    expect(setup_page.locator(".finding")).to_have_count(9)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A repository by name and size; what is in it is noise."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.bin").write_bytes(os.urandom(WEIGHTS))
    with serve({MODEL: folder}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        yield hub


def offer(route: Route) -> None:
    """The machine's own table, with the hub's model in it."""
    told = route.fetch().json()
    row = {"stage": "ears", "engine": "whisper", "name": MODEL, "label": "Noise", "line": "Noise.", "runs": "well"}
    state = {"why": "It is small.", "here": False, "offered": True, "room": True, "room_why": ""}
    told["models"].append(row | state | {"download_bytes": WEIGHTS})
    route.fulfill(json=told)


def test_a_model_is_fetched_stopped_unlocked_and_gone_on_with(
    launch: Launch, open_page: Opener, hub: Hub, tmp_path: Path
) -> None:
    hub.wait_after["model.bin"] = 25_000_000
    data = tmp_path / "data"
    data.mkdir()
    (data / "settings.json").write_text('{"set_up": true}')
    with serving(data) as address:
        page = open_page(launch(), f"{address}/setup", before=lambda page: page.route("**/api/hardware", offer))
        fetch = page.get_by_role("button", name="Fetch Noise")
        line = page.locator("#download-line")
        fetch.click()
        expect(page.locator("#download-figures")).to_contain_text(re.compile(r"(10|21) MB of 40 MB"))
        expect(page.locator("#download-files")).to_contain_text("model.bin")
        page.get_by_role("button", name="Stop").click()
        expect(line).to_contain_text("Stopped. What has come is kept")

        hub.gated.add(MODEL)
        hub.tokens.add("hf_right")
        fetch.click()
        expect(line).to_contain_text("has terms to accept")
        expect(page.locator("#licence")).to_have_attribute("href", f"{hub.url}/{MODEL}")
        for token, words in (("hf_wrong", "The token is wrong"), ("hf_right", "Noise has come, and is checked.")):
            page.get_by_label("Token").fill(token)
            page.get_by_role("button", name="Go on").click()
            expect(line).to_contain_text(words)
        expect(page.locator("#token-form")).to_be_hidden()
        assert hub.sent["model.bin"] < 2 * WEIGHTS
        page.goto("about:blank")


@contextmanager
def language_server() -> Iterator[ChatServer]:
    """In a thread of its own, for the test itself drives a browser."""
    loop = asyncio.new_event_loop()
    ready: Future[ChatServer] = Future()
    over = asyncio.Event()

    async def run() -> None:
        async with chat_server() as server:
            ready.set_result(server)
            await over.wait()

    thread = Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    try:
        yield ready.result(10)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


@pytest.mark.skipif(("mind", "openai") not in CATALOGUE, reason="this version offers no server as a mind")
def test_a_server_is_chosen_by_its_address(launch: Launch, open_page: Opener, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "settings.json").write_text('{"set_up": true}')
    with language_server() as server, serving(data) as address:
        page = open_page(launch(), f"{address}/setup")
        builtin = page.locator("[data-health='mind builtin']")
        expect(builtin).to_contain_text("Ready", timeout=READY_WITHIN)
        expect(page.get_by_label("Server address")).to_be_hidden()
        choice = page.locator("input[name='mind.engine'][value='openai']")
        choice.click()
        error = page.locator("[data-error='mind.engine']")
        expect(error).to_contain_text("The settings were not changed")
        expect(page.locator("input[name='mind.engine'][value='builtin']")).to_be_checked()
        expect(builtin).to_contain_text("Ready")

        page.get_by_label("Server address").fill(server.url)
        page.get_by_role("button", name="Ask the server for its models").click()
        expect(page.locator("#ask-line")).to_have_text("It has tiny.")
        page.get_by_label("Server address").blur()
        expect(choice).to_be_checked()
        expect(error).to_be_empty()
        expect(page.locator("[data-health='mind openai']")).to_contain_text("Ready")
        page.goto("about:blank")


def test_settings_are_taken_along_and_brought_back(setup_page: Page, tmp_path: Path) -> None:
    with setup_page.expect_download() as download:
        setup_page.get_by_role("link", name="Take them along").click()
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
    expect(setup_page.locator("#file-error")).to_contain_text("not a file of Parley’s settings")
    tree["voice"]["pitch"] = before
    file.write_text(json.dumps(tree))
    setup_page.locator("#settings-file").set_input_files(file)
    expect(setup_page.get_by_label("Pitch", exact=True)).to_have_value(str(before))


def reveal_recordings(page: Page) -> None:
    """They show with a voice that takes them, and are the same behind any."""
    page.evaluate(
        "() => { for (let part = document.getElementById('references'); part; part = part.parentElement)"
        " part.hidden = false; }"
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
    setup_page.get_by_role("button", name="Remove weather_question.wav").click()
    expect(setup_page.locator(".reference")).to_have_count(0)
