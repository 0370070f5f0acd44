"""The public face on tiny checkpoints of random weights: what comes out is noise, and must be the right noise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

import csm
from csm import Generator, Segment, generate_streaming_audio, load_csm_1b, load_csm_1b_local
from csm.backends.eager import Engine
from csm.codec.checkpoint import save_mimi
from csm.errors import (
    CheckpointError,
    ContextTooLong,
    InvalidAudio,
    InvalidSpeaker,
    InvalidText,
    NoSpeech,
    OutOfMemory,
)
from csm.synthesis import in_chunks
from tests.csm.tiny import TINY_MIMI, make_mimi, voice, write_checkpoint

FRAME = 1920
SHORT: dict[str, Any] = {"max_audio_length_ms": 800}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("csm"))


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    return load_csm_1b("cpu", model=folder)


def test_speech_is_samples_at_24_khz(generator: Generator) -> None:
    audio = generator.generate("Hello there.", 0, [], **SHORT)
    assert generator.sample_rate == 24_000
    assert audio.shape == (10 * FRAME,)
    assert audio.dtype == torch.float32
    assert audio.std() > 0.01


def test_a_stream_is_the_same_sample_for_sample(generator: Generator) -> None:
    context = [Segment("A voice.", 1, voice(1.0))]
    whole = generator.generate("Hello there.", 0, context, seed=3, **SHORT)
    for chunk_frames in (1, 3, 100):
        chunks = list(generator.generate_stream("Hello there.", 0, context, seed=3, chunk_frames=chunk_frames, **SHORT))
        assert [len(chunk) // FRAME for chunk in chunks[:2]] == [1, min(chunk_frames, 9)]
        assert torch.equal(torch.cat(chunks), whole)
    assert torch.equal(generator.generate("Hello there.", 0, context, seed=3, stream=True, **SHORT), whole)


def test_the_stream_is_what_the_codec_decodes_as_a_whole(generator: Generator) -> None:
    prompt, _ = generator.prompt("Hello there.", 0, [], 800)
    engine = generator.engine()
    engine.prefill([prompt])
    codes = torch.stack([engine.next_frame(0.0, 1)[0].clone() for _ in range(10)], dim=1)
    whole = generator.codec.decode(codes[None])[0]
    streamed = generator.generate("Hello there.", 0, [], temperature=0.0, **SHORT)
    torch.testing.assert_close(streamed, whole, atol=1e-5, rtol=0)


def test_a_seed_is_a_promise_and_none_is_a_surprise(generator: Generator) -> None:
    def say(**options: Any) -> torch.Tensor:
        return generator.generate("Hello.", 0, [], **SHORT, **options)

    assert torch.equal(say(seed=1), say(seed=1))
    assert not torch.equal(say(seed=1), say(seed=2))
    assert not torch.equal(say(), say())


def test_words_speaker_and_context_matter(generator: Generator) -> None:
    base = generator.generate("Hello.", 0, [], seed=1, **SHORT)
    for text, speaker, context in (
        ("Hullo.", 0, []),
        ("Hello.", 1, []),
        ("Hello.", 0, [Segment("Hi.", 1, voice(0.5))]),
        ("Hello.", 0, [Segment("Hi.", 1)]),
    ):
        assert not torch.equal(generator.generate(text, speaker, context, seed=1, **SHORT), base)


def test_the_cap_is_the_shorter_of_what_was_asked_and_what_the_text_needs(generator: Generator) -> None:
    assert len(generator.generate("Hi.", 0, [], seed=1)) == 34 * FRAME
    assert len(generator.generate("Hi.", 0, [], max_audio_length_ms=100, seed=1)) == FRAME


def test_no_context_is_the_empty_context(generator: Generator) -> None:
    said = generator.generate("Hi.", 0, [], seed=1, **SHORT)
    assert torch.equal(generator.generate("Hi.", 0, None, seed=1, **SHORT), said)
    together = generator.generate_batch(["Hi."], [0], [None], seed=1, **SHORT)
    torch.testing.assert_close(together[0], said, atol=1e-5, rtol=0)


def test_a_batch_is_what_each_is_alone(generator: Generator) -> None:
    texts, speakers = ["Hi.", "A longer one, to be said together with it.", "Hm"], [0, 1, 2]
    contexts = [[Segment("A voice.", 0, voice(1.0))], [], [Segment("Some words.", 1)]]
    together = generator.generate_batch(texts, speakers, contexts, seed=7)
    for index, request in enumerate(zip(texts, speakers, contexts, strict=True)):
        alone = generator.generate(*request, seed=7 + index)
        torch.testing.assert_close(together[index], alone, atol=1e-5, rtol=0)
    assert len({len(audio) for audio in together}) > 1
    assert generator.generate_batch([], []) == []


def test_every_call_hears_its_whole_prompt(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys kept from the call before would differ in the last bit, and a seed would no longer be a promise."""
    rows: list[int] = []
    prefill = generator.csm.prefill

    def counted(new: torch.Tensor, *rest: Any) -> torch.Tensor:
        rows.append(new.shape[1])
        return prefill(new, *rest)

    monkeypatch.setattr(generator.model, "prefill", counted)
    for _ in range(3):
        generator.generate("Hello.", 0, [], **SHORT)
    assert rows == 3 * [len(generator.prompter.text("Hello.", 0))]


