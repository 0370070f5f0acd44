"""The settings page of one of a gateway's users, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Launch
from tests.integration.test_gateways import gateway
from web.gateway import accounts

pytestmark = pytest.mark.slow


def test_a_user_of_a_gateway_changes_their_own_settings(
    launch: Launch, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    token = accounts.add(tmp_path / "users.json", "anna")
    with gateway(tmp_path) as product:
        page = open_page(launch(), f"http://127.0.0.1:{product.port}/?token={token}")
        page.get_by_role("link", name="Settings").click()

        expect(page.locator("#loaded li").first).to_contain_text("PocketSphinx")
        page.get_by_label("Persona", exact=True).fill("You are a pirate.")
        page.get_by_label("Persona", exact=True).blur()
        expect(page.locator("#saved")).to_have_text(re.compile("^Saved"))
        page.get_by_role("combobox", name="Voice", exact=True).select_option(index=2)
        chosen = page.get_by_role("combobox", name="Voice", exact=True).input_value()
        page.get_by_label("Remember what we say").uncheck()
        expect(page.locator("#builtin-tools li").first).to_be_visible()

        page.reload()
        expect(page.get_by_label("Persona", exact=True)).to_have_value("You are a pirate.")
        expect(page.get_by_role("combobox", name="Voice", exact=True)).to_have_value(chosen)
        expect(page.get_by_label("Remember what we say")).not_to_be_checked()
        page.get_by_role("button", name="Hear it").click()
        expect(page.get_by_role("button", name="Hear it")).to_be_visible()
        expect(page.locator("#hear-error")).to_be_empty()
