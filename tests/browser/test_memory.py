"""The memory page: what was said is there to read, find, correct, take away, bring back and delete."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Launch, change, wait_until_ready

MARKUP = "My cat likes <script>document.title = 'broken in'</script> and <b>fish</b>."
EMPTY = """() => fetch("/api/memory", {
  method: "DELETE", headers: { "Content-Type": "application/json" }, body: '{"everything": true}',
})"""

IMPORT = """(body) =>
  fetch("/api/memory/import", { method: "POST", headers: { "Content-Type": "application/jsonl" }, body })"""


def tell(page: Page, server: str, *sentences: str) -> None:
    """Say things on the talk page and wait until each was answered."""
    page.goto(f"{server}/talk")
    wait_until_ready(page)
    for count, words in enumerate(sentences, start=1):
        page.get_by_label("Type instead of talking").fill(words)
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".companion .said")).to_have_count(count)
        expect(page.locator("#state")).to_have_text("Speaking")
        page.keyboard.press("Escape")
        expect(page.locator("#state")).to_have_text("Ready when you are")


@pytest.fixture(scope="module")
def said(launch: Launch, server: str) -> str:
    """What the memory keeps of two sentences that were typed, as it is exported."""
    page = launch().new_page()
    page.goto(f"{server}/memory")
    page.evaluate(EMPTY)
    tell(page, server, "My dog is called Rufus.", MARKUP)
    lines = page.evaluate("""async () => {
      for (;;) {
        const text = await (await fetch("/api/memory/export")).text();
        if (text.includes("Rufus") && text.includes("fish")) return text;
      }
    }""")
    page.close()
    return str(lines)


@pytest.fixture
def memory_page(launch: Launch, open_page: Callable[..., Page], server: str, said: str) -> Page:
    """The memory of somebody who has said two things."""
    page = open_page(launch(), f"{server}/memory")
    page.evaluate(EMPTY)
    page.evaluate(IMPORT, said)
    page.reload()
    expect(page.locator("#turns")).to_contain_text("Rufus")
    return page


def test_it_is_read_found_corrected_and_deleted(memory_page: Page) -> None:
    page = memory_page
    expect(page.locator("#size")).to_contain_text("on this computer")
    expect(page.locator("#turns")).to_contain_text(MARKUP)
    expect(page).to_have_title("Memory – Parley")

    search = page.get_by_role("searchbox")
    search.fill("Rufus")
    search.press("Enter")
    expect(page.locator("#page-title")).to_have_text("“Rufus”")
    mine = page.locator(".turn.you").filter(has_text="Rufus").first
    mine.get_by_role("button", name="Correct").click()
    page.get_by_label("Corrected words").fill("My dog is called Bruno.")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".turn.you").filter(has_text="Bruno")).not_to_have_count(0)
    page.reload()
    expect(page.locator("#turns")).to_contain_text("Bruno")

    doomed = page.locator(".turn.you").filter(has_text="Bruno").first
    doomed.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog", name="Delete this sentence?")
    dialog.get_by_role("button", name="Cancel").click()
    expect(doomed).to_be_visible()
    doomed.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(page.locator("#turns")).not_to_contain_text("Bruno")
    page.reload()
    expect(page.locator("#turns")).to_contain_text("fish")
    expect(page.locator("#turns")).not_to_contain_text("Bruno")


def test_it_is_taken_away_deleted_and_brought_back(memory_page: Page, tmp_path: Path) -> None:
    page = memory_page
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    file = tmp_path / "memory.jsonl"
    download.value.save_as(file)
    assert "Rufus" in file.read_text(encoding="utf-8")

    page.get_by_role("button", name="Delete everything").click()
    dialog = page.get_by_role("dialog", name="Delete everything?")
    dialog.get_by_role("button", name="Delete everything").click()
    expect(page.locator("#page-title")).to_have_text("Nothing yet")
    expect(page.get_by_role("button", name="Export")).to_be_disabled()

    page.locator("#file").set_input_files(file)
    expect(page.locator(".notice")).to_contain_text("Imported")
    expect(page.locator("#turns")).to_contain_text("Rufus")


def test_a_day_is_deleted_as_a_whole(memory_page: Page) -> None:
    memory_page.get_by_role("button", name="Delete day").click()
    memory_page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(memory_page.locator("#page-title")).to_have_text("Nothing yet")


def test_remembering_is_paused(memory_page: Page, server: str) -> None:
    page = memory_page
    page.get_by_role("button", name="Pause remembering").click()
    expect(page.locator("#size")).to_contain_text("Paused")
    tell(page, server, "My hamster is called Zebulon.")
    page.goto(f"{server}/memory")
    expect(page.locator("#turns")).to_contain_text("Rufus")
    expect(page.locator("#turns")).not_to_contain_text("Zebulon")
    page.get_by_role("button", name="Pause remembering").click()
    expect(page.locator("#size")).not_to_contain_text("Paused")


def test_what_is_still_to_index_counts_down(memory_page: Page) -> None:
    waiting = iter([1986, 12])

    def tell(route: Route) -> None:
        told = route.fetch().json()
        told["size"]["waiting"] = next(waiting, 0)
        route.fulfill(json=told)

    memory_page.route("**/api/memory", tell)
    memory_page.reload()
    size = memory_page.locator("#size")
    for words in ("1,986 still to index", "12 still to index"):
        expect(size).to_contain_text(words)
    expect(size).not_to_contain_text("still to index")


def test_what_cannot_be_imported_is_said(memory_page: Page, tmp_path: Path) -> None:
    file = tmp_path / "holiday.jsonl"
    file.write_text("this is no memory\n", encoding="utf-8")
    memory_page.locator("#file").set_input_files(file)
    expect(memory_page.locator(".notice.error")).not_to_be_empty()
    expect(memory_page.locator("#turns")).to_contain_text("Rufus")


def test_a_conversation_is_found_by_a_part_of_a_word_named_and_continued(memory_page: Page, server: str) -> None:
    page = memory_page
    page.get_by_role("searchbox").fill("ufu")
    page.get_by_role("searchbox").press("Enter")
    page.locator(".turn.you").get_by_role("button", name="2").first.click()  # its day and time
    expect(page.locator(".turn:focus")).to_contain_text("Rufus")
    expect(page.locator(".turn:focus")).to_have_attribute("aria-label", "You: My dog is called Rufus.")
    stops = "[...document.querySelectorAll('#turns *, #days *')].filter((it) => it.tabIndex === 0).length"
    assert page.evaluate(stops) <= 4, "the rows are one stop and its two buttons, the conversations one"
    page.keyboard.press("ArrowDown")
    expect(page.locator(".turn:focus")).not_to_contain_text("My dog is called")

    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Name of this conversation").fill("About my dog")
    page.keyboard.press("Enter")
    expect(page.locator("#page-title")).to_have_text("About my dog")
    expect(page.locator("#days")).to_contain_text("About my dog")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename.endswith(".zip")
    page.get_by_role("link", name="Continue").click()
    wait_until_ready(page)
    expect(page).to_have_url(f"{server}/talk")
    expect(page.get_by_role("log").locator(".you .said").first).to_have_text("My dog is called Rufus.")


def test_a_conversation_that_was_recorded_is_played(memory_page: Page, server: str) -> None:
    page = memory_page
    expect(page.get_by_label("Recording of this conversation")).to_be_hidden()
    change(page, recording={"enabled": True})
    try:
        tell(page, server, "My parrot is called Kiwi.")
        page.goto(f"{server}/memory")
        page.locator("#days").get_by_role("button", name="My parrot is called Kiwi").click()
        sound = page.get_by_label("Recording of this conversation")
        expect(sound).to_be_visible()
        sound.evaluate("sound => sound.play()")
        page.wait_for_function("() => document.getElementById('sound').currentTime > 0")
    finally:
        change(page, recording={"enabled": False})


def test_a_conversation_is_pinned_and_the_keyboard_keeps_its_place(memory_page: Page) -> None:
    page = memory_page
    elsewhere = {"id": "x", "speaker": "user", "text": "From another program.", "conversation": "chat 7/ü",
                 "at": "2020-02-02T20:20:00+00:00"}  # fmt: skip
    page.evaluate(IMPORT, json.dumps(elsewhere))
    page.reload()
    shelf = page.locator("#days")
    mine = shelf.get_by_role("button", name="From another program")
    mine.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#turns")).to_have_text(re.compile("From another program"))
    expect(mine).to_be_focused()
    expect(page.get_by_role("link", name="Continue")).to_be_hidden()  # its name is none of Parley's

    pin = page.get_by_role("button", name="Pin", exact=True)
    pin.click()
    expect(pin).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(shelf.locator(".day").first).to_have_text(re.compile("Pinned.*From another program"))
    shelf.get_by_role("button", name="From another program").first.click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert "From another program." in zipfile.ZipFile(download.value.path()).read("transcript.txt").decode()
    pin.click()
    expect(shelf).not_to_contain_text("Pinned")