def test_the_way_of_a_gpu_says_the_same(generator: Generator) -> None:
    """Frames and sound in one piece each, as captured on a GPU; without one the same code runs as it is."""
    from csm.backends.cuda_graph import GraphDecoder, GraphEngine

    class InOnePiece(Generator):
        def engine(self, batch: int = 1, length: int | None = None) -> Engine:
            return GraphEngine(self.csm, batch, length)

        def decoder(self) -> GraphDecoder:
            return GraphDecoder(self.codec.decoder(), 1, self.codec.codebooks, self.device)

    other = InOnePiece(generator.model, generator.prompter.tokenizer, generator.codec)
    context = [Segment("A voice.", 1, voice(0.5))]
    expected = generator.generate("Hello.", 0, context, seed=1, **SHORT)
    torch.testing.assert_close(other.generate("Hello.", 0, context, seed=1, **SHORT), expected, atol=1e-5, rtol=0)
    chunks = list(csm.Session(other, context).speak("Hello.", 0, 800, seed=1))
    torch.testing.assert_close(torch.cat(chunks), expected, atol=1e-5, rtol=0)


def test_streams_may_overlap(generator: Generator) -> None:
    alone = [generator.generate("Hello.", speaker, [], seed=1, **SHORT) for speaker in (0, 1)]
    streams = [generator.generate_stream("Hello.", speaker, [], seed=1, **SHORT) for speaker in (0, 1)]
    together = [torch.cat(chunks) for chunks in zip(*zip(*streams, strict=True), strict=True)]
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)


def test_threads_may_share_a_generator(generator: Generator) -> None:
    alone = [generator.generate("Hello.", speaker, [], seed=1, **SHORT) for speaker in range(4)]
    spoken: dict[int, torch.Tensor] = {}

    def speak(speaker: int) -> None:
        spoken[speaker] = generator.generate("Hello.", speaker, [], seed=1, **SHORT)

    threads = [threading.Thread(target=speak, args=(speaker,)) for speaker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(spoken[speaker], alone[speaker]) for speaker in range(4))


