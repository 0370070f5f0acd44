"""A spoken conversation in the browser through Whisper, vLLM and CSM, each on a tiny checkpoint with random weights.

What is heard and said is fixed and what is spoken is noise (tests/support/tiny_repositories.py): it is the way from the
microphone to the headset that is looked at, through the engines that a GPU user has.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from playwright.sync_api import Page, expect

from config.places import ROOT
from pipeline.llm.vllm import PYTHON
from tests.browser.conftest import Launch, question, serving, wait_until_ready
from tests.support import tiny_repositories as tiny
from tests.support.tiny_models import HEARD, SAID
from tests.support.user_machine import Machine, user_machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("vllm"),
    pytest.mark.skipif(not PYTHON.exists(), reason="vLLM is not installed: `python3 setup.py vllm`"),
]

CHOICES = {
    "ears": {"engine": "whisper", "model": "base.en"},
    "mind": {"engine": "vllm", "model": tiny.LLAMA, "max_tokens": 60},
    "voice": {"engine": "csm", "model": tiny.TUNED},
}
CHANGE = """
async (settings) => {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch("/api/settings", { method: "PUT", headers, body: JSON.stringify(settings) });
  return answer.json();
}
"""
FRAME = 1920
"""Samples of one frame of CSM, 80 ms at 24 kHz."""
WITHIN = 120_000
"""Milliseconds. A bound for what hangs, not a claim about speed."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with user_machine(tmp_path_factory.mktemp("engines")) as machine:
        machine.settle({"set_up": True})
        machine.fetch_models("ears:whisper:base.en", f"mind:vllm:{tiny.LLAMA}", f"voice:csm:{tiny.TUNED}")
        yield machine


def talk_of_one_who_goes_on() -> np.ndarray:
    """A question, and twice more words, each time when a reply must be sounding; 24 kHz."""
    more, rate = soundfile.read(ROOT / "tests" / "audio" / "austen_0870.wav")
    words = soxr.resample(more[: 5 * rate], rate, 24_000)
    pause = np.zeros(8 * 24_000)
    return np.concatenate([question(after=8), words, pause, words, np.zeros(120 * 24_000)])


def test_a_conversation_on_random_weights_chosen_while_it_runs(
    launch: Launch, open_page: Callable[..., Page], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    with serving(machine.data) as address:
        events: list[dict[str, Any]] = []
        page = open_page(launch(talk_of_one_who_goes_on(), key="goes on"), f"{address}/talk")
        wait_until_ready(page)
        assert page.evaluate(CHANGE, CHOICES)["applied"] == ["ears", "mind", "voice"]
        page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: events.append(json.loads(frame))))
        page.reload()
        wait_until_ready(page)
        health = page.evaluate("async () => (await (await fetch('/health')).json()).engines")
        assert {stage: health[stage]["state"] for stage in CHOICES} == dict.fromkeys(CHOICES, "ready")
        assert health["mind"]["engine"] == "vllm"

        page.get_by_role("button", name="Start talking").click()
        log = page.get_by_role("log")
        expect(log.locator(".you.final .said").first).to_have_text(" ".join(HEARD), timeout=WITHIN)
        expect(log.locator(".companion .said").first).to_contain_text(" ".join(SAID[:8]), timeout=WITHIN)
        expect(page.locator("#timing-total")).to_contain_text("Answered in", timeout=WITHIN)
        expect(log.locator(".companion .unheard").first).not_to_be_empty(timeout=WITHIN)
        expect(log.locator(".companion .aside").first).to_contain_text("You")
        expect(log.locator(".companion")).not_to_have_count(1, timeout=WITHIN)
        page.get_by_role("button", name="End conversation").click()
        assert int(log.locator(".companion").first.get_attribute("data-played") or 0) > 12_000, "half a second"
        found = page.evaluate("async () => (await (await fetch('/api/memory/search?q=tiny')).json()).turns")
        page.goto("about:blank")

    turn = next(event["record"] for event in events if event["type"] == "parley.turn")
    assert turn["user"] == " ".join(HEARD)
    assert turn["outcome"] == "interrupted"
    assert turn["reply"].startswith(turn["heard"]) and turn["heard"] != turn["reply"]
    marks = [turn["marks"][name] for name in ("speech_ended", "first_token", "first_clause", "first_sample")]
    assert marks == sorted(marks)
    assert {turn["user"], turn["heard"]} <= {turn["text"] for turn in found}, "what was heard is remembered"

    session = next(event["session"] for event in events if event["type"] == "session.created")
    assert session["audio"]["output"]["format"]["rate"] == 24_000
    sounds = [base64.b64decode(event["delta"]) for event in events if event["type"] == "response.output_audio.delta"]
    assert len(sounds) > 10
    assert {len(sound) for sound in sounds} == {2 * FRAME}, "CSM’s frames, one by one"
    assert any(np.abs(np.frombuffer(sound, np.int16)).max() > 300 for sound in sounds), "noise, and no silence"
