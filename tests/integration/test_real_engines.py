"""The engines of a GPU user, each on a tiny checkpoint with random weights, from the download to the last sample.

Whisper writes the same words whatever it hears, the Llama says the same words whatever it is asked, and CSM speaks
noise (tests/support/tiny_repositories.py). So nothing here is about understanding or speech. Tested is that every stage
really ran and passed on what it made.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from config.places import ROOT
from pipeline.llm.vllm import PYTHON
from rag import Memory
from tests.support import tiny_repositories as tiny
from tests.support.product import ask, started
from tests.support.recordings import recording
from tests.support.tiny_models import HEARD, SAID
from tests.support.user_machine import Machine, user_machine

# One vLLM at a time: each wants every core.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("vllm"), pytest.mark.timeout(900)]

CHOICES = {
    "ears": {"engine": "whisper", "model": "base.en"},
    "mind": {"engine": "vllm", "model": tiny.LLAMA, "max_tokens": 24},
    "voice": {"engine": "csm", "model": tiny.CSM},
}
WEIGHTS = f"{tiny.CSM}/model.safetensors"
HALF = 8_000_000
"""Bytes of these 16 MB after which its download is killed."""
BLOCK = 1 << 20
"""Bytes that are taken from the connection at a time."""
FRAME = 1920
"""Samples of one frame of CSM, 80 ms at 24 kHz."""
MOMENT_S = 240.0
"""A bound for what hangs, not a claim about speed."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with user_machine(tmp_path_factory.mktemp("engines")) as machine:
        machine.settle(CHOICES)
        yield machine


@dataclass(frozen=True, slots=True)
class Fetched:
    """After `python3 setup.py models`, killed half-way and started again."""

    kept: int
    """Bytes of the voice's weights that the killed download left."""
    sent: Counter[str]
    """Bytes of each file that the hub had sent by then."""
    told: str
    """What the second download printed."""


