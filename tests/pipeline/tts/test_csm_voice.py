"""CSM as the voice, on tiny checkpoints of random weights: it makes noise, and what is tested is the way to it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import soundfile
import torch

from csm import Session, utterance
from csm.checkpoint.adapter_formats import write_adapter
from pipeline.audio import EAR_RATE, Samples
from pipeline.engine import EngineError
from pipeline.tts import Spoken
from pipeline.tts.csm import Csm
from pipeline.tts.csm_talks import PARLEY, USER, Floor, Synthesizer, Talk, load
from tests.csm.mlx_here import mlx_is_here
from tests.csm.tiny import TINY, voice, write_checkpoint
from tests.csm.training.lessons import random_adapter
from tests.support.begun import IN_ONE_LOOP, started
from tests.support.workers import workers

FRAME = 1920
WORDS = "Good evening to you."
ANNA = [("anna.wav", "This is Anna.")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("csm") / "tiny")


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference at 44.1 kHz in stereo, and files that are none."""
    folder = tmp_path_factory.mktemp("references") / "voices"
    folder.mkdir()
    sound = voice(1.0, 44_100).numpy()
    soundfile.write(folder / "anna.wav", np.stack([sound, sound], axis=1), 44_100)
    soundfile.write(folder / "silence.wav", np.zeros(24_000), 24_000)
    (folder / "letter.wav").write_text("Dear Anna")
    soundfile.write(folder.parent / "outside.wav", sound, 44_100)
    (folder / "link.wav").symlink_to(folder.parent / "outside.wav")
    return folder


def csm(model: Path | str, voices: Path, **settings: Any) -> AbstractAsyncContextManager[Csm]:
    return started(Csm(str(model), voices, **{"precision": "fp32", **settings}))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(checkpoint: Path, voices: Path) -> AsyncIterator[Csm]:
    async with csm(checkpoint, voices, references=ANNA) as engine:
        yield engine


async def spoken(speaker: Any, text: str = WORDS) -> list[Spoken]:
    return [sound async for sound in speaker.speak(text)]


def tone(seconds: float = 1.0) -> Samples:
    sound: Samples = voice(seconds, EAR_RATE).numpy()
    return sound


# -- through the worker process -------------------------------------------------------------------------------------


@IN_ONE_LOOP
async def test_it_speaks_frame_by_frame(engine: Csm) -> None:
    sounds = await spoken(engine.speaker())
    assert len(sounds) > 1
    assert all(sound.samples.shape == (FRAME,) and sound.samples.dtype == np.float32 for sound in sounds)
    assert any(np.abs(sound.samples).max() > 0 for sound in sounds)


def test_it_speaks_in_transformers_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utterance, "frames_at_most", lambda text: 10)
    write_checkpoint(tmp_path / "model", "transformers")
    talk = Talk(Session(load(str(tmp_path / "model"), "fp32", "cpu")))
    assert any(np.abs(sound.samples).max() > 0 for sound in talk.speak(WORDS))


def test_a_learnt_voice_is_spoken_with(checkpoint: Path, tmp_path: Path) -> None:
    write_adapter(random_adapter(), tmp_path / "learnt", TINY)
    plain, learnt = (load(str(checkpoint), "fp32", "cpu", adapter=folder) for folder in ("", str(tmp_path / "learnt")))
    assert not torch.equal(*(model.generate(WORDS, PARLEY, [], 400, seed=1) for model in (plain, learnt)))
    with pytest.raises(EngineError, match="Expected the folder of an adapter"):
        load(str(checkpoint), "fp32", "cpu", adapter=str(tmp_path / "nowhere"))


async def test_by_default_a_cpu_speaks_in_four_bits(checkpoint: Path, voices: Path) -> None:
    async with csm(checkpoint, voices, precision="auto", device="cpu") as engine:
        assert await spoken(engine.speaker())
    assert list((checkpoint / "quantized").glob("int4-*"))


