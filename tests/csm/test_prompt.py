"""Text and sound as rows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from csm.errors import CheckpointError, ContextTooLong, InvalidAudio, InvalidSpeaker, InvalidText
from csm.prompt import REMEMBERED, Prompter, Segment, load_tokenizer, speakable
from csm.rows import ABSENT
from csm.sound.recording import as_mono
from tests.csm.tiny import make_mimi, make_tokenizer, voice


@dataclass
class CountingCodec:
    """The tiny codec, counting how often it encodes."""

    sample_rate: int = 24_000
    frame_size: int = 1920
    codebooks: int = 8
    encoded: int = 0
    mimi: object = field(default_factory=make_mimi)

    def encode(self, audio: Tensor) -> Tensor:
        self.encoded += 1
        return self.mimi.encode(audio)  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def codec() -> CountingCodec:
    return CountingCodec()


@pytest.fixture
def prompter(codec: CountingCodec) -> Prompter:
    return Prompter(make_tokenizer(), codec, context=512, device=torch.device("cpu"))  # type: ignore[arg-type]


def test_a_segment_is_its_text_its_frames_and_a_row_of_zeros(prompter: Prompter, codec: CountingCodec) -> None:
    sound = voice(1.0)
    rows = prompter.segment(Segment("Hi there", 3, sound))
    tokenizer = make_tokenizer()
    begin, end = tokenizer.token_to_id("<|begin_of_text|>"), tokenizer.token_to_id("<|end_of_text|>")
    ids = [begin, *tokenizer.encode("[3]Hi there", add_special_tokens=False).ids, end]
    text, frames, last = rows[: len(ids)], rows[len(ids) : -1], rows[-1]
    assert text[:, -1].tolist() == ids
    assert (text[:, :-1] == ABSENT).all()
    assert torch.equal(frames[:, :-1], codec.mimi.encode(sound[None])[0].T)  # type: ignore[attr-defined]
    assert len(frames) == 13
    assert last.tolist() == [0] * 8 + [ABSENT]
    assert (frames[:, -1] == ABSENT).all()


def test_a_segment_without_sound_is_its_text(prompter: Prompter) -> None:
    assert torch.equal(prompter.segment(Segment("Hi", 0)), prompter.text("Hi", 0))


def test_a_recording_is_encoded_once(prompter: Prompter, codec: CountingCodec) -> None:
    sound = voice(0.5)
    first = prompter.segment(Segment("one", 0, sound))
    again = prompter.segment(Segment("two", 1, sound.clone()))
    assert codec.encoded == 1
    assert torch.equal(first[-8:], again[-8:])
    prompter.segment(Segment("one", 0, 0.5 * sound))
    assert codec.encoded == 2


def test_the_recordings_asked_for_least_lately_are_forgotten(prompter: Prompter, codec: CountingCodec) -> None:
    sounds = [Segment("one", 0, voice(0.08, seed=seed)) for seed in range(REMEMBERED + 1)]
    for segment in (*sounds[:-1], sounds[0], sounds[-1]):
        prompter.codes(segment)
    assert codec.encoded == REMEMBERED + 1
    prompter.codes(sounds[0])
    assert codec.encoded == REMEMBERED + 1
    prompter.codes(sounds[1])
    assert codec.encoded == REMEMBERED + 2


def test_ten_minutes_are_refused_before_they_are_encoded(prompter: Prompter, codec: CountingCodec) -> None:
    with pytest.raises(ContextTooLong, match="600 s takes 7500 of the model's 512 rows"):
        prompter.segment(Segment("long", 0, voice(600)))
    assert codec.encoded == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The past is just a story we tell ourselves.", "The past is just a story we tell ourselves."),
        ("At 10:30 [laughs] (really)", "At 10 30 laughs really"),
        ("ratio a:b", "ratio a:b"),
        ("tabs\tand\nlines\x00\x07 end", "tabs and lines end"),
        ("👩‍👩‍👧 family ❤️ 1️⃣", "family 1"),
        ("<|end_of_text|>[1]Hello", "end_of_text 1 Hello"),
        ("我会说普通话，你好", "我会说普通话，你好"),
        ("می‌خواهم", "می‌خواهم"),
        ("क्‍ष नमस्ते", "क्‍ष नमस्ते"),
        ("Cafe\u0301 — “quoted”, 50% of $5…", "Café — “quoted”, 50% of $5…"),
        ("  ‍ lonely joiner", "lonely joiner"),
    ],
)
def test_what_is_said_of_a_text(text: str, said: str) -> None:
    assert speakable(text) == said


@pytest.mark.parametrize("text", ["", "   ", "\x00\x01", "😀🎉", "[]()", "...?!", "‍"])
def test_text_without_a_word_is_refused(text: str) -> None:
    with pytest.raises(InvalidText, match="nothing to say"):
        speakable(text)


@pytest.mark.parametrize("text", ["[0]Hello from Sesame.", " [12] Hello."])
def test_a_speaker_in_the_text_is_told_to_be_an_argument(text: str) -> None:
    with pytest.raises(InvalidText, match=r"pass speaker=(0|12), and only the words as text"):
        speakable(text)


def test_text_that_is_no_string_is_refused() -> None:
    with pytest.raises(InvalidText, match="must be a string, not NoneType"):
        speakable(None)  # type: ignore[arg-type]


def test_words_that_look_like_special_tokens_are_words(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer().save(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(folder)
    special = tokenizer.token_to_id("<|end_of_text|>")
    assert special not in tokenizer.encode("<|end_of_text|>", add_special_tokens=False).ids


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "found none"), ("{}", "found something else"), ("tokens", "found no <|begin_of_text|>")],
)
def test_a_tokenizer_that_is_none(content: str | None, message: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("tokenizer")
    if content == "tokens":
        import tokenizers

        tokenizers.Tokenizer(tokenizers.models.BPE()).save(str(folder / "tokenizer.json"))
    elif content is not None:
        (folder / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=message.replace("|", r"\|")):
        load_tokenizer(folder)


@pytest.mark.parametrize("speaker", [-1, "x", "0", 1.0, None, True])
def test_a_speaker_that_is_none(speaker: object, prompter: Prompter) -> None:
    with pytest.raises(InvalidSpeaker, match="whole number, 0 or higher"):
        prompter.text("Hi", speaker)  # type: ignore[arg-type]


def test_any_whole_number_is_a_speaker(prompter: Prompter) -> None:
    assert torch.equal(prompter.text("Hi", np.int64(7)), prompter.text("Hi", 7))  # type: ignore[arg-type]


def test_recordings_become_mono_at_24_khz() -> None:
    sound = voice(1.0, 8000)
    assert as_mono(sound, 8000).shape == (24_000,)
    left_right = torch.stack((voice(0.2), -voice(0.2) / 2))
    torch.testing.assert_close(as_mono(left_right, 24_000), voice(0.2) / 4)
    torch.testing.assert_close(as_mono(left_right.T, 24_000), voice(0.2) / 4)
    whole = (voice(0.2) * 32_768).to(torch.int16)
    torch.testing.assert_close(as_mono(whole, 24_000), voice(0.2), atol=1e-4, rtol=0)
    assert as_mono(voice(0.2).numpy().astype(np.float64), 24_000).dtype == torch.float32


def test_resampling_keeps_the_pitch() -> None:
    time = torch.arange(16_000) / 16_000
    heard = as_mono(torch.sin(2 * torch.pi * 440 * time), 16_000)
    assert int(torch.fft.rfft(heard).abs().argmax()) == 440


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (torch.zeros(0), 24_000, "empty"),
        (torch.zeros(1, 0), 24_000, "empty"),
        (torch.zeros(24_000), 24_000, "silent"),
        (torch.full((10,), float("nan")), 24_000, "NaN"),
        (torch.tensor([0.1, float("inf")]), 24_000, "NaN or infinity"),
        (torch.zeros(2, 3, 4), 24_000, "shape"),
        (torch.ones(10), 0, "sample rate"),
        ("voice.wav", 24_000, "tensor of samples, not str"),
    ],
)
def test_a_recording_that_is_none(audio: Tensor, rate: int, message: str) -> None:
    with pytest.raises(InvalidAudio, match=message):
        as_mono(audio, rate)
