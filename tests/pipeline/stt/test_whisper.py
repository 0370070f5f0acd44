"""faster-whisper in its worker process, on a tiny checkpoint that writes the same words whatever it hears."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from faster_whisper.utils import _MODELS

from config.engines import fetches
from pipeline.audio import EAR_RATE, Samples
from pipeline.ends.file import read_sound
from pipeline.engine import EngineError, Progress
from pipeline.stt import Transcript
from pipeline.stt.whisper import DECODE_EVERY, Recognizer, Whisper, invented
from pipeline.workers.place import WorkerDied
from tests.support import hub
from tests.support.recordings import recording
from tests.support.tiny_models import HEARD, write_llama, write_whisper

BLOCK = EAR_RATE // 10
TEXT = " ".join(HEARD)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Eleven seconds of a real voice."""
    return read_sound(recording("jfk.flac"))


@asynccontextmanager
async def whisper(model: Path | str, **settings: Any) -> AsyncIterator[Whisper]:
    engine = Whisper(str(model), **settings)
    await engine.start(lambda progress: None)
    try:
        yield engine
    finally:
        await engine.stop()


async def partials(engine: Whisper, sound: Samples) -> tuple[list[Transcript], Transcript]:
    hearing = engine.listen()
    given = [await hearing.feed(sound[at : at + BLOCK]) for at in range(0, len(sound), BLOCK)]
    final = await hearing.finish()
    await hearing.close()
    return [partial for partial in given if partial is not None], final


async def test_partials_come_while_one_speaks_and_what_is_stable_stays(tiny: Path, speech: Samples) -> None:
    async with whisper(tiny) as engine:
        given, final = await partials(engine, speech)
    assert given
    for earlier, later in zip(given, [*given[1:], final], strict=True):
        assert later.text.startswith(earlier.text[: earlier.stable])
    assert final.text == TEXT and final.stable == len(TEXT)


async def test_words_come_with_their_times(tiny: Path, speech: Samples) -> None:
    async with whisper(tiny) as engine:
        _, final = await partials(engine, speech)
    assert [word.text for word in final.words] == list(HEARD)
    times = [time for word in final.words for time in (word.start, word.end)]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= len(speech) / EAR_RATE


async def test_several_are_heard_at_once(tiny: Path, speech: Samples) -> None:
    async with whisper(tiny) as engine:
        heard = await asyncio.gather(*(partials(engine, speech[: 3 * EAR_RATE]) for _ in range(4)))
    assert [final.text for _, final in heard] == [TEXT] * 4


async def test_more_than_thirty_seconds_are_heard(tiny: Path, speech: Samples) -> None:
    long = np.tile(speech, 4)
    async with whisper(tiny) as engine:
        _, final = await partials(engine, long)
    assert final.text.count(HEARD[0]) >= 2
    assert final.words[-1].end > 30


@pytest.mark.parametrize("kind", ["nothing", "silence", "noise", "hum"])
async def test_no_text_is_invented_where_nobody_speaks(tiny: Path, kind: str) -> None:
    """The tiny model would write its words to anything: what keeps them out is the guard."""
    time = np.arange(4 * EAR_RATE) / EAR_RATE
    sound = {
        "nothing": np.zeros(0),
        "silence": np.zeros(4 * EAR_RATE),
        "noise": 0.05 * np.random.default_rng(0).standard_normal(4 * EAR_RATE),
        "hum": 0.2 * np.sin(2 * np.pi * 50 * time),
    }[kind].astype(np.float32)
    async with whisper(tiny) as engine:
        given, final = await partials(engine, sound)
    assert (given, final) == ([], Transcript(""))


@pytest.mark.parametrize(
    ("no_speech", "log_probability", "compression", "thrown_away"),
    [(0.1, -0.3, 1.5, False), (0.9, -1.5, 1.2, True), (0.9, -0.3, 1.2, False), (0.1, -1.5, 1.2, False),
     (0.1, -0.3, 2.5, True)],
)  # fmt: skip
def test_whispers_own_measures(no_speech: float, log_probability: float, compression: float, thrown_away: bool) -> None:
    assert invented(no_speech, log_probability, compression) is thrown_away