def test_on_a_processor_auto_is_what_was_measured(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import csm as library

    asked: list[Any] = []
    monkeypatch.setattr(library, "load_csm_1b", lambda *details, **_: asked.append(details))
    for measured in ("int8", "bf16", "int4"):
        load(str(checkpoint), "auto", "cpu", measured)
    half = torch.bfloat16
    assert [details[2:] for details in asked] == [(None, "int8"), (half, None), (None, "int4")]


@pytest.mark.skipif(not mlx_is_here(), reason="MLX is not installed, or SKIP_MLX_TESTS=1")
async def test_by_mlx_it_speaks_for_several_and_hears_them(checkpoint: Path, voices: Path) -> None:
    async with csm(checkpoint, voices, precision="auto", device="mlx", references=ANNA) as engine:
        speakers = [engine.speaker() for _ in range(2)]
        for sounds in await asyncio.gather(*(spoken(speaker) for speaker in speakers)):
            assert sounds and np.abs(sounds[0].samples).max() > 0
        await speakers[0].user_said("And you?", tone())
        await speakers[0].reply_heard(FRAME)
        assert await spoken(speakers[0])


@IN_ONE_LOOP
async def test_closing_stops_the_work_between_frames(engine: Csm) -> None:
    speaker = engine.speaker()
    async with aclosing(speaker.speak("a long story " * 12)) as sounds:
        await anext(sounds)
    assert await spoken(speaker), "and it can speak again"


@IN_ONE_LOOP
async def test_several_conversations_at_once(engine: Csm) -> None:
    speakers = [engine.speaker() for _ in range(3)]
    for sounds in await asyncio.gather(*(spoken(speaker) for speaker in speakers)):
        assert sounds
    for speaker in speakers:
        await speaker.user_said("And you?", tone())
        await speaker.reply_heard(FRAME)
        await speaker.close()


@IN_ONE_LOOP
async def test_text_that_cannot_be_said_is_silence(engine: Csm) -> None:
    assert await spoken(engine.speaker(), "— … —") == []


@IN_ONE_LOOP
async def test_what_cannot_be_heard_does_not_stop_the_conversation(engine: Csm) -> None:
    speaker = engine.speaker()
    await speaker.user_said("Hm.", np.zeros(EAR_RATE, np.float32))
    await speaker.user_said("", tone())
    await speaker.user_said("word " * 600, tone())
    assert await spoken(speaker)


@pytest.mark.slow
async def test_after_a_crash_the_sentence_is_said_again(checkpoint: Path, voices: Path) -> None:
    others = workers()
    async with csm(checkpoint, voices) as engine:
        speaker = engine.speaker()
        sounds = speaker.speak("a long story " * 12)
        await anext(sounds)
        (process,) = workers(others)
        os.kill(process.pid, signal.SIGKILL)
        assert [sound async for sound in sounds]
        assert engine.status.restarts == 1
        assert await spoken(speaker)


async def test_it_becomes_another_voice_in_its_process(checkpoint: Path, voices: Path, tmp_path: Path) -> None:
    write_adapter(random_adapter(), tmp_path / "learnt", TINY)
    others = workers()
    made_of = {"model": str(checkpoint), "precision": "fp32", "measured": None, "voices": voices, "device": None}
    anna = {**made_of, "references": ANNA, "adapter": str(tmp_path / "learnt")}
    async with csm(checkpoint, voices) as engine:
        (process,) = workers(others)
        speaker = engine.speaker()
        assert await spoken(speaker)
        assert engine.can_become(anna) and not engine.can_become({**anna, "precision": "int8"})
        for wrong in ({"adapter": str(tmp_path / "nowhere")}, {"references": [("nobody.wav", "Hello.")]}):
            with pytest.raises(EngineError):
                await engine.become({**anna, **wrong})
        assert await spoken(speaker), "as it did"
        sounds = speaker.speak("a long story " * 12)
        await anext(sounds)
        becoming = asyncio.create_task(engine.become(anna))
        await sounds.aclose()
        await becoming
        assert await spoken(speaker) and await spoken(engine.speaker())
        assert workers(others) == [process]
        assert engine._place._wanted.kwargs["adapter"] == anna["adapter"], "a restart makes it so again"  # type: ignore[attr-defined]


def test_who_becomes_another_waits_for_the_floor_and_is_waited_for() -> None:
    floor, told = Floor(), list[str]()

    def change() -> None:
        with floor.alone():
            told.append("changed")

    def speak() -> None:
        with floor.one_of_many():
            told.append("spoke")

    with floor.one_of_many():
        changing = threading.Thread(target=change)
        changing.start()
        with floor._changed:
            floor._changed.wait_for(lambda: floor._alone, timeout=60)
        other = threading.Thread(target=speak)
        other.start()
        told.append("first")
    changing.join(60)
    other.join(60)
    assert told == ["first", "changed", "spoke"]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("nobody.wav", "Hello.", "There is no recording"),
        ("letter.wav", "Hello.", "is not a recording that can be read"),
        ("silence.wav", "Hello.", "silent"),
        ("anna.wav", " ", "Write down what is said in the voice's recording anna.wav"),
        ("anna.wav", "…", "no letter"),
    ],
)
def test_a_reference_that_is_none_is_refused_in_one_sentence_before_a_model_is_loaded(
    voices: Path, name: str, text: str, sentence: str
) -> None:
    references = [(str(voices / name), text)]
    with pytest.raises(EngineError, match=sentence) as refused:
        Synthesizer(lambda progress: None, "no model", "fp32", None, references, "cpu")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["../outside.wav", "link.wav"])
