"""Whisper base itself: what real people say, that nothing is made of noise, and that the short window is as good."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from config.packages import WHISPER_BASE
from pipeline.audio import EAR_RATE, Samples
from pipeline.ends.file import read_sound
from pipeline.stt import CannotFulfil, TranscriptionWishes
from pipeline.stt.decoder import WHOLE_S, Decoded, Decoder
from pipeline.stt.plausible import repeats
from pipeline.stt.together import Features, Together
from tests.pipeline.stt.test_together import until
from tests.support.real_models import folder
from tests.support.recordings import recording

SAID = {
    "weather_question.wav": "what is the weather in paris",
    "jfk.flac": "and so my fellow americans ask not what your country can do for you "
    "ask what you can do for your country",
    "austen_0870.wav": "and mr john dashwood had then leisure to consider how much there might be "
    "prudently in his power to do for them",
    "austen_0880.wav": "he was not an ill disposed young man",
    "austen_0890.wav": "unless to be rather cold hearted and rather selfish is to be ill disposed",
}
MISHEARD = {"ill sposed": "ill disposed"}
"""What Whisper base makes of a swallowed syllable."""

Make = Callable[[float | None], Decoder]


@pytest.fixture(scope="module")
def make() -> Make:
    model = str(folder(WHISPER_BASE))
    return lambda shortest_s: Decoder(lambda progress: None, model, "en", "cpu", "default", shortest_s)


@pytest.fixture(scope="module")
def decoder(make: Make) -> Decoder:
    return make(None)


def answer(decoder: Decoder, sound: Samples) -> Decoded:
    *_, decoded = decoder.decode(sound)
    assert decoded is not None
    return decoded


def words(text: str) -> str:
    plain = " ".join(re.findall(r"[a-z']+", text.lower()))
    for wrong, right in MISHEARD.items():
        plain = plain.replace(wrong, right)
    return plain


def in_a_room(sound: Samples, before_s: float = 0.4, after_s: float = 0.1) -> Samples:
    """As a turn has it: with what was there before it, and the silence of a pause."""
    rng = np.random.default_rng(0)
    quiet = 0.001 * rng.standard_normal(round((before_s + after_s) * EAR_RATE), np.float32)
    return np.concatenate([quiet[: round(before_s * EAR_RATE)], sound, quiet[round(before_s * EAR_RATE) :]])


@pytest.mark.parametrize("name", SAID)
def test_people_are_understood_from_their_first_word_on(decoder: Decoder, name: str) -> None:
    assert words(answer(decoder, in_a_room(read_sound(recording(name)))).text) == SAID[name]


@pytest.mark.slow
def test_the_whole_window_hears_the_same(make: Make) -> None:
    whole = make(WHOLE_S)
    for name in ("weather_question.wav", "austen_0890.wav"):
        assert words(answer(whole, in_a_room(read_sound(recording(name)))).text) == SAID[name]


def test_a_loop_gets_a_second_look_with_the_whole_window(make: Make) -> None:
    """Three seconds are too short a window: "would when a fight a bear or shark would when a fight a bear or shark"."""
    text = answer(make(3.0), read_sound(recording("bear_or_shark.mp3"))).text
    assert not repeats(text) and re.search(r"bear or (a )?shark", text)


def test_a_question_cut_off_is_what_was_said_of_it(decoder: Decoder) -> None:
    """What a partial decoding has: no word too many, and none of a credit's "Thanks for watching"."""
    sound = in_a_room(read_sound(recording("weather_question.wav")), after_s=0)
    assert words(answer(decoder, sound[: round(1.3 * EAR_RATE)]).text) in ("what is the", "what is the weather")


def test_what_is_said_twice_is_heard_twice(decoder: Decoder) -> None:
    """A sentence that comes again is no loop: two looks, which differ in their window, have the same words."""
    twice = np.concatenate([read_sound(recording("jfk.flac"))] * 2)
    assert words(answer(decoder, twice).text) == f"{SAID['jfk.flac']} {SAID['jfk.flac']}"
    *_, written = decoder.write_down(twice, TranscriptionWishes())
    assert written is not None and words(written.text) == f"{SAID['jfk.flac']} {SAID['jfk.flac']}"
    assert [round(word.start) for word in written.words if word.text.strip() == "And"] == [0, 11]


def test_no_passage_with_a_voice_is_left_out(decoder: Decoder) -> None:
    """Here no two looks agree how often it was said."""
    often = np.concatenate([read_sound(recording("weather_question.wav"))] * 8)
    *_, written = decoder.write_down(often, TranscriptionWishes())
    assert written is not None and words(written.text).startswith(SAID["weather_question.wav"])


TIME = np.arange(2 * EAR_RATE) / EAR_RATE
NOISE = np.random.default_rng(1).standard_normal(2 * EAR_RATE)


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(0 * TIME, id="silence"),
        pytest.param(0.05 * NOISE, id="hiss"),
        pytest.param(0.1 * np.sin(2 * np.pi * 100 * TIME), id="hum"),
        pytest.param(0.5 * NOISE * np.exp(-8 * TIME), id="cough"),
        pytest.param(0.1 * NOISE * (np.sin(2 * np.pi * 3 * TIME) > 0.98), id="keys"),
    ],
)
def test_nothing_is_made_of_noise(decoder: Decoder, sound: Samples) -> None:
    assert answer(decoder, in_a_room(sound.astype(np.float32))).text == ""


def test_a_recording_is_written_down_with_the_times_of_its_words(decoder: Decoder) -> None:
    *_, written = decoder.write_down(read_sound(recording("jfk.flac")), TranscriptionWishes())
    assert written is not None
    assert words(written.text) == SAID["jfk.flac"]
    assert words("".join(word.text for word in written.words)) == SAID["jfk.flac"]
    assert all(one.start <= one.end <= other.end for one, other in pairwise(written.words))
    ask = next(word for word in written.words if word.text.strip() == "ask")
    assert 3.0 < ask.start < 4.0, "after “Americans”, and a pause"
    assert written.language == "en" and written.log_probability > -1


def test_wishes_that_cannot_be_fulfilled_are_refused(decoder: Decoder) -> None:
    with pytest.raises(CannotFulfil, match="does not know the language"):
        list(decoder.write_down(np.zeros(16_000, np.float32), TranscriptionWishes(language="xx")))
    *_, silence = decoder.write_down(np.zeros(16_000, np.float32), TranscriptionWishes())
    assert silence is not None and silence.text == "" and silence.no_speech == 1.0


def test_several_are_encoded_together_where_that_is_of_use(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a graphics card: the same words as alone, whoever else is in the batch."""
    names = ("weather_question.wav", "austen_0880.wav", "austen_0890.wav")
    sizes: list[int] = []

    def encoded(features: Sequence[Features]) -> Sequence[Any]:
        sizes.append(len(features))
        if len(sizes) == 1:
            until(lambda: len(together._waiting) == len(names) - 1)  # those who come meanwhile are the next batch
        return decoder._encoded(features)

    together = Together(encoded, 8)
    monkeypatch.setattr(decoder, "_in_turn", nullcontext())
    monkeypatch.setattr(decoder, "_encode", together)
    with ThreadPoolExecutor(len(names)) as threads:
        sounds = [in_a_room(read_sound(recording(name))) for name in names]
        decoded = [*threads.map(lambda sound: answer(decoder, sound), sounds)]
    assert [words(each.text) for each in decoded] == [SAID[name] for name in names]
    assert sizes == [1, len(names) - 1]
