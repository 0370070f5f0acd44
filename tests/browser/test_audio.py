"""The audio thread's own promises, checked sample by sample in Chromium's real engine, rendered offline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Launch

RATE = 24_000
QUANTUM = 128
STEADY = 0.06
"""Largest step between two samples of the 440 Hz tone below, at 24 kHz and amplitude 0.5."""

RENDER = """
async ({ seconds, steps }) => {
  const context = new OfflineAudioContext(1, seconds * 24000, 24000);
  const module = await (await fetch("/static/js/audio/playback-worklet.js")).text();
  const answering = `class Answering extends Playback { ask() { this.port.postMessage("taken"); } }
    registerProcessor("answering", Answering);`;
  await context.audioWorklet.addModule(URL.createObjectURL(new Blob([module, answering], { type: "text/javascript" })));
  const node = new AudioWorkletNode(context, "answering", { numberOfInputs: 0, outputChannelCount: [1] });
  const reports = [];
  let taken = null;
  node.port.onmessage = ({ data }) => (data === "taken" ? taken() : reports.push(data));
  const untilTaken = () => {
    node.port.postMessage({ do: "ask" });
    return new Promise((resolve) => (taken = resolve));
  };
  node.connect(context.destination);
  const perform = ([, kind, reply, length]) => {
    if (kind !== "audio") return node.port.postMessage({ do: kind, reply });
    const samples = Float32Array.from({ length }, (_, i) => 0.5 * Math.sin((2 * Math.PI * 440 * i) / 24000));
    return node.port.postMessage({ do: "audio", reply, samples });
  };
  for (const time of new Set(steps.map(([time]) => time))) {
    const here = steps.filter((step) => step[0] === time);
    // Not at 0: rendering could begin, and be over, before the audio thread has the messages.
    context.suspend(Math.max(time, 128 / 24000)).then(async () => {
      here.forEach(perform);
      await untilTaken();
      context.resume();
    });
  }
  const buffer = await context.startRendering();
  await untilTaken(); // what it reported before has come too
  return { sound: [...buffer.getChannelData(0)], reports };
}
"""


@pytest.fixture(scope="module")
def page(launch: Launch, server: str) -> Iterator[Page]:
    """Any page of the server's: the scripts are imported into it."""
    context = launch().new_context(bypass_csp=True)
    page = context.new_page()
    page.goto(f"{server}/memory")
    yield page
    context.close()


@pytest.fixture
def render(page: Page) -> Any:
    def render_(seconds: float, *steps: tuple[object, ...]) -> tuple[np.ndarray, list[dict[str, Any]]]:
        result = page.evaluate(RENDER, {"seconds": seconds, "steps": [list(step) for step in steps]})
        return np.array(result["sound"]), result["reports"]

    return render_


def sounding(sound: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.abs(sound) > 1e-6)


def test_a_reply_is_played_whole_and_without_a_gap(render: Any) -> None:
    sound, reports = render(1.0, (0, "audio", "r", 6000), (0, "audio", "r", 6000), (0, "finish", "r"))
    heard = sounding(sound)
    assert heard[-1] - heard[0] >= 11_990
    assert np.abs(np.diff(sound)).max() < 2 * STEADY + 0.5  # the two tones are not joined in phase
    assert max(report["played"] for report in reports) == 12_000


def test_a_pause_is_quick_and_nothing_is_lost_or_clicks(render: Any) -> None:
    at = 0.4
    sound, reports = render(
        1.6, (0, "audio", "r", 24_000), (0, "finish", "r"), (at, "pause", "r"), (0.8, "resume", "r")
    )
    silent = np.abs(sound[int(at * RATE) + 2 * QUANTUM : int(0.8 * RATE) - QUANTUM]).max()
    assert silent == 0, "silence within two render quanta of the pause"
    assert np.abs(np.diff(sound)).max() < 2 * STEADY, "no click, at the pause or when it goes on"
    assert max(report["played"] for report in reports) == 24_000, "the whole reply in the end"


def test_what_is_dropped_stays_silent_even_when_more_of_it_comes(render: Any) -> None:
    sound, reports = render(
        1.0,
        (0, "audio", "r", 24_000),
        (0.3, "drop", "r"),
        (0.4, "audio", "r", 4800),
        (0.6, "audio", "next", 4800),
        (0.6, "finish", "next"),
    )
    assert np.abs(sound[int(0.3 * RATE) + 2 * QUANTUM : int(0.6 * RATE)]).max() == 0
    assert np.abs(sound[int(0.61 * RATE) : int(0.75 * RATE)]).max() > 0.4
    assert np.abs(np.diff(sound)).max() < 2 * STEADY
    assert max(report["played"] for report in reports if report["reply"] == "r") < 0.35 * RATE


def test_a_queue_that_runs_dry_fades_and_goes_on_when_more_comes(render: Any) -> None:
    sound, reports = render(1.0, (0, "audio", "r", 4801), (0.5, "audio", "r", 4800), (0.5, "finish", "r"))
    assert np.abs(np.diff(sound)).max() < 2 * STEADY
    assert max(report["played"] for report in reports) == 9601


RESAMPLE = """
async ({ from, block, pitch }) => {
  const { Resampler } = await import("/static/js/audio/resampler.js");
  const resampler = new Resampler(from, 24000);
  const output = [];
  for (let start = 0; start < from; start += block) {
    const angle = (i) => (2 * Math.PI * pitch * (start + i)) / from;
    const samples = Float32Array.from({ length: block }, (_, i) => Math.sin(angle(i)));
    output.push(...resampler.process(samples));
  }
  return output;
}
"""


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100, 48_000, 96_000])
def test_the_microphone_is_resampled_cleanly(page: Page, rate: int) -> None:
    sound = np.array(page.evaluate(RESAMPLE, {"from": rate, "block": 128, "pitch": 1000}))
    assert abs(len(sound) - RATE) < 100
    middle = sound[4000:20_000]
    times = np.arange(len(middle)) / RATE
    basis = np.stack([np.sin(2 * np.pi * 1000 * times), np.cos(2 * np.pi * 1000 * times)], axis=1)
    fit, *_ = np.linalg.lstsq(basis, middle, rcond=None)
    assert np.abs(np.hypot(*fit) - 1) < 0.01
    assert np.abs(basis @ fit - middle).max() < 2e-3, "a pure tone stays one: nothing is lost between blocks"


def test_what_24_khz_cannot_hold_is_taken_out(page: Page) -> None:
    sound = np.array(page.evaluate(RESAMPLE, {"from": 48_000, "block": 128, "pitch": 15_000}))
    assert np.abs(sound[1000:-1000]).max() < 2e-3
