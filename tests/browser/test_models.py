"""Models on the setup page: fetched, stopped, unlocked, gone on with, and put to use while one talks.

The hub is a stand-in on this machine. What comes from it is a tiny Whisper that hears the same words in any sound, or
plain noise.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from config.hardware import look
from tests.browser.conftest import READY_WITHIN, Launch, change, question, serving, wait_until_ready
from tests.support.hub import Hub, serve
from tests.support.tiny_models import HEARD, write_whisper

Opener = Callable[..., Page]
TINY, BASE, OWN = "Systran/faster-whisper-tiny.en", "Systran/faster-whisper-base.en", "someone/<i>whisper</i>"
WEIGHTS = 40_000_000


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, whisper: Path) -> Iterator[Hub]:
    """Whisper tiny and a model of somebody's work; Whisper base is noise."""
    folder = tmp_path_factory.mktemp("hub")
    noise = folder / "noise"
    noise.mkdir()
    (noise / "config.json").write_text("{}")
    (noise / "model.bin").write_bytes(os.urandom(WEIGHTS))
    repositories = {TINY: whisper, BASE: noise, "someone/whisper": whisper}
    with serve(repositories) as hub, pytest.MonkeyPatch.context() as monkeypatch:
        for name in [name for name in os.environ if name.startswith("HF_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(folder / "home"))
        monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "120")  # a hub that says nothing is waited for
        yield hub


@pytest.fixture(scope="module")
def address(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server that knows no other hub."""
    data = tmp_path_factory.mktemp("models") / "data"
    data.mkdir()
    (data / "settings.json").write_text('{"set_up": true}')
    with serving(data) as address:
        yield address


def opened(page: Page) -> Page:
    expect(page.locator("[data-health='ears pocketsphinx']")).to_contain_text("Ready", timeout=READY_WITHIN)
    return page


def row(page: Page, name: str) -> Any:
    return page.locator(".model", has=page.get_by_text(name, exact=True))


WATCH = """(selector) => {
  window.lines = [];
  const place = document.querySelector(selector);
  new MutationObserver(() => window.lines.push(place.textContent)).observe(place, { childList: true });
}"""


@pytest.mark.slow
def test_a_model_is_put_to_use_while_one_talks(launch: Launch, open_page: Opener, address: str) -> None:
    asked = np.concatenate([question(after=5) for _ in range(20)])
    talk = open_page(launch(asked, key="again and again"), f"{address}/talk")
    wait_until_ready(talk)
    talk.get_by_role("button", name="Start talking").click()
    expect(talk.locator(".you .said").last).to_contain_text("weather in paris")

    page = opened(open_page(launch(), f"{address}/setup"))
    tiny = row(page, "Whisper tiny")
    tiny.get_by_role("button", name="Download 80 MB: Whisper tiny").click()
    expect(page.locator("#download-line")).to_have_text("Downloaded and verified.")
    use = tiny.get_by_role("button", name="Use Whisper tiny")
    expect(use).to_be_focused()
    page.evaluate(WATCH, "[data-health='ears whisper']")
    use.press("Enter")
    expect(tiny).to_contain_text("In use", timeout=READY_WITHIN)
    expect(page.locator("[data-health='ears whisper']")).to_contain_text("Ready")
    assert any(line.startswith("Getting ready: ") for line in page.evaluate("window.lines"))
    expect(page.locator("#loaded li", has_text="Ears")).to_contain_text("Whisper, tiny.en")
    expect(talk.locator(".you .said").last).to_contain_text(" ".join(HEARD), timeout=READY_WITHIN)

    # A model of one's own by its name: it is not here, so it is offered to be fetched, and then used.
    model = page.get_by_label("Ears: model", exact=True)
    model.fill("someone/whisper")
    model.blur()
    error = page.locator("#error-ears-engine")
    expect(error).to_contain_text("someone/whisper is not on this computer yet. Download it first.")
    error.get_by_role("button", name="Download someone/whisper").click()
    expect(page.locator("#loaded li", has_text="Ears")).to_contain_text("Whisper, someone/whisper")
    expect(error).to_be_empty()
    # One that nobody has: one sentence, and the ears go on.
    model.fill(OWN)
    model.blur()
    error.get_by_role("button", name=f"Download {OWN}").click()
    expect(page.locator("#download-line")).to_contain_text("is not a model’s name")
    expect(page.locator("[data-health='ears whisper']")).to_contain_text("Ready")
    change(page, ears={"engine": "pocketsphinx", "model": ""})


def test_a_download_is_stopped_unlocked_gone_on_with_and_refused(
    launch: Launch, open_page: Opener, hub: Hub, address: str
) -> None:
    hub.wait_after["model.bin"] = 25_000_000
    page = opened(open_page(launch(), f"{address}/setup"))
    base = row(page, "Whisper base")
    fetch = base.get_by_role("button", name="Download 150 MB: Whisper base")
    line, figures = page.locator("#download-line"), page.locator("#download-figures")
    fetch.click()
    expect(figures).to_contain_text(re.compile(r"\d+ MB of 40 MB, \d+\.\d MB/s"))
    expect(page.locator("#download-files")).to_contain_text(re.compile(r"model\.bin\d+ MB of 40 MB"))
    expect(page.get_by_role("progressbar", name="Total")).to_be_visible()
    expect(page.get_by_role("progressbar", name="model.bin")).to_be_visible()
    expect(page.locator("#download-share")).to_have_text(re.compile(r"^(0|25|50)% downloaded\.$"))
    expect(fetch).to_be_disabled()

    # Another window finds it under way.
    other = opened(open_page(launch(), f"{address}/setup"))
    expect(other.locator("#download-figures")).to_contain_text("MB of 40 MB")
    page.get_by_role("button", name="Stop").click()
    expect(line).to_have_text("Stopped. Your progress is saved.")
    expect(other.locator("#download-line")).to_have_text("Stopped. Your progress is saved.")
    other.close()

    hub.gated.add(BASE)
    hub.tokens.add("hf_right")
    fetch.click()
    expect(line).to_contain_text("has terms to accept")
    expect(page.locator("#licence")).to_have_attribute("href", f"{hub.url}/{BASE}")
    token = page.get_by_label("Token")
    expect(token).to_be_focused()
    token.fill("hf_wrong")
    token.press("Enter")
    expect(line).to_contain_text("The token is wrong")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#token-form")).to_be_hidden()
    fetch.click()
    expect(line).to_contain_text("has terms to accept")
    token.fill("hf_right")
    token.press("Enter")
    expect(line).to_have_text("Downloaded and verified.")
    expect(page.locator("#token-form")).to_be_hidden()
    assert hub.sent["model.bin"] < 1.5 * WEIGHTS, "it went on where it had been stopped"

    # It is noise, so it cannot be used: one sentence, and the old ears go on.
    base.get_by_role("button", name="Use Whisper base").click()
    expect(page.locator("#error-ears-engine")).to_contain_text("The settings were not changed")
    expect(page.get_by_role("radio", name="PocketSphinx")).to_be_checked()
    expect(page.locator("[data-health='ears pocketsphinx']")).to_contain_text("Ready")


def test_without_room_on_the_disk_there_is_nothing_to_press(launch: Launch, open_page: Opener, address: str) -> None:
    def full(route: Route) -> None:
        told = route.fetch().json()
        for model in told["models"]:
            model |= {"room": False, "room_why": "The disk has 3 MB free."}
        route.fulfill(json=told)

    page = open_page(launch(), f"{address}/setup", before=lambda page: page.route("**/api/hardware", full))
    expect(row(page, "Whisper small")).to_contain_text("The disk has 3 MB free.")
    expect(page.locator("#models").get_by_role("button", name="Download")).to_have_count(0)


def test_vllm_is_not_offered_where_it_cannot_run(launch: Launch, open_page: Opener, address: str) -> None:
    if look().gpu:
        pytest.skip("here it can")
    page = opened(open_page(launch(), f"{address}/setup"))
    page.locator("input[name='mind.engine'][value='vllm']").click()
    error = page.locator("#error-mind-engine")
    expect(error).to_contain_text("Qwen3 4B, by vLLM can’t run here. Needs an NVIDIA graphics card")
    expect(error.get_by_role("button")).to_have_count(0)
    expect(page.get_by_role("radio", name="Built-in replies")).to_be_checked()
    expect(row(page, "Qwen3 4B, by vLLM")).to_contain_text("Can’t run")
    expect(row(page, "Qwen3 4B, by vLLM").get_by_role("button")).to_have_count(0)
    page.locator("input[name='mind.engine'][value='openai']").click()
    expect(error).to_have_text("Enter the server’s address, such as http://localhost:11434/v1.")
