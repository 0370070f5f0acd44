"""The people of the memory page: a voice is recorded, known from then on, and forgotten."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import soundfile
import soxr
from playwright.sync_api import Page, expect

from tests.browser.conftest import READY_WITHIN, Launch, change
from tests.support.recordings import recording

pytestmark = pytest.mark.slow  # 17 MB of weights, fetched where they are not there


def reading() -> np.ndarray:
    """Twenty seconds of one reader, 24 kHz."""
    parts = []
    for name in ("austen_0870.wav", "austen_0890.wav", "austen_0870.wav"):
        sound, rate = soundfile.read(recording(name))
        parts.append(soxr.resample(sound, rate, 24_000))
    return np.concatenate(parts)


def test_a_voice_is_recorded_and_forgotten(launch: Launch, open_page: Callable[..., Page], server: str) -> None:
    page = open_page(launch(reading(), key="reading"), f"{server}/memory")
    page.get_by_text("People", exact=True).click()
    form, line = page.locator("#told-apart"), page.locator("#people-line")
    expect(form).to_be_hidden()
    page.get_by_label("Tell people apart by their voices").check()
    expect(form).to_be_visible(timeout=READY_WITHIN)
    expect(page.locator("#first-person")).to_be_visible()
    page.get_by_label("Add a person").fill("Jane")
    record = page.get_by_role("button", name="Record the voice")
    record.click()
    expect(line).to_be_empty()  # nobody has agreed yet
    page.get_by_label("This is my own voice").check()
    record.click()
    expect(line).to_have_text("Parley knows Jane’s voice now.")
    expect(page.locator("#people-list")).to_have_text("Jane (you)")
    page.reload()
    page.get_by_text("People", exact=True).click()
    page.get_by_role("button", name="Forget Jane’s voice").click()
    page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    expect(page.locator("#people-list li")).to_have_count(0)
    change(page, memory={"people": False})