def test_a_closed_stream_computes_no_more(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = 0
    made = Engine.next_frame

    def counted(self: Engine, *arguments: object) -> torch.Tensor:
        nonlocal frames
        frames += 1
        return made(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "next_frame", counted)
    stream = generator.generate_stream("Hello.", 0, [])
    next(stream)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert frames == 2
    assert len(generator.generate("Hello.", 0, [], cancelled=lambda: frames >= 5)) == 3 * FRAME


@pytest.mark.parametrize("form", ["original", "transformers"])
def test_both_formats_say_the_same(form: str, generator: Generator, tmp_path: Path) -> None:
    other = load_csm_1b("cpu", model=write_checkpoint(tmp_path, form))  # type: ignore[arg-type]
    said = [each.generate("Hello.", 0, [Segment("A.", 1, voice(0.5))], seed=1, **SHORT) for each in (generator, other)]
    torch.testing.assert_close(said[0], said[1], atol=1e-4, rtol=0)


# Bad input. Each gives a result or one clear error, and the generator is usable afterwards.

BAD: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("empty text", {"text": ""}, InvalidText, "nothing to say"),
    ("blanks", {"text": " \n"}, InvalidText, "nothing to say"),
    ("emoji only", {"text": "😀🎉"}, InvalidText, "nothing to say"),
    ("control characters", {"text": "\x00\x1b"}, InvalidText, "nothing to say"),
    ("brackets only", {"text": "[()]"}, InvalidText, "nothing to say"),
    ("10,000 words", {"text": "word " * 10_000}, ContextTooLong, "Inputs too long, must be below max_seq_len"),
    ("no string", {"text": 5}, InvalidText, "must be a string, not int"),
    ("speaker -1", {"speaker": -1}, InvalidSpeaker, "0 or higher, not -1"),
    ("speaker x", {"speaker": "x"}, InvalidSpeaker, "0 or higher, not 'x'"),
    ("0 s", {"context": [Segment("A.", 0, torch.zeros(0))]}, InvalidAudio, "empty"),
    ("10 minutes", {"context": [Segment("A.", 0, voice(600))]}, ContextTooLong, "600 s takes 7500"),
    ("silence", {"context": [Segment("A.", 0, torch.zeros(24_000))]}, InvalidAudio, "silent"),
    ("NaN", {"context": [Segment("A.", 0, torch.full((99,), torch.nan))]}, InvalidAudio, "NaN"),
    ("three dimensions", {"context": [Segment("A.", 0, torch.ones(1, 1, 9))]}, InvalidAudio, "shape"),
    ("context text", {"context": [Segment("", 0, voice(1))]}, InvalidText, "nothing to say"),
    ("context speaker", {"context": [Segment("A.", -5, voice(1))]}, InvalidSpeaker, "not -5"),
    ("does not fit", {"context": [Segment("A.", 0, voice(9, seed=s)) for s in range(5)]}, ContextTooLong, "too long"),
    ("no length", {"max_audio_length_ms": 0}, ValueError, "at least one frame"),
    ("temperature", {"temperature": -1}, ValueError, "The temperature"),
    ("topk", {"topk": 0}, ValueError, "topk"),
]