class Scripted:
    """In place of faster-whisper's model: how often it was asked, with how much sound, and what before."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.asked: list[tuple[float, str]] = []
        self.languages: list[str | None] = []
        self.info = SimpleNamespace(language="en", language_probability=1.0)
        recognizer._model = self

    def transcribe(self, sound: Samples, initial_prompt: str | None, **options: Any) -> tuple[list[Any], Any]:
        seconds = len(sound) / EAR_RATE
        self.languages.append(options["language"])
        self.asked.append((seconds, initial_prompt or ""))
        words = [SimpleNamespace(word=f" w{n}", start=n, end=n + 0.9) for n in range(int(seconds))]
        return [SimpleNamespace(no_speech_prob=0.0, avg_logprob=-0.1, compression_ratio=1.0, words=words)], self.info


@pytest.fixture
def recognizer(tiny: Path) -> Recognizer:
    return Recognizer(lambda progress: None, str(tiny), "auto", "cpu", "default")


def test_the_end_of_a_turn_needs_no_decoding_when_only_silence_followed(
    recognizer: Recognizer, speech: Samples
) -> None:
    script = Scripted(recognizer)
    recognizer.open(1)
    recognizer.feed(1, speech[: 2 * EAR_RATE])
    recognizer.feed(1, np.zeros(DECODE_EVERY // 2, np.float32))
    recognizer.finish(1)
    assert len(script.asked) == 1
    size = DECODE_EVERY // 2 - 1
    loudest = max(range(0, len(speech) - size, size), key=lambda at: float(np.sum(speech[at : at + size] ** 2)))
    recognizer.feed(1, speech[loudest : loudest + size])
    recognizer.finish(1)
    assert len(script.asked) == 2, "speech went on"


def test_the_window_does_not_grow_for_ever(recognizer: Recognizer, speech: Samples) -> None:
    script = Scripted(recognizer)
    recognizer.open(1)
    for _ in range(8):
        for at in range(0, len(speech), EAR_RATE):
            recognizer.feed(1, speech[at : at + EAR_RATE])
    assert max(seconds for seconds, _ in script.asked) < 30
    assert script.asked[0][1] == "" and "w5 w6" in script.asked[-1][1], "what was left behind is context"


def broken_folder(folder: Path, tiny: Path) -> str:
    shutil.copytree(tiny, folder)
    (folder / "model.bin").write_bytes(b"no weights")
    return str(folder)


def foreign_folder(folder: Path, tiny: Path) -> str:
    write_llama(folder)
    return str(folder)


def translator_folder(folder: Path, tiny: Path) -> str:
    """CTranslate2's form, and another architecture."""
    shutil.copytree(tiny, folder)
    weights = (folder / "model.bin").read_bytes().replace(b"WhisperSpec", b"OtherXxSpec")
    (folder / "model.bin").write_bytes(weights)
    return str(folder)


def a_file(folder: Path, tiny: Path) -> str:
    folder.write_text(json.dumps({}))
    return str(folder)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (lambda folder, tiny: str(folder), "There is no folder"),
        (a_file, "is a file, and Whisper is a folder"),
        (foreign_folder, r"holds no Whisper in CTranslate2's form \(model.bin is missing\)"),
        (broken_folder, "holds no Whisper that can be loaded"),
        (translator_folder, "holds no Whisper that can be loaded"),
        (lambda folder, tiny: "enormous", "There is no Whisper model 'enormous'"),
    ],
)
async def test_a_model_that_is_none_is_refused_in_one_sentence(
    tmp_path: Path, tiny: Path, model: Callable[[Path, Path], str], sentence: str
) -> None:
    engine = Whisper(model(tmp_path / "model", tiny))
    with pytest.raises(EngineError, match=sentence) as refused:
        await engine.start(lambda progress: None)
    assert "\n" not in str(refused.value)
    assert engine.status.state == "failed"
    await engine.stop()


