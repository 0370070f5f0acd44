"""A spoken conversation with real weights, Whisper base, SmolLM2 and Piper, as a user has it.

What is judged is what was heard: the question by the product's Whisper, the reply's sound by one of the test's own.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from openai import AsyncOpenAI

from benchmarks.simulated_user import TICK, Headset, headset, load
from config.packages import PIPER_JOE, SMOLLM2_135M, WHISPER_BASE
from config.places import ROOT
from pipeline.audio import MOUTH_RATE, Samples
from pipeline.engines.trial import words_right
from tests.support.product import Product, ask, started
from tests.support.real_models import folder, heard
from tests.support.recordings import recording
from tests.web.realtime.test_sdk import collect, say

QUESTION = "What is the weather in Paris?"
SMALL = ("--profile", "small")
UNDERSTOOD = 0.8
"""The share of the words at least: Whisper base has its own mistakes."""

pytestmark = pytest.mark.xdist_group("small")  # one product for all


@pytest.fixture(scope="module", autouse=True)
def real_models() -> None:
    for model in (WHISPER_BASE, SMOLLM2_135M, PIPER_JOE):
        folder(model)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with started(tmp_path_factory.mktemp("small") / "data", *SMALL) as product:
        product.wait_until()
        assert [product.health()["engines"][stage]["engine"] for stage in ("ears", "mind", "voice")] == [
            "whisper", "llama", "piper",
        ]  # fmt: skip
        yield product


def understood(said: str, sound: Samples) -> bool:
    """Whether a sound is this text, spoken. Figures are written out by the one and not by the other."""
    right, of = words_right(said, heard(sound))
    return right >= UNDERSTOOD * of


async def turn(user: Headset) -> dict[str, Any]:
    """The record of the turn that ends next."""
    await user.turn_done.wait()
    user.turn_done.clear()
    record: dict[str, Any] = user.tracks.records[-1]
    return record


async def test_a_question_is_understood_and_the_reply_is_heard_as_it_was_written(product: Product) -> None:
    async with headset(product.port) as user:
        await user.speak(load("weather_question.wav"))
        record = await turn(user)
        spoken = np.concatenate(user.tracks.reply)
    assert words_right(QUESTION, record["user"]) == (6, 6), record["user"]
    assert record["outcome"] == "completed"
    assert record["heard"] == record["reply"]
    assert len(record["reply"].split()) <= 40
    assert re.search(r"\b(cannot|can't|no|not|don't)\b", record["reply"], re.IGNORECASE), "weather is not invented"
    assert understood(record["reply"], spoken), (record["reply"], heard(spoken))


@pytest.mark.slow
async def test_who_talks_over_a_reply_silences_it_and_is_understood(product: Product) -> None:
    async with headset(product.port) as user:
        await user.speak(load("weather_question.wav"))
        while sum(end - start for start, end in user.tracks.stretches(user.tracks.reply)) < 1.0:
            await user.speak(np.zeros(TICK, np.float32))  # before, it would be the question that goes on
        before = len(user.tracks.reply)
        await user.speak(load("austen_0870.wav")[: 4 * MOUTH_RATE])
        during = np.concatenate(user.tracks.reply[before:])
        cut = await turn(user)
        answered = await turn(user)
    assert cut["outcome"] == "interrupted"
    assert cut["reply"].startswith(cut["heard"]) and len(cut["heard"]) < len(cut["reply"])
    assert not np.abs(during[2 * MOUTH_RATE :]).max(), "silence, while the other one speaks"
    assert len(answered["user"].split()) >= 5, answered["user"]
    assert answered["heard"]


@pytest.mark.slow
async def test_the_stock_sdk_hears_a_reply_in_clear_words(product: Product) -> None:
    samples, rate = soundfile.read(recording("weather_question.wav"), dtype="float32")
    assert rate == MOUTH_RATE
    question = np.concatenate([(samples * 32767).astype("<i2"), np.zeros(2 * MOUTH_RATE, "<i2")])
    async with (
        AsyncOpenAI(base_url=f"http://127.0.0.1:{product.port}/v1", api_key="none") as client,
        client.realtime.connect(model="parley") as connection,
    ):
        await collect(connection, "session.created")
        await say(connection, question)
        events = await collect(connection, "response.done")
    written = next(event.transcript for event in events if event.type.endswith("input_audio_transcription.completed"))
    assert words_right(QUESTION, written) == (6, 6), written
    reply = events[-1].response.output[0].content[0].transcript
    deltas = (event.delta for event in events if event.type == "response.output_audio.delta")
    assert understood(reply, decoded(deltas)), reply


def decoded(deltas: Iterator[str]) -> Samples:
    """24 kHz, out of the protocol's base64 of 16-bit samples."""
    sound = b"".join(base64.b64decode(delta) for delta in deltas)
    return (np.frombuffer(sound, "<i2") / 32768).astype(np.float32)


@pytest.mark.slow
def test_a_recording_is_answered_by_a_recording(tmp_path: Path) -> None:
    reply = tmp_path / "reply.wav"
    question = str(recording("weather_question.wav"))
    done = subprocess.run(
        [sys.executable, "main.py", "talk", *SMALL, "--json", "--data", str(tmp_path / "data"),
         "--input", question, "--output", str(reply)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["notices"] == []
    (record,) = told["turns"]
    assert words_right(QUESTION, record["user"]) == (6, 6)
    sound, rate = soundfile.read(reply, dtype="float32")
    assert rate == MOUTH_RATE
    assert understood(record["heard"], sound), (record["heard"], heard(sound))


@pytest.mark.slow
def test_it_knows_tomorrow_what_was_said_today(tmp_path: Path) -> None:
    for question in ("My dog is called Rufus.", "What is my dog called?"):
        with started(tmp_path, *SMALL) as product:
            product.wait_until()
            with product.conversation() as socket:
                assert "Rufus" in ask(socket, question)