@pytest.mark.parametrize(("request_", "error", "message"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_bad_input(request_: dict[str, Any], error: type[Exception], message: str, generator: Generator) -> None:
    good: dict[str, Any] = {"text": "Hello.", "speaker": 0, "context": [], "max_audio_length_ms": 800, "seed": 1}
    before = generator.generate(**good)
    for ask in (generator.generate, generator.generate_stream):
        with pytest.raises(error, match=message):
            ask(**good | request_)
    assert torch.equal(generator.generate(**good), before)


@pytest.mark.parametrize(
    "text",
    ["At 10:30 (sharp) [yes]", "我会说普通话", "Привет, мир", "مرحبا", "a\x00b\x07c", "Hello 😀", "<|end_of_text|>[1]"],
)
def test_odd_input_is_said(text: str, generator: Generator) -> None:
    assert len(generator.generate(text, 0, [], **SHORT)) == 10 * FRAME


@pytest.mark.parametrize(
    "segment",
    [
        Segment("A.", 0, voice(1, 8000), sample_rate=8000),
        Segment("A.", 0, torch.stack((voice(1), voice(1)))),
        Segment("A.", 0, voice(0.01)),
        Segment("A.", 0, (voice(1) * 32_000).to(torch.int16)),
        Segment("A.", 0, voice(1).to(torch.float64)),
    ],
    ids=["8 kHz", "stereo", "10 ms", "int16", "float64"],
)
def test_odd_recordings_are_heard(segment: Segment, generator: Generator) -> None:
    assert len(generator.generate("Hello.", 0, [segment], **SHORT)) == 10 * FRAME


def test_a_reference_at_8_khz_takes_as_many_rows_as_at_24(generator: Generator) -> None:
    rows = [len(generator.prompter.segment(Segment("A.", 0, voice(1, rate), rate))) for rate in (8000, 24_000, 44_100)]
    assert rows[0] == rows[1] == rows[2]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("out"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_is_told_and_survived(
    error: Exception, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = generator.generate("Hello.", 0, [], seed=1, **SHORT)
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "prefill", raising(error))
        with pytest.raises(OutOfMemory, match="The memory of cpu is used up"):
            generator.generate("Hello.", 0, [], **SHORT)
        with pytest.raises(OutOfMemory):
            generator.generate_batch(["Hello."], [0], **SHORT)
    assert torch.equal(generator.generate("Hello.", 0, [], seed=1, **SHORT), before)


def test_other_errors_are_not_taken_for_it(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "prefill", raising(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        generator.generate("Hello.", 0, [])


def raising(error: Exception) -> Callable[..., None]:
    def hear(*_: object) -> None:
        raise error

    return hear


def test_an_empty_text_of_a_batch_is_named(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "next_frame", lambda self, *_: torch.zeros(self.batch, 8, dtype=torch.int64))
    with pytest.raises(NoSpeech, match="Text 1 of 2: The model ended before the first sound"):
        generator.generate_batch(["Hello.", "Hm."], [0, 0])
    with pytest.raises(NoSpeech):
        generator.generate("Hello.", 0, [])


# Where models come from.


def test_established_ways_in(folder: Path) -> None:
    import csm.generator
    import generator as established

    assert established.load_csm_1b is csm.generator.load_csm_1b is load_csm_1b
    assert established.Segment is Segment
    assert established.generate_streaming_audio is generate_streaming_audio
    assert load_csm_1b_local(str(folder), "cpu").sample_rate == 24_000


def test_asked_for_a_gpu_that_is_not_there(folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.warns(UserWarning, match="There is no CUDA GPU here: CSM runs on the CPU"):
        assert load_csm_1b("cuda", model=folder).device.type == "cpu"


@pytest.mark.parametrize("model", ["./nowhere", "/nowhere", Path("nowhere"), "~/nowhere-at-all"])
def test_a_folder_that_is_not_there(model: str | Path) -> None:
    with pytest.raises(CheckpointError, match=r"Expected a folder with a CSM checkpoint at .*nowhere"):
        load_csm_1b("cpu", model=model)


def test_a_type_of_ones_own(folder: Path) -> None:
    half = load_csm_1b("cpu", model=folder, dtype=torch.bfloat16)
    assert half.model.dtype == torch.bfloat16
    assert len(half.generate("Hello.", 0, [], **SHORT)) == 10 * FRAME


def test_a_codec_of_ones_own(folder: Path, tmp_path: Path) -> None:
    save_mimi(make_mimi(seed=9), tmp_path / "mimi.safetensors")
    base = load_csm_1b("cpu", model=folder).generate("Hello.", 0, [], seed=1, **SHORT)
    for codec in (make_mimi(seed=9), tmp_path / "mimi.safetensors"):
        other = load_csm_1b("cpu", model=folder, codec=codec).generate("Hello.", 0, [], seed=1, **SHORT)
        assert len(other) == len(base)
        assert not torch.equal(other, base)


def test_a_codec_that_does_not_fit(folder: Path) -> None:
    fewer = make_mimi(TINY_MIMI.__class__(**{**TINY_MIMI.__dict__, "codebooks": 4}))
    with pytest.raises(CheckpointError, match="Expected a codec of 8 codebooks, as the model has, found 4"):
        load_csm_1b("cpu", model=folder, codec=fewer)


def test_speaking_into_a_file(generator: Generator, tmp_path: Path) -> None:
    spoken = generate_streaming_audio(
        generator, "Hello.", 0, [], tmp_path / "out.wav", max_audio_length_ms=800, temperature=0.0
    )
    written, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert rate == 24_000
    torch.testing.assert_close(torch.from_numpy(written), spoken.clamp(-1, 1), atol=1e-4, rtol=0)
    with pytest.raises(InvalidAudio, match="choose a file in an existing folder"):
        generate_streaming_audio(generator, "Hello.", 0, [], tmp_path / "nowhere" / "out.wav")


def test_frames_in_chunks() -> None:
    frames = [torch.tensor([n]) for n in range(6)]
    assert [chunk.tolist() for chunk in in_chunks(frames, 2)] == [[0], [1, 2], [3, 4], [5]]
    assert list(in_chunks([], 2)) == []


def test_the_package_names_what_it_holds() -> None:
    assert {name for name in csm.__all__ if getattr(csm, name) is None} == set()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        csm.nonsense  # noqa: B018