async def test_a_language_that_the_model_does_not_know_is_refused(tiny: Path) -> None:
    engine = Whisper(str(tiny), "de")
    with pytest.raises(EngineError, match="knows English only"):
        await engine.start(lambda progress: None)
    await engine.stop()


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Knows English and German, and takes everything for German."""
    return write_whisper(tmp_path_factory.mktemp("whisper") / "german", language="de")


@pytest.mark.parametrize("language", ["auto", "de"])
async def test_the_language_is_found_or_told(german: Path, speech: Samples, language: str) -> None:
    async with whisper(german, language=language) as engine:
        _, final = await partials(engine, speech[: 4 * EAR_RATE])
    assert final.text == TEXT


async def test_a_language_that_there_is_none_of_is_refused(german: Path) -> None:
    engine = Whisper(str(german), "xx")
    with pytest.raises(EngineError, match="does not know the language 'xx'"):
        await engine.start(lambda progress: None)
    await engine.stop()


def test_a_language_is_listened_for_until_it_is_certain(german: Path, speech: Samples) -> None:
    recognizer = Recognizer(lambda progress: None, str(german), "auto", "cpu", "default")
    segments, info = recognizer._transcribe(speech[: 3 * EAR_RATE], "", None)
    assert (info.language, [segment.text.strip() for segment in segments]) == ("de", [TEXT])
    script = Scripted(recognizer)
    unsure: list[str | None] = [None] * 4
    for turn, (certain, heard) in enumerate([(0.5, unsure), (0.9, [*unsure, "de", "de"])]):
        script.info, script.languages = SimpleNamespace(language="de", language_probability=certain), []
        recognizer.open(turn)
        for at in range(len(heard)):
            recognizer.feed(turn, speech[at * DECODE_EVERY : (at + 1) * DECODE_EVERY])
        assert script.languages == heard, "from two seconds on"


def test_a_size_is_fetched_from_where_faster_whisper_has_it() -> None:
    for size, repository in _MODELS.items():
        assert [fetch.repository for fetch in fetches("ears", "whisper", size)] == [repository]


@pytest.fixture
def served(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub.Hub]:
    with hub.serve({"Systran/faster-whisper-base.en": tiny}) as serving:
        for name, value in {"HF_ENDPOINT": serving.url, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}.items():
            monkeypatch.setenv(name, value)
        for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield serving


async def refusal(model: str) -> str:
    engine = Whisper(model)
    with pytest.raises(EngineError) as refused:
        await engine.start(lambda progress: None)
    await engine.stop()
    assert "\n" not in str(refused.value)
    return str(refused.value)


async def test_a_size_comes_from_the_hub_with_its_progress_and_only_once(served: hub.Hub, speech: Samples) -> None:
    told: list[Progress] = []
    for fetched in (True, False):
        engine = Whisper("base.en")
        await engine.start(told.append)
        _, final = await partials(engine, speech[: 3 * EAR_RATE])
        await engine.stop()
        assert final.text == TEXT
        assert ("model.bin" in served.fetched) is fetched
        served.fetched.clear()
    assert any(progress.what.startswith("fetching Systran") and progress.share for progress in told)


async def test_what_the_hub_refuses_is_told(served: hub.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "There is no model someone/else" in await refusal("someone/else")
    served.gated.add("Systran/faster-whisper-base.en")
    served.tokens.add("right")
    assert "has terms to accept" in await refusal("base.en")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    assert "The token is wrong" in await refusal("base.en")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "does not answer: connect" in await refusal("base.en")


async def test_after_a_crash_it_listens_again(tiny: Path, speech: Samples) -> None:
    async with whisper(tiny) as engine:
        hearing = engine.listen()
        await hearing.feed(speech[:EAR_RATE])
        (process,) = [child for child in psutil.Process().children() if "worker_process" in " ".join(child.cmdline())]
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied):
            while True:
                await hearing.feed(speech[:EAR_RATE])
        await engine._place.ready()
        with pytest.raises(EngineError, match="please say it again"):
            await hearing.finish()
        await hearing.close()
        _, final = await partials(engine, speech[: 3 * EAR_RATE])
        assert final.text == TEXT