@pytest.fixture(scope="module")
def fetched(machine: Machine) -> Fetched:
    hub = machine.hub
    hub.wait_after[WEIGHTS] = HALF
    models = subprocess.Popen(
        machine.command("setup.py", "models", "--yes"),
        cwd=ROOT, env=machine.environment, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert hub.paused.wait(120)
    (part,) = machine.cache.rglob("*.parley-part")
    until = time.monotonic() + 60
    while part.stat().st_size < HALF - BLOCK and time.monotonic() < until:
        time.sleep(0.01)  # what the hub has sent is on its way
    models.kill()
    models.wait()
    kept, sent = part.stat().st_size, Counter(hub.sent)
    return Fetched(kept, sent, machine.fetch_models())


def test_models_are_fetched_and_what_a_killed_download_left_is_not_fetched_again(
    machine: Machine, fetched: Fetched
) -> None:
    hub = machine.hub
    size = (machine.repositories[tiny.CSM] / "model.safetensors").stat().st_size
    assert HALF - BLOCK <= fetched.kept <= HALF, "all but the last block was on the disk"
    assert hub.sent[WEIGHTS] - fetched.sent[WEIGHTS] == size - fetched.kept
    whole = [f"{tiny.WHISPER}/model.bin", f"{tiny.LLAMA}/model.safetensors"]
    assert all(hub.sent[name] == fetched.sent[name] > 0 for name in whole), "they had come before the kill"
    assert fetched.told.rstrip().endswith("Fetched and checked.")
    unwanted = [name for name in hub.sent if "transformers-0" in name or tiny.TUNED in name]
    assert not unwanted, "one of the two formats, and nothing that was not chosen"
    assert hub.sent[f"{tiny.MIMI}/tokenizer-e351c8d8-checkpoint125.safetensors"] > 0, "the codec came with the voice"


@pytest.mark.skipif(not PYTHON.exists(), reason="vLLM is not installed: `python3 setup.py vllm`")
def test_a_spoken_conversation_on_random_weights_from_a_recording_to_a_file(
    machine: Machine, fetched: Fetched, tmp_path: Path
) -> None:
    output = tmp_path / "reply.wav"
    question = str(recording("weather_question.wav"))
    asked = len(machine.hub.fetched)
    done = subprocess.run(
        machine.command("main.py", "talk", "--json", "--input", question, "--output", str(output)),
        cwd=ROOT, env=machine.environment, stdout=subprocess.PIPE, text=True, check=True, timeout=MOMENT_S,
    )  # fmt: skip
    assert len(machine.hub.fetched) == asked, "no engine fetches anything by itself"
    told = json.loads(done.stdout)
    assert told["notices"] == []
    (turn,) = told["turns"]
    assert turn["outcome"] == "completed"

    assert turn["user"] == " ".join(HEARD), "what the Whisper of these weights writes"
    words = turn["reply"].split()
    assert words == [SAID[n % len(SAID)] for n in range(len(words))] and len(words) > len(SAID), "what the Llama says"
    assert (machine.data / "logs" / "vllm.log").exists()
    sound, rate = soundfile.read(output, dtype="float32")
    assert rate == 24_000
    assert len(sound) % FRAME == 0 and len(sound) > 10 * FRAME, "whole frames of CSM"
    assert np.abs(sound).max() > 0.01, "noise, and no silence"

    marks = turn["marks"]
    order = [
        "speech_ended",
        "transcript_final",
        "recalled",
        "first_token",
        "first_clause",
        "first_sample",
        "reply_made",
    ]
    assert [marks[name] for name in order] == sorted(marks[name] for name in order)
    assert marks["first_sample"] < marks["reply_made"], "the sound came in a stream"

    memory = Memory(machine.data / "memory")
    try:
        said = {turn.text for turn in memory.search("tiny")}
    finally:
        memory.close()
    assert {turn["user"], turn["heard"]} <= said


def test_a_sentence_model_with_random_weights_is_fetched_and_remembers(machine: Machine, tmp_path: Path) -> None:
    """The memory by an embedding model of the hub's (memory.embedding), in place of all-MiniLM-L6-v2."""
    script = (
        "import sys; from pathlib import Path; from pipeline.engines.memory import MemoryHost\n"
        "host = MemoryHost(lambda progress: None, Path(sys.argv[1]), 'default', None, sys.argv[2])\n"
        "assert host.do('warm') is None, host.do('warm')\n"
        "host.do('remember', 'user', 'My dog is called Rufus.'); host.do('settle')\n"
        "print(host.do('recall', 'What is my dog called?').text, host.do('size').progress); host.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "memory"), tiny.MINILM],
        cwd=ROOT, env=machine.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Rufus" in done.stdout and "1.0" in done.stdout
    assert machine.hub.sent[f"{tiny.MINILM}/model.safetensors"] > 0


def test_what_cannot_be_loaded_is_one_sentence_and_the_old_choice_goes_on(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "letter.txt"
    file.write_text("Dear Anna")
    llama, whisper, voice = (str(machine.repositories[name]) for name in (tiny.LLAMA, tiny.WHISPER, tiny.CSM))
    bad = [
        ("ears", "whisper", str(file), "is a file"),
        ("ears", "whisper", llama, "does not contain a Whisper model"),
        ("ears", "whisper", "nobody/nothing", "not on this computer"),
        ("mind", "vllm", str(file), "is not a folder"),
        ("mind", "vllm", "nobody/nothing", "not on this computer"),
        ("voice", "csm", str(file), "found none"),
        ("voice", "csm", llama, "found tensors named"),
        ("voice", "csm", whisper, "no .safetensors file"),
        ("voice", "csm", tiny.TUNED, "not on this computer"),
    ]
    if PYTHON.exists():
        bad.append(("mind", "vllm", voice, "is not a language model"))
    with started(tmp_path / "data") as product:
        product.wait_until()
        before = product.health()["engines"]
        for stage, engine, model, words in bad:
            answer = httpx.put(
                f"http://127.0.0.1:{product.port}/api/settings",
                json={stage: {"engine": engine, "model": model}}, timeout=MOMENT_S,
            )  # fmt: skip
            said = answer.text
            assert answer.is_client_error, (model, said)
            assert words in said, (stage, model, said)
            assert "Traceback" not in said
            kept = json.loads((tmp_path / "data" / "settings.json").read_text())
            assert kept[stage]["engine"] == before[stage]["engine"]
        with product.conversation() as socket:
            assert ask(socket, "Hello!")
        product.wait_until()
        assert {name: engine["engine"] for name, engine in product.health()["engines"].items()} == {
            name: engine["engine"] for name, engine in before.items()
        }
