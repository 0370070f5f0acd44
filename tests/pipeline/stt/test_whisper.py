"""faster-whisper in its worker process, on a tiny checkpoint that writes the same words whatever it hears."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import pytest_asyncio
from faster_whisper.utils import _MODELS

from config.engines import fetches
from pipeline.audio import EAR_RATE, Samples
from pipeline.ends.file import read_sound
from pipeline.engine import EngineError, Progress
from pipeline.stt import Transcript
from pipeline.stt.decoder import Decoded, Decoder
from pipeline.stt.plausible import invented, loops, repeats, too_many
from pipeline.stt.whisper import STEP_S, Decodings, Whisper, WhisperHearing, agreed
from pipeline.workers.place import Place
from tests.support import hub
from tests.support.begun import IN_ONE_LOOP, started
from tests.support.recordings import recording
from tests.support.tiny_models import HEARD, write_llama, write_whisper
from tests.support.workers import workers

BLOCK = EAR_RATE // 10
TEXT = " ".join(HEARD)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Eleven seconds of a real voice."""
    return read_sound(recording("jfk.flac"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tiny: Path) -> AsyncIterator[Whisper]:
    async with started(Whisper(str(tiny))) as engine:
        yield engine


async def partials(engine: Whisper, sound: Samples, block: int = BLOCK) -> tuple[list[Transcript], Transcript]:
    """As an engine gives them that is quick enough for every block."""
    hearing, given = engine.listen(), []
    for at in range(0, len(sound), block):
        given.append(await hearing.feed(sound[at : at + block]))
        await hearing.caught_up()
    final = await hearing.finish()
    await hearing.close()
    return [partial for partial in given if partial is not None], final


@IN_ONE_LOOP
async def test_partials_come_while_one_speaks_and_what_is_stable_stays(engine: Whisper, speech: Samples) -> None:
    given, final = await partials(engine, speech)
    assert given
    for earlier, later in zip(given, [*given[1:], final], strict=True):
        assert later.text.startswith(earlier.text[: earlier.stable])
    assert final.text == TEXT and final.stable == len(TEXT)


@IN_ONE_LOOP
async def test_several_are_heard_at_once(engine: Whisper, speech: Samples) -> None:
    heard = await asyncio.gather(*(partials(engine, speech[: 3 * EAR_RATE]) for _ in range(4)))
    assert [final.text for _, final in heard] == [TEXT] * 4


@IN_ONE_LOOP
async def test_more_than_thirty_seconds_are_heard(engine: Whisper, speech: Samples) -> None:
    _, final = await partials(engine, np.tile(speech, 4), block=EAR_RATE)
    assert final.text.count(HEARD[0]) >= 2


@IN_ONE_LOOP
@pytest.mark.parametrize("kind", ["nothing", "silence", "noise", "hum"])
async def test_no_text_is_invented_where_nobody_speaks(engine: Whisper, kind: str) -> None:
    """The tiny model would write its words to anything: what keeps them out is the guard."""
    time = np.arange(4 * EAR_RATE) / EAR_RATE
    sound = {
        "nothing": np.zeros(0),
        "silence": np.zeros(4 * EAR_RATE),
        "noise": 0.05 * np.random.default_rng(0).standard_normal(4 * EAR_RATE),
        "hum": 0.2 * np.sin(2 * np.pi * 50 * time),
    }[kind].astype(np.float32)
    given, final = await partials(engine, sound)
    assert (given, final) == ([], Transcript(""))


@pytest.mark.parametrize(
    ("no_speech", "log_probability", "thrown_away"),
    [(0.1, -0.3, False), (0.9, -1.5, True), (0.9, -0.3, False), (0.1, -1.5, False)],
)
def test_whispers_own_measures(no_speech: float, log_probability: float, thrown_away: bool) -> None:
    assert invented(no_speech, log_probability) is thrown_away


@pytest.mark.parametrize(
    ("text", "loop"),
    [
        (" Ask not what your country can do for you, ask what you can do for your country.", False),
        (" No, no, no!", False),
        (" Row, row, row your boat", False),
        (" would when a fight a bear or shark" * 4, True),
        (" and the the the the", True),
        (" I think I think I think I think so", True),
        ("", False),
    ],
)
def test_a_loop_is_noticed(text: str, loop: bool) -> None:
    assert loops(text) is loop


def test_nobody_says_so_much_in_a_second() -> None:
    sentence = " This is a sentence that nobody on this whole wide earth could ever say in one second."
    assert too_many(sentence, 1) and not too_many(sentence, 4)


@pytest.mark.parametrize(
    ("text", "again"),
    [
        (" Ask not what your country can do for you, ask what you can do for your country.", False),
        (" Do you want the red one, or do you want the green one?", False),
        (" would when I would fight a bear or a shark would when I would fight a bear or", True),
        (" Stop it. Stop it.", False),
    ],
)
def test_words_that_come_again_deserve_a_second_look(text: str, again: bool) -> None:
    assert repeats(text) is again


class Scripted:
    """In place of the worker: what is said at which second, and what was asked of it."""

    def __init__(self, words: Sequence[tuple[float, str]] = ()) -> None:
        self.words = words
        self.asked: list[tuple[int, str, bool]] = []
        """How many samples, the words before them, and whether for the end of a turn."""
        self.dropped = 0
        self.loops = 0
        self.step = asyncio.Event()
        """Whether decodings get beyond their first step."""
        self.step.set()

    async def ready(self) -> None: ...

    async def stream(
        self, method: str, sound: Samples, before: str, language: str | None, *, again: bool, ends: bool
    ) -> AsyncGenerator[Decoded | None, None]:
        assert method == "decode"
        self.asked.append((len(sound), before, again))
        try:
            yield None
            await self.step.wait()
        except (GeneratorExit, asyncio.CancelledError):
            self.dropped += 1
            raise
        if self.loops:
            self.loops -= 1
            yield Decoded("", loop=True)
            return
        said = [(at, word) for at, word in self.words if at < len(sound) / EAR_RATE]
        text = " ".join(word for _, word in said)
        lengths = accumulate(len(word) + 1 for _, word in said)
        found = tuple((length - 1, at + 0.5) for length, (at, _) in zip(lengths, said, strict=True))
        yield Decoded(text, ends=found if ends else ())


def hearing_of(worker: Scripted) -> WhisperHearing:
    return WhisperHearing(Decodings(cast(Place, worker)))


def voice(seconds: float) -> Samples:
    return 0.3 * np.sin(np.arange(round(seconds * EAR_RATE)) / 10).astype(np.float32)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * EAR_RATE), np.float32)


