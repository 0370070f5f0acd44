"""The check on the setup page: each verdict as it comes, a sign of life from what takes long, and a way out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import READY_WITHIN, Launch, question, serving
from tests.csm.tiny import write_checkpoint

Opener = Callable[..., Page]
WELL = re.compile(r"^Everything works(\.|, but some of it could be better\.) The microphone wasn’t tried")
"""The second on a machine that has much else to do."""


@pytest.fixture
def setup_page(launch: Launch, open_page: Opener, server: str) -> Page:
    page = open_page(launch(), f"{server}/setup")
    expect(page.locator("[data-health='voice espeak']")).to_contain_text("Ready", timeout=READY_WITHIN)
    memory = page.locator("#loaded li").filter(has=page.get_by_text("Memory", exact=True))
    expect(memory).to_contain_text("Ready", timeout=READY_WITHIN)
    return page


@pytest.mark.slow
def test_the_check_tells_its_verdicts(setup_page: Page) -> None:
    setup_page.get_by_role("button", name="Check setup").click()
    expect(setup_page.locator("#examine-line")).to_have_text(WELL, timeout=READY_WITHIN)
    ears = setup_page.locator(".finding", has_text="Understanding")
    expect(ears).to_contain_text("6 of 6 words right")
    expect(setup_page.locator(".finding.good .icon use[href$='#icon-check']")).not_to_have_count(0)
    expect(setup_page.locator(".finding").filter(has_not_text="Kokoro’s voices")).to_have_count(11)  # where it is here


BEGUN = {"check": "computer", "title": "This computer"}
BAD: dict[str, object] = {**BEGUN, "grade": "bad", "word": "does not work", "seconds": None, "figures": {},
       "text": "<b>No card</b>: run `python3 main.py --profile <i>cpu</i>`."}  # fmt: skip
STEPS: list[dict[str, object]] = [{"begun": BEGUN}, {"finding": BAD}]


def test_what_is_wrong_has_a_sign_a_word_and_a_remedy(setup_page: Page) -> None:
    def answer(route: Route) -> None:
        lines = "".join(json.dumps(step) + "\n" for step in STEPS)
        route.fulfill(body=lines, content_type="application/jsonl")

    setup_page.route("**/api/doctor", answer)
    setup_page.get_by_role("button", name="Check setup").click()
    row = setup_page.locator(".finding.bad")
    expect(row).to_contain_text("Does not work")
    expect(row.locator(".icon use[href$='#icon-close']")).to_have_count(1)
    expect(row.locator("code")).to_have_text("python3 main.py --profile <i>cpu</i>")
    expect(row).to_contain_text("<b>No card</b>")  # as text
    expect(setup_page.locator("#examine-line")).to_have_text("One thing isn’t working.")


def test_a_long_check_shows_that_it_lives_and_can_be_stopped(setup_page: Page) -> None:
    """The stream stays open after its first lines, as while a model loads."""
    steps = [{"begun": BEGUN}, {"working": {**BEGUN, "text": "int8: loading the model"}}]
    setup_page.evaluate(
        """(steps) => {
          const real = window.fetch;
          window.fetch = (path, options) => {
            if (path !== "/api/doctor") return real(path, options);
            window.gone = false;
            const body = new ReadableStream({
              start(stream) {
                for (const step of steps) stream.enqueue(new TextEncoder().encode(JSON.stringify(step) + "\\n"));
                options.signal.addEventListener("abort", () => {
                  window.gone = true;
                  stream.error(options.signal.reason);
                });
              },
            });
            return Promise.resolve(new Response(body, { headers: { "Content-Type": "application/jsonl" } }));
          };
        }""",
        steps,
    )
    setup_page.get_by_role("button", name="Check setup").click()
    row = setup_page.locator(".finding.pending")
    expect(row).to_contain_text("int8: loading the model…")
    expect(row.locator(".figures")).to_have_text("1 s")
    stop = setup_page.get_by_role("button", name="Stop checking")
    expect(stop).to_be_focused()
    stop.click()
    expect(setup_page.locator("#examine-line")).to_have_text("Stopped.")
    expect(setup_page.locator(".finding")).to_have_count(0)
    assert setup_page.evaluate("window.gone")
    expect(setup_page.get_by_role("button", name="Check setup")).to_be_focused()


@pytest.mark.slow
def test_stopping_reaches_the_server_and_it_can_be_begun_again(setup_page: Page) -> None:
    begin = setup_page.get_by_role("button", name="Check setup")
    begin.click()
    setup_page.get_by_role("button", name="Stop checking").click()
    expect(begin).to_be_visible()
    begin.click()
    expect(setup_page.locator("#examine-line")).to_have_text(WELL, timeout=READY_WITHIN)


def test_a_voice_that_is_put_away_meanwhile_is_seen_to_come_back(setup_page: Page) -> None:
    resting = True

    def rest(route: Route) -> None:
        told = route.fetch().json()
        if resting:
            told["engines"]["voice"]["state"] = "stopped"
        route.fulfill(json=told)

    def answer(route: Route) -> None:
        route.fulfill(body=json.dumps({"begun": BEGUN}) + "\n", content_type="application/jsonl")

    setup_page.route("**/health", rest)
    setup_page.route("**/api/doctor", answer)
    setup_page.get_by_role("button", name="Check setup").click()
    voice = setup_page.locator("[data-health='voice espeak']")
    expect(voice).to_have_text("Not running.")
    resting = False
    expect(voice).to_contain_text("Ready")


@pytest.mark.slow
def test_stopped_in_the_middle_of_a_model_the_voice_comes_back_and_a_conversation_is_not_disturbed(
    launch: Launch, open_page: Opener, tmp_path: Path
) -> None:
    """A tiny CSM of random weights: what it says is noise, and only that it is loaded, put away and back matters."""
    data = tmp_path / "data"
    data.mkdir()
    voice = {"engine": "csm", "model": str(write_checkpoint(tmp_path / "noise")), "precision": "fp32"}
    (data / "settings.json").write_text(json.dumps({"set_up": True, "voice": voice}))
    with serving(data) as address:
        browser = launch(question(after=30.0), key="doctor")
        page = open_page(browser, f"{address}/setup")
        ready = page.locator("[data-health='voice csm']")
        expect(ready).to_contain_text("Ready", timeout=READY_WITHIN)
        page.get_by_role("button", name="Check setup").click()
        row = page.locator(".finding.pending", has_text="The voice in each precision")
        expect(row).to_contain_text("bf16: loading", timeout=READY_WITHIN)
        expect(ready).to_have_text("Not running.")
        page.get_by_role("button", name="Stop checking").click()
        expect(ready).to_contain_text("Ready", timeout=READY_WITHIN)

        talk = open_page(browser, f"{address}/talk")
        expect(talk.locator("#state")).to_have_text("Ready when you are", timeout=READY_WITHIN)
        page.get_by_role("button", name="Check setup").click()
        talk.get_by_role("button", name="Start talking").click()
        expect(page.get_by_role("button", name="Check setup")).to_be_visible(timeout=READY_WITHIN)
        row = page.locator(".finding", has_text="The voice in each precision")
        expect(row).to_contain_text("close the talk page")
        expect(talk.locator(".you .said").last).to_contain_text("weather", timeout=READY_WITHIN)
        expect(talk.locator(".companion .said").last).not_to_be_empty()
        for each in (page, talk):
            each.goto("about:blank")
