"""A spoken conversation in the browser with real weights: Whisper base, SmolLM2 and Piper."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from config.packages import PIPER_JOE, SMOLLM2_135M, WHISPER_BASE
from pipeline.engines.trial import words_right
from tests.browser.conftest import Launch, question, serving, wait_until_ready
from tests.support.real_models import folder, heard


@pytest.mark.slow
def test_what_is_asked_aloud_is_understood_and_the_reply_sounds_as_it_reads(
    launch: Launch, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    for model in (WHISPER_BASE, SMOLLM2_135M, PIPER_JOE):
        folder(model)
    events: list[dict[str, Any]] = []
    with serving(tmp_path / "data", "small") as address:
        page = open_page(launch(question(after=60), key="small"), f"{address}/talk")
        wait_until_ready(page)
        expect(page.locator("#mind")).to_be_hidden()  # that the replies are rules is said where they are
        page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: events.append(json.loads(frame))))
        page.reload()
        wait_until_ready(page)
        page.get_by_role("button", name="Start talking").click()
        log = page.get_by_role("log")
        expect(log.locator(".you.final .said").first).to_have_text("What is the weather in Paris?")
        expect(page.locator("#timing-total")).to_contain_text("Answered in")
        expect(page.locator("#state")).to_have_text("Listening")
        expect(log.locator(".companion .unheard")).to_have_count(0)
        assert int(log.locator(".companion").first.get_attribute("data-played") or 0) > 12_000, "half a second"
        written = log.locator(".companion .said").first.inner_text()
        page.goto("about:blank")
    pcm = b"".join(base64.b64decode(each["delta"]) for each in events if each["type"] == "response.output_audio.delta")
    sound = (np.frombuffer(pcm, "<i2") / 32768).astype(np.float32)
    right, of = words_right(written, heard(sound))
    assert right >= 0.8 * of, (written, heard(sound))
