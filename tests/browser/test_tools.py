"""Tools on the setup page, and a call that asks first on the talk page."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import READY_WITHIN, Launch, change, wait_until_ready
from tests.browser.test_language_server import language_server, say
from tests.support import mcp_server

CALL = {
    "tool_calls": [{"index": 0, "id": "a", "function": {"name": "remove", "arguments": '{"path": "<b>notes</b>"}'}}]
}


@pytest.mark.slow
def test_a_server_is_added_and_a_tool_that_asks_first_is_allowed_by_a_key(
    launch: Launch, open_page: Callable[..., Page], server: str
) -> None:
    page = open_page(launch(), f"{server}/setup#tools")
    expect(page.locator("[data-health='mind builtin']")).to_contain_text("Ready", timeout=READY_WITHIN)
    expect(page.locator("#tools-unusable")).to_be_visible()
    expect(page.get_by_label("get time")).to_have_value("allow")
    with language_server() as theirs:
        change(page, mind={"engine": "openai", "url": theirs.url, "model": "", "api_key": "right"})
        try:
            page.reload()
            expect(page.locator("#tools-unusable")).to_be_hidden()
            page.get_by_label("Name", exact=True).fill("broken")
            page.get_by_label("Command").fill("no-such-program --really")
            page.get_by_role("button", name="Add and test").click()
            broken = page.get_by_role("listitem").filter(has_text="no-such-program --really")
            expect(broken).to_contain_text("There is no program 'no-such-program' on this computer")
            page.get_by_role("button", name="Remove: broken").click()
            page.get_by_role("dialog").get_by_role("button", name="Remove").click()
            expect(broken).to_have_count(0)
            page.get_by_label("Name", exact=True).fill("mine")
            page.get_by_label("Command").fill(f"'{sys.executable}' '{Path(mcp_server.__file__)}'")
            page.get_by_role("button", name="Add and test").click()
            expect(page.locator("#tool-line")).to_have_text("mine is ready.")
            expect(page.get_by_label("remove Remove a file.")).to_have_value("ask")
            page.get_by_label("much Much text.").select_option("off")
            expect(page.get_by_label("much Much text.")).to_have_value("off")

            page.goto(f"{server}/talk")
            wait_until_ready(page)
            theirs.pieces = [CALL]
            say(page, "Remove my notes.")
            card = page.get_by_role("region", name="Allow “remove”?")
            expect(card).to_contain_text("path: <b>notes</b>")
            assert "much" not in [tool["function"]["name"] for tool in theirs.requests[-1]["tools"]]
            theirs.pieces = ["They are gone."]
            page.locator("#talk").focus()
            page.keyboard.press("y")
            expect(card).to_be_hidden()
            line = page.locator(".entry.tool")
            expect(line).to_contain_text("remove (path: <b>notes</b>): done")
            line.get_by_text("Result").click()
            expect(line).to_contain_text("removed <b>notes</b>")
            expect(page.locator(".entry.companion").last).to_contain_text("They are gone.")
        finally:
            change(page, mind={"engine": "builtin", "url": "", "model": "", "api_key": ""}, tools={"servers": []})