async def test_a_reference_outside_the_folder_is_refused(checkpoint: Path, voices: Path, name: str) -> None:
    engine = Csm(str(checkpoint), voices, references=[(name, "Hello.")])
    with pytest.raises(EngineError, match="is not a file name"):
        await engine.start(lambda progress: None)


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_a_model_that_is_none_is_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    model = tmp_path / "model"
    if kind == "file":
        model.write_text("not a folder")
    elif kind == "empty":
        model.mkdir()
    with pytest.raises(EngineError, match="Expected") as refused:
        Synthesizer(lambda progress: None, str(model), "fp32", None, [], "cpu")
    assert "\n" not in str(refused.value)


# -- what the session holds -----------------------------------------------------------------------------------------


@pytest.fixture
def talk(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Talk:
    """Noise has no end of its own: it is as long as the text may take, and that is made short here."""
    monkeypatch.setattr(utterance, "frames_at_most", lambda text: 10)
    return Talk(Session(load(str(checkpoint), "fp32", "cpu")))


def held(talk: Talk) -> list[tuple[int, str, int]]:
    """The turns that the session holds, as (speaker, words, samples)."""
    turns = talk._session.turns
    lengths = [
        len(turn.codes) * FRAME if turn.codes is not None else 0 if turn.audio is None else turn.audio.shape[-1]
        for turn in turns
    ]
    return [(turn.speaker, turn.text, length) for turn, length in zip(turns, lengths, strict=True)]


def say(talk: Talk, text: str) -> int:
    return sum(len(sound.samples) for sound in talk.speak(text))


def test_both_sides_become_context(talk: Talk) -> None:
    talk.user_said("Hello.", tone())
    first, second = say(talk, "Hello to you."), say(talk, "How are you?")
    talk.said(first + second)
    assert held(talk) == [
        (USER, "Hello.", EAR_RATE), (PARLEY, "Hello to you.", first), (PARLEY, "How are you?", second),
    ]  # fmt: skip


def test_what_was_made_ahead_stands_after_the_words_it_answers(talk: Talk) -> None:
    first = say(talk, "Hello to you.")
    talk.user_said("Hello.", tone())
    second = say(talk, "How are you?")
    assert held(talk) == [
        (USER, "Hello.", EAR_RATE), (PARLEY, "Hello to you.", first), (PARLEY, "How are you?", second),
    ]  # fmt: skip
    talk.said(first + second)
    third = say(talk, "Good.")
    talk.user_said("Fine.", tone())
    assert [words for _, words, _ in held(talk)] == ["Hello.", "Hello to you.", "How are you?", "Fine.", "Good."]
    assert held(talk)[-1] == (PARLEY, "Good.", third)


def test_what_was_never_heard_is_forgotten(talk: Talk) -> None:
    talk.user_said("Hello.", tone())
    say(talk, "This was prepared in vain.")
    talk.said(0)
    assert held(talk) == [(USER, "Hello.", EAR_RATE)]
    first = say(talk, "one two three four")
    say(talk, "five six")
    say(talk, "seven eight")
    talk.said(first // 2)
    assert held(talk)[1:] == [(PARLEY, "one two", round(first / 2 / FRAME) * FRAME)]


def test_an_interrupted_utterance_is_kept_as_far_as_it_was_made(talk: Talk) -> None:
    sounds = talk.speak("one two three four five six seven eight nine ten")
    made = sum(len(next(sounds).samples) for _ in range(3))
    sounds.close()
    assert [samples for _, _, samples in held(talk)] == [made] == [3 * FRAME]


def test_a_long_conversation_keeps_going(talk: Talk) -> None:
    for _ in range(5):
        talk.user_said("And?", tone(8.0))
        talk.said(say(talk, "So."))
    assert 0 < len(held(talk)) < 10


def test_warming_up_leaves_nothing(talk: Talk) -> None:
    talk.warm_up()
    assert held(talk) == []
