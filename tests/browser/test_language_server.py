"""A language model on a server of the user's: its address, its key, its models, and a reply."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import READY_WITHIN, Launch, change, wait_until_ready
from tests.browser.test_memory import EMPTY, IMPORT
from tests.support.chat_server import ChatServer, chat_server

Opener = Callable[..., Page]
SUMMARIES = """async () => Object.keys((await (await fetch("/api/memory")).json()).summaries).length"""
MODELS = {"data": [{"id": "tiny", "max_model_len": 2048}, {"id": "<b>large</b>"}]}


@contextmanager
def language_server() -> Iterator[ChatServer]:
    """In a thread of its own, for the test itself drives a browser."""
    loop = asyncio.new_event_loop()
    ready: Future[ChatServer] = Future()
    over = asyncio.Event()

    async def run() -> None:
        async with chat_server(models=MODELS, key="right") as server:
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


@pytest.fixture
def setup_page(launch: Launch, open_page: Opener, server: str) -> Iterator[Page]:
    """With the built-in mind and no address, before and afterwards."""
    page = open_page(launch(), f"{server}/setup")
    expect(page.locator("[data-health='mind builtin']")).to_contain_text("Ready", timeout=READY_WITHIN)
    yield page
    change(page, mind={"engine": "builtin", "url": "", "model": "", "api_key": ""})


def say(page: Page, words: str) -> None:
    page.get_by_label("Type instead of talking").fill(words)
    page.get_by_role("button", name="Send").click()


def test_from_an_address_to_a_reply(setup_page: Page, server: str) -> None:
    page = setup_page
    with language_server() as theirs:
        builtin = page.locator("[data-health='mind builtin']")
        url, key, model = (page.get_by_label(name, exact=True) for name in ("Server address", "API key", "Mind: model"))
        asks, line = page.get_by_role("button", name="List the server’s models"), page.locator("#ask-line")
        choice, error = page.locator("input[name='mind.engine'][value='openai']"), page.locator("#error-mind-engine")

        ready = page.locator("[data-health='mind openai']")

        # Chosen without an address: refused in one sentence, and what there was goes on.
        expect(url).to_be_hidden()
        choice.click()
        expect(error).to_contain_text("Enter the server’s address")
        expect(page.locator("input[name='mind.engine'][value='builtin']")).to_be_checked()
        expect(builtin).to_contain_text("Ready")

        for wrong, words in (("http://127.0.0.1:9/v1", "No server answers at"), ("ftp:/x", "is not an address")):
            url.fill(wrong)
            asks.click()
            expect(line).to_contain_text(words)
        url.fill(theirs.url)
        for wrong in ("", "wrong"):
            key.fill(wrong)
            asks.click()
            expect(line).to_contain_text("refused the key")
        key.fill("right")
        asks.click()
        expect(line).to_have_text("The server has tiny, <b>large</b>.")
        expect(choice).to_be_checked()
        expect(error).to_be_empty()
        expect(ready).to_have_text("Ready.")
        theirs.models = {"data": []}
        asks.click()
        expect(line).to_contain_text("The server has no model loaded")
        theirs.models = MODELS
        model.fill("huge")
        model.blur()
        expect(page.locator("#error-mind-model")).to_contain_text("has no model 'huge': choose one of tiny")
        expect(ready).to_have_text("Ready.")
        model.fill("tiny")
        model.blur()
        expect(page.locator("#error-mind-model")).to_be_empty()
        expect(ready).to_have_text("Ready.")
        expect(page.locator("#loaded li", has_text="Mind")).to_contain_text("Your own server, tiny")
        expect(key).to_have_value("right")

        page.goto(f"{server}/talk")
        wait_until_ready(page)
        expect(page.locator("#mind")).to_be_hidden()
        say(page, "Who are you?")
        expect(page.locator(".companion .said").last).to_have_text("Hello there.")
        assert theirs.requests[-1]["model"] == "tiny"

        # It goes wrong in the middle of a conversation: said, and the conversation goes on.
        theirs.status, theirs.body = 500, '{"error": {"message": "out of memory"}}'
        expect(page.locator("#state")).to_have_text("Ready when you are")
        say(page, "And now?")
        expect(page.locator(".notice.error")).to_contain_text("answered 500 (out of memory)")
        theirs.status = 200
        expect(page.locator("#state")).to_have_text("Ready when you are")
        say(page, "Again?")
        expect(page.locator(".companion .said").last).to_have_text("Hello there.")
        expect(page.locator(".notice.error")).to_have_count(0)


def test_past_days_are_summarised_once_that_is_wanted_by_a_model_that_can(setup_page: Page, server: str) -> None:
    page = setup_page
    said = {"id": "walk", "speaker": "user", "text": "I walked to the sea.", "conversation": "walk",
            "at": "2020-02-02T20:20:00+00:00"}  # fmt: skip
    page.goto(f"{server}/memory")
    page.evaluate(EMPTY)
    page.evaluate(IMPORT, json.dumps(said))
    page.reload()
    wanted, lacking, summary = page.locator("#summarise"), page.locator("#no-summaries"), page.locator("#summary")
    wanted.click()
    expect(lacking).to_contain_text("it would make things up")
    expect(summary).to_be_hidden()
    with language_server() as theirs:
        change(page, mind={"engine": "openai", "url": theirs.url, "api_key": "right", "model": "tiny"})
        while not page.evaluate(SUMMARIES):
            pass
        page.reload()
        expect(lacking).to_be_hidden()
        expect(summary).to_have_text("Hello there. Summary written by tiny. It can be wrong.", use_inner_text=True)
        page.get_by_role("button", name="Delete: I walked to the sea.").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(summary).to_be_hidden()
    wanted.click()
    expect(wanted).to_have_attribute("aria-pressed", "false")


def test_a_key_is_kept_for_its_server_alone(setup_page: Page) -> None:
    page = setup_page
    with language_server() as theirs:
        url, key = page.get_by_label("Server address"), page.get_by_label("API key", exact=True)
        page.locator("input[name='mind.engine'][value='openai']").click()
        url.fill(theirs.url)
        key.fill("right")
        key.blur()
        expect(page.locator("[data-health='mind openai']")).to_contain_text("Ready")
        page.reload()
        expect(key).to_have_value("")
        expect(key).to_have_attribute("placeholder", "saved")
        url.fill(f"{theirs.url}/")
        url.blur()
        expect(page.locator("#saved")).to_contain_text("Saved")
        expect(key).to_have_attribute("placeholder", "saved")
        url.fill(theirs.url.replace("127.0.0.1", "localhost"))
        url.blur()
        expect(page.locator("[data-error='mind.engine'], [data-error='mind.url'], .notice.error")).not_to_have_count(0)
        expect(page.locator("body")).to_contain_text("refused the key")