async def test_the_words_of_a_lull_are_the_final_ones_when_only_silence_followed() -> None:
    worker = Scripted([(0.0, "hello"), (0.9, "there")])
    hearing = hearing_of(worker)
    assert await hearing.feed(np.concatenate([voice(0.4), silence(0.1)])) is None
    await hearing.caught_up()
    assert await hearing.feed(silence(0.2)) == Transcript("hello", 0)
    assert (await hearing.finish(), len(worker.asked)) == (Transcript("hello", 5), 1)
    await hearing.feed(voice(0.4))
    assert (await hearing.finish(), len(worker.asked)) == (Transcript("hello there", 11), 2), "speech went on"


async def test_a_lulls_decoding_under_way_is_waited_for_and_not_begun_again() -> None:
    worker = Scripted([(0.0, "hello")])
    worker.step.clear()
    hearing = hearing_of(worker)
    await hearing.feed(np.concatenate([voice(0.4), silence(0.1)]))
    await all_begun()
    await hearing.feed(silence(0.1))
    final = asyncio.create_task(hearing.finish())
    await all_begun()
    assert not final.done()
    worker.step.set()
    assert (await final, len(worker.asked), worker.dropped) == (Transcript("hello", 5), 1, 0)


async def test_a_final_decoding_waits_for_no_partial_one_of_anybody() -> None:
    worker = Scripted([(0.0, "hello"), (0.5, "there")])
    worker.step.clear()
    decodings = Decodings(cast(Place, worker))
    mine, anothers = WhisperHearing(decodings), WhisperHearing(decodings)
    for hearing in (mine, anothers):
        await hearing.feed(voice(0.6))
    await all_begun()
    assert len(worker.asked) == 2
    await mine.feed(voice(0.3))
    final = asyncio.create_task(mine.finish())
    await all_begun()
    assert (len(worker.asked), worker.dropped) == (3, 2)
    await anothers.feed(voice(0.6))
    await all_begun()
    assert len(worker.asked) == 3, "and none is begun meanwhile"
    worker.step.set()
    assert await final == Transcript("hello there", 11)
    await anothers.feed(voice(0.1))
    await anothers.caught_up()
    assert len(worker.asked) == 4


