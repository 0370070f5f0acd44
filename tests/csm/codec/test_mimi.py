"""Our Mimi against moshi's and transformers', on random weights: each implementation loads the file itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from csm.codec.checkpoint import ORIGINAL_FILE, load_mimi, save_mimi
from csm.codec.mimi import Mimi
from csm.codec.moshi import moshi_config
from csm.codec.protocol import FRAME_SIZE, SAMPLE_RATE
from csm.codec.seanet import MimiConfig
from tests.csm.tiny_mimi import TINY, random_mimi

# Long enough that 500 steps of 25 Hz pass: twice the published window of 250.
LONG = replace(TINY, window=250)
FULL = MimiConfig()
FLOAT_TOLERANCE = 2e-5  # sums of the same float32 products in another order; the signals are of the order of one


@pytest.fixture(scope="module")
def mimi() -> Mimi:
    return random_mimi(LONG)


@pytest.fixture(scope="module")
def folder(mimi: Mimi, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mimi")
    save_mimi(mimi, folder / ORIGINAL_FILE, "original")
    save_mimi(mimi, folder / "model.safetensors", "transformers")
    return folder


@pytest.fixture(scope="module")
def moshi(folder: Path) -> Any:
    loaders = pytest.importorskip("moshi.models.loaders")
    return loaders.get_mimi(folder / ORIGINAL_FILE, moshi_config(LONG), num_codebooks=32)


@pytest.fixture(scope="module")
def transformers_mimi(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.MimiModel.from_pretrained(folder).eval()


def sound(frames: float, batch: int = 1, seed: int = 1) -> Tensor:
    """Noise that swells and fades, float32 [batch, samples]."""
    samples = int(frames * FRAME_SIZE)
    noise = torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))
    return noise * (0.3 + 0.3 * torch.sin(torch.arange(samples) / 5000))


def random_codes(frames: int, batch: int = 1, seed: int = 2, config: MimiConfig = LONG) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, config.codebook_size, (batch, config.codebooks, frames), generator=generator)


def same(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=0, atol=FLOAT_TOLERANCE)


@torch.no_grad()
def assert_same_codes(mimi: Mimi, audio: Tensor, ours: Tensor, theirs: Tensor) -> None:
    """Equal, except where two entries of a codebook are equally near but for rounding: there the choice is free, and
    with it those of the finer codebooks of the same frame."""
    assert ours.shape == theirs.shape
    frames = (ours != theirs).any(dim=1).nonzero().tolist()
    assert len(frames) <= 0.01 * ours.shape[0] * ours.shape[2]
    filled = torch.nn.functional.pad(audio, (0, -audio.shape[1] % FRAME_SIZE))
    latents = mimi.encoder(len(audio), ours.shape[2]).chain.step(filled[..., None])
    acoustic = (latents @ mimi.quantiser.input_proj.t()).chunk(2, dim=-1)[1]
    for slot, frame in frames:
        first = int((ours[slot, :, frame] != theirs[slot, :, frame]).nonzero()[0])
        assert first > 0, "the semantic codebook"
        before = zip(mimi.quantiser.codebooks[1:first], ours[slot, 1:first, frame], strict=True)
        residual = acoustic[slot, frame] - sum(book[code] for book, code in before)
        nearest, other = (
            (residual - mimi.quantiser.codebooks[first][codes[slot, first, frame]]).square().sum()
            for codes in (ours, theirs)
        )
        assert abs(nearest - other) < FLOAT_TOLERANCE


def step_by_step(mimi: Mimi, codes: Tensor) -> Tensor:
    decoder = mimi.decoder(codes.shape[0])
    return torch.cat([decoder.step(frame) for frame in torch.split(codes, 1, dim=2)], dim=1)


def test_the_frame_is_what_the_library_says() -> None:
    assert (FULL.frame_size, FULL.sample_rate, TINY.frame_size) == (FRAME_SIZE, SAMPLE_RATE, FRAME_SIZE)


@torch.no_grad()
def test_encoding_equals_moshi_beyond_the_window_and_in_a_partial_last_frame(mimi: Mimi, moshi: Any) -> None:
    audio = sound(260.4, batch=2)
    codes = mimi.encode(audio)
    assert codes.shape == (2, 32, 261)
    assert len(set(codes.flatten().tolist())) > 50  # a codec that always answered the same would prove nothing
    assert_same_codes(mimi, audio, codes, moshi.encode(audio[:, None]))


@torch.no_grad()
def test_encoding_equals_transformers_beyond_the_window(mimi: Mimi, transformers_mimi: Any) -> None:
    audio = sound(260)
    assert_same_codes(mimi, audio, mimi.encode(audio), transformers_mimi.encode(audio[:, None]).audio_codes)


@torch.no_grad()
def test_a_partial_last_frame_alone_differs_from_transformers(mimi: Mimi, transformers_mimi: Any) -> None:
    """transformers fills up every layer of the encoder for itself, moshi and we the sound: the frames before agree."""
    audio = sound(20.4)
    theirs = transformers_mimi.encode(audio[:, None]).audio_codes
    whole = audio[:, : 20 * FRAME_SIZE]
    assert_same_codes(mimi, whole, mimi.encode(audio)[..., :-1], theirs[..., :-1])


@torch.no_grad()
def test_decoding_equals_moshi_and_transformers_beyond_the_window(
    mimi: Mimi, moshi: Any, transformers_mimi: Any
) -> None:
    codes = random_codes(260, batch=2)
    audio = mimi.decode(codes)
    assert audio.std() > 0.05
    assert same(audio, moshi.decode(codes)[:, 0])
    assert same(audio, transformers_mimi.decode(codes).audio_values[:, 0])


@torch.no_grad()
def test_decoding_frame_by_frame_equals_decoding_at_once_beyond_the_window(mimi: Mimi, moshi: Any) -> None:
    codes = random_codes(260)
    audio = step_by_step(mimi, codes)
    assert same(audio, mimi.decode(codes))
    assert same(audio, moshi.decode(codes)[:, 0])


@torch.no_grad()
def test_decoding_frame_by_frame_equals_moshi_frame_by_frame(mimi: Mimi, moshi: Any) -> None:
    """Within the window. Beyond it moshi's ring of 250 has lost the oldest key for the first of a frame's two steps."""
    codes = random_codes(124)
    with moshi.streaming(1):
        theirs = torch.cat([moshi.decode(frame) for frame in torch.split(codes, 1, dim=2)], dim=2)[:, 0]
    assert same(step_by_step(mimi, codes), theirs)


@pytest.mark.parametrize("piece", [1, 700, FRAME_SIZE, 5 * FRAME_SIZE + 1])
def test_encoding_while_it_is_spoken_equals_encoding_at_once(mimi: Mimi, piece: int) -> None:
    audio = sound(2.3 if piece == 1 else 30.3)
    encoder = mimi.encoder()
    codes = [encoder.step(part) for part in torch.split(audio, piece, dim=1)]
    assert torch.equal(torch.cat([*codes, encoder.flush()], dim=2), mimi.encode(audio))
    assert encoder.flush().shape == (1, 32, 0)


@torch.no_grad()
def test_the_full_size_equals_moshi_and_transformers(tmp_path: Path) -> None:
    loaders = pytest.importorskip("moshi.models.loaders")
    transformers = pytest.importorskip("transformers")
    mimi = random_mimi(FULL)
    save_mimi(mimi, tmp_path / ORIGINAL_FILE, "original")
    save_mimi(mimi, tmp_path / "model.safetensors", "transformers")
    moshi = loaders.get_mimi(tmp_path / ORIGINAL_FILE, num_codebooks=32)
    theirs = transformers.MimiModel.from_pretrained(tmp_path).eval()

    audio, codes = sound(12), random_codes(12, config=FULL)
    encoded = mimi.encode(audio)
    assert_same_codes(mimi, audio, encoded, moshi.encode(audio[:, None]))
    assert_same_codes(mimi, audio, encoded, theirs.encode(audio[:, None]).audio_codes)
    decoded = step_by_step(mimi, codes)
    assert same(decoded, moshi.decode(codes)[:, 0])
    assert same(decoded, theirs.decode(codes).audio_values[:, 0])


def test_resetting_one_slot_leaves_the_others(mimi: Mimi) -> None:
    before, after = random_codes(7, batch=3), random_codes(6, batch=3, seed=5)
    decoder = mimi.decoder(3)
    decoder.step(before)
    decoder.reset(1)
    audio = decoder.step(after)
    whole = mimi.decode(torch.cat((before, after), dim=2))[:, 7 * FRAME_SIZE :]
    assert same(audio[[0, 2]], whole[[0, 2]])
    assert same(audio[1:2], mimi.decode(after[1:2]))
    assert not same(audio[1:2], whole[1:2])


def test_resetting_one_slot_of_the_encoder_leaves_the_others(mimi: Mimi) -> None:
    before, after = sound(7, batch=3), sound(6, batch=3, seed=5)
    encoder = mimi.encoder(3)
    encoder.step(before)
    encoder.reset(1)
    codes = encoder.step(after)
    whole = mimi.encode(torch.cat((before, after), dim=1))[..., 7:]
    assert torch.equal(codes[[0, 2]], whole[[0, 2]])
    assert torch.equal(codes[1:2], mimi.encode(after[1:2]))
    assert not torch.equal(codes[1:2], whole[1:2])


def test_a_slot_that_is_reset_within_a_frame_begins_it_with_silence(mimi: Mimi) -> None:
    before, after = sound(3.5, batch=2), sound(6.5, batch=2, seed=5)
    encoder = mimi.encoder(2)
    encoder.step(before)
    encoder.reset(1)
    silence = torch.zeros(1, FRAME_SIZE // 2)
    assert torch.equal(encoder.step(after)[1:], mimi.encode(torch.cat((silence, after[1:]), dim=1)))


def test_resetting_all_slots_starts_afresh(mimi: Mimi) -> None:
    codes, audio = random_codes(5, batch=2), sound(5.5, batch=2)
    decoder, encoder = mimi.decoder(2), mimi.encoder(2)
    first_decoded, first_encoded = decoder.step(codes), encoder.step(audio)
    decoder.reset()
    encoder.reset()
    assert torch.equal(decoder.step(codes), first_decoded)
    assert torch.equal(encoder.step(audio), first_encoded)


def test_two_streams_of_one_model_do_not_meet(mimi: Mimi) -> None:
    codes = random_codes(6)
    one, other = mimi.decoder(), mimi.decoder()
    audio = []
    for frame in torch.split(codes, 1, dim=2):
        audio.append(one.step(frame))
        other.step(random_codes(1, seed=9))
    assert same(torch.cat(audio, dim=1), mimi.decode(codes))


def test_decoding_a_frame_allocates_nothing() -> None:
    mimi = random_mimi()
    decoder, codes, out = mimi.decoder(2), random_codes(3, batch=2, config=TINY), torch.empty(2, FRAME_SIZE)
    decoder.step(codes[..., :1], out)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for frame in torch.split(codes, 1, dim=2):
            decoder.step(frame, out)
    allocated = {event.name: event.cpu_memory_usage for event in profiler.events() if event.cpu_memory_usage > 0}
    assert not allocated


def test_what_a_step_gives_is_not_overwritten_by_the_next(mimi: Mimi) -> None:
    codes = random_codes(2)
    decoder = mimi.decoder()
    first = decoder.step(codes[..., :1])
    kept = first.clone()
    decoder.step(codes[..., 1:])
    assert torch.equal(first, kept)


def test_bfloat16_stays_close_to_float32(mimi: Mimi, folder: Path) -> None:
    """Error measured on these random weights: 1 % of the signal's power is 20 dB below it."""
    codes = random_codes(30)
    half = load_mimi(folder / ORIGINAL_FILE, dtype=torch.bfloat16)
    exact, rounded = mimi.decode(codes), half.decode(codes)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).square().mean() < 0.01 * exact.square().mean()


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(1, 31, 4, dtype=torch.int64), r"\[batch, 32, frames\]; it was given \[1, 31, 4\]"),
        (torch.zeros(1, 32, 0, dtype=torch.int64), r"\[1, 32, 0\]"),
        (torch.full((1, 32, 2), 2050), "ids are 0 to 63; found 2050 to 2050"),
        (torch.full((1, 32, 2), -1), "found -1 to -1"),
    ],
)
def test_codes_it_cannot_decode(mimi: Mimi, codes: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mimi.decode(codes)


def test_no_sound_to_encode(mimi: Mimi) -> None:
    with pytest.raises(ValueError, match=r"\[1, 0\]"):
        mimi.encode(torch.zeros(1, 0))
    with pytest.raises(ValueError, match=r"\[100\]"):
        mimi.encode(torch.zeros(100))


def test_a_step_of_the_wrong_length(mimi: Mimi) -> None:
    with pytest.raises(ValueError, match="steps of 4 frames, but was given 3"):
        mimi.decoder(frames=4).step(random_codes(3))