async def all_begun() -> None:
    """What can be done at once is done."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_slow_machine_decodes_in_lulls_only() -> None:
    worker = Scripted([(0.0, "hello")])
    hearing = hearing_of(worker)
    hearing._decodings.step_s = 2 * STEP_S
    for _ in range(20):
        await hearing.feed(voice(0.1))
    assert not worker.asked
    await hearing.feed(silence(0.1))
    await hearing.caught_up()
    assert len(worker.asked) == 1


async def test_a_loop_in_a_partial_is_not_shown_and_never_final() -> None:
    worker = Scripted([(0.0, "hello")])
    worker.loops = 1
    hearing = hearing_of(worker)
    await hearing.feed(np.concatenate([voice(0.4), silence(0.1)]))
    await hearing.caught_up()
    assert await hearing.feed(silence(0.1)) is None
    assert await hearing.finish() == Transcript("hello", 5)
    assert [final for _, _, final in worker.asked] == [False, True], "only the last one gets a second look"


async def test_a_long_turn_is_left_behind_bit_by_bit() -> None:
    said = [(float(second), f"w{second}") for second in range(8)]
    worker = Scripted([*said, *((8.0 + n, "and") for n in range(12))])
    hearing = hearing_of(worker)
    await hearing.feed(voice(50))
    final = await hearing.finish()
    assert max(length for length, _, _ in worker.asked) <= 20 * EAR_RATE
    assert final.text.count("w5 w6 w7 and and") == 3, "three stretches, of which the script says the same"
    assert worker.asked[0][1] == "" and worker.asked[-1][1].startswith("w0 w1"), "what was left behind is context"


@pytest.mark.parametrize(
    ("before", "now", "stable"),
    [
        ("", "What is", ""),
        ("What is", "What is the", "What is"),
        ("what is.", "What is the", "What is"),
        ("Check get a", "Should I get a dog", ""),
        ("ask what you're", "Ask what your country", "Ask what"),
    ],
)
def test_what_two_decodings_agree_on_is_stable(before: str, now: str, stable: str) -> None:
    assert now[: agreed(before, now)] == stable


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
        (a_file, "is a file: choose the folder that contains"),
        (foreign_folder, r"does not contain a Whisper model in CTranslate2's format \(model.bin is missing\)"),
        (broken_folder, "does not contain a Whisper model that can be loaded"),
        (translator_folder, "does not contain a Whisper model that can be loaded"),
        (lambda folder, tiny: "enormous", "There is no Whisper model 'enormous'"),
    ],
)
def test_a_model_that_is_none_is_refused_in_one_sentence(
    tmp_path: Path, tiny: Path, model: Callable[[Path, Path], str], sentence: str
) -> None:
    with pytest.raises(EngineError, match=sentence) as refused:
        loaded(model(tmp_path / "model", tiny), "en")
    assert "\n" not in str(refused.value)


async def test_a_language_that_the_model_does_not_know_is_refused(tiny: Path) -> None:
    engine = Whisper(str(tiny), "de")
    with pytest.raises(EngineError, match="understands only English"):
        await engine.start(lambda progress: None)
    assert engine.status.state == "failed"
    await engine.stop()


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Knows English and German, and takes everything for German."""
    return write_whisper(tmp_path_factory.mktemp("whisper") / "german", language="de")


@pytest.mark.parametrize("language", ["auto", "de"])
async def test_the_language_is_found_or_told(german: Path, speech: Samples, language: str) -> None:
    async with started(Whisper(str(german), language=language)) as engine:
        _, final = await partials(engine, speech[: 4 * EAR_RATE])
    assert final.text == TEXT


def loaded(model: str, language: str) -> Decoder:
    """In this process."""
    return Decoder(lambda progress: None, model, language, "cpu", "default", None)


def test_a_language_that_there_is_none_of_is_refused(german: Path) -> None:
    with pytest.raises(EngineError, match="does not know the language 'xx'"):
        loaded(str(german), "xx")


def test_a_language_is_certain_after_two_seconds(german: Path, speech: Samples) -> None:
    decoder = loaded(str(german), "auto")
    for seconds, language in ((1, None), (3, "de")):
        *_, answer = decoder.decode(speech[EAR_RATE : (1 + seconds) * EAR_RATE])
        assert answer == Decoded(TEXT, language)


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
    """One of the refusals; tests/pipeline/models/test_downloads.py has them all."""
    served.gated.add("Systran/faster-whisper-base.en")
    served.tokens.add("right")
    assert "has terms to accept" in await refusal("base.en")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "Check your internet connection" in await refusal("base.en")


async def test_a_crash_loses_nothing_that_was_said(tiny: Path, speech: Samples) -> None:
    others = workers()
    async with started(Whisper(str(tiny))) as engine:
        hearing = engine.listen()
        await hearing.feed(speech[: 3 * EAR_RATE])
        (process,) = workers(others)
        os.kill(process.pid, signal.SIGKILL)
        await hearing.feed(speech[3 * EAR_RATE : 4 * EAR_RATE])
        assert (await hearing.finish()).text == TEXT
        assert engine.status.restarts == 1
