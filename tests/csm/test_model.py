"""The model's mathematics against transformers' CsmForConditionalGeneration, on random weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from csm.backends.eager import Engine
from csm.model import Csm, CsmConfig, KeyValueCache, RopeScaling, causal_mask, rope_table
from csm.rows import sound_rows, text_rows
from tests.csm.oracle import make_reference, reference_embeds, reference_frames
from tests.csm.tiny import FEW_LAYERS, TINY, make_model


def prompt(config: CsmConfig, seed: int, words: int, frames: int = 0) -> Tensor:
    """Rows of a context with sound (if frames are asked for) and of a text to be said."""
    generator = torch.Generator().manual_seed(seed)

    def text(count: int) -> Tensor:
        ids = torch.randint(0, config.text_vocab_size, (count,), generator=generator)
        return text_rows(ids.tolist(), config.audio_codebooks)

    if not frames:
        return text(words)
    codes = torch.randint(0, config.codes, (frames, config.audio_codebooks), generator=generator)
    return torch.cat((text(4), sound_rows(codes), text(words)))


def greedy(model: Csm, prompts: list[Tensor], count: int) -> Tensor:
    engine = Engine(model, len(prompts))
    engine.prefill(prompts)
    return torch.stack([engine.next_frame(0.0, 1).clone() for _ in range(count)], dim=1)


@pytest.mark.parametrize(
    ("config", "count"),
    [(TINY, 40), pytest.param(FEW_LAYERS, 4, marks=pytest.mark.slow)],
    ids=["tiny", "full layer shapes"],
)
def test_greedy_frames_equal_the_reference_in_a_batch_of_unequal_lengths(config: CsmConfig, count: int) -> None:
    model = make_model(config)
    prompts = [prompt(config, 1, words=9), prompt(config, 2, words=3, frames=25), prompt(config, 3, words=1)]
    ours = greedy(model, prompts, count)
    assert torch.equal(ours, reference_frames(make_reference(model), model, prompts, count))
    # Not the same code again and again, which a broken model could get right as well.
    assert len(set(ours.flatten().tolist())) > 20
    assert not torch.equal(ours[0], ours[1])


@pytest.mark.parametrize("frames", [0, 30, 420], ids=["without audio context", "with audio context", "with a long one"])
def test_greedy_frames_of_one_sequence_equal_the_reference(frames: int) -> None:
    model = make_model(TINY, seed=5)
    prompts = [prompt(TINY, 4, words=12, frames=frames)]
    assert torch.equal(greedy(model, prompts, 60), reference_frames(make_reference(model), model, prompts, 60))


def test_logits_of_every_row_and_codebook_equal_the_reference() -> None:
    model = make_model()
    reference = make_reference(model)
    rows = prompt(TINY, 6, words=5, frames=20)[None]
    with torch.inference_mode():
        hidden = model.prefill(rows.clamp(min=0), rows >= 0, slice(0, rows.shape[1]), model.cache(1))
        ours = model.codebook0_head(hidden)
        theirs = reference(inputs_embeds=reference_embeds(reference, rows[0])[None]).logits
        assert (ours - theirs).abs().max() < 2e-5

        codes = torch.randint(0, TINY.codes, (1, TINY.audio_codebooks))
        seen: list[Tensor] = []

        def forced(logits: Tensor, codebook: int) -> Tensor:
            seen.append(logits)
            return codes[:, codebook]

        assert torch.equal(model.frame(hidden[:, -1], model.depth_cache(1), forced), codes)
        depth = reference.depth_decoder(
            input_ids=torch.nn.functional.pad(codes, (1, 0))[:, :-1], backbone_last_hidden_state=hidden[:, -1]
        ).logits
        assert (torch.stack(seen[1:], dim=1) - depth[..., : TINY.codes]).abs().max() < 2e-5


def test_ids_that_are_no_codes_are_never_shown_to_the_sampler() -> None:
    model = make_model()
    with torch.no_grad():
        model.codebook0_head.weight[TINY.codes :] = 100 * model.codebook0_head.weight[:1]
        model.audio_head[:, :, TINY.codes :] = 100 * model.audio_head[:, :, :1]
    assert greedy(model, [prompt(TINY, 1, words=5)], 20).max() < TINY.codes


def test_a_sequence_in_a_batch_is_what_it_is_alone() -> None:
    model = make_model()
    prompts = [prompt(TINY, 1, words=40), prompt(TINY, 2, words=2)]
    together = greedy(model, prompts, 20)
    for index, rows in enumerate(prompts):
        assert torch.equal(together[index], greedy(model, [rows], 20)[0])


def test_a_row_is_the_masked_sum_of_its_columns() -> None:
    model = make_model()
    rows = torch.randint(0, TINY.codes, (2, 7, TINY.audio_codebooks + 1))
    mask = torch.rand(rows.shape) > 0.5
    columns = [model.audio_embeddings(rows[..., i] + i * TINY.audio_vocab_size) for i in range(TINY.audio_codebooks)]
    columns.append(model.text_embeddings(rows[..., -1]))
    expected = (torch.stack(columns, dim=2) * mask[..., None]).sum(dim=2)
    torch.testing.assert_close(model.embed(rows, mask), expected)


def test_what_an_engine_holds_is_not_heard_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    engine = Engine(model)
    first = prompt(TINY, 1, words=20)
    engine.prefill([first])
    frames = torch.cat([engine.next_frame(0.0, 1) for _ in range(6)])
    longer = torch.cat((first, sound_rows(frames), prompt(TINY, 2, words=5)))
    heard: list[int] = []
    prefill = model.prefill

    def counted(rows: Tensor, *rest: object) -> Tensor:
        heard.append(rows.shape[1])
        return prefill(rows, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "prefill", counted)
    engine.prefill([longer])
    # The sixth frame was spelt out but not yet listened to; the row that ends the recording and five words are new.
    assert heard == [1 + 1 + 5]
    continued = torch.cat([engine.next_frame(0.0, 1) for _ in range(20)])
    assert torch.equal(continued, greedy(model, [longer], 20)[0])


def test_an_engine_goes_back_to_where_prompts_part() -> None:
    model = make_model()
    engine = Engine(model)
    start = prompt(TINY, 1, words=20)
    for seed in (2, 3):
        rows = torch.cat((start[: 20 - seed], prompt(TINY, seed, words=6)))
        engine.prefill([rows])
        assert torch.equal(torch.cat([engine.next_frame(0.0, 1) for _ in range(9)]), greedy(model, [rows], 9)[0])


def test_bfloat16_stays_close_to_float32() -> None:
    """Measured on these weights: the largest error of a logit is 0.04 where logits have a deviation of 1."""
    model, half = make_model(), make_model().to(torch.bfloat16)
    rows = prompt(TINY, 6, words=5, frames=40)[None]
    logits = []
    for each in (model, half):
        with torch.inference_mode():
            hidden = each.prefill(rows.clamp(min=0), rows >= 0, slice(0, rows.shape[1]), each.cache(1))
            logits.append(each.codebook0_head(hidden).float())
    assert logits[0].std() > 0.5
    assert 0 < (logits[0] - logits[1]).abs().max() < 0.1


def test_the_stretched_rotations_of_llama_3() -> None:
    """By the published rule: short waves stay, long ones are slowed 32 times, and between them it is gradual."""
    plain = TINY.backbone.__class__(**{**CsmConfig.csm_1b().backbone.__dict__, "rope_scaling": None})
    slow = rope_table(CsmConfig.csm_1b().backbone, 2)[1].angle()
    fast = rope_table(plain, 2)[1].angle()
    wavelength = 2 * torch.pi / fast
    scaling = RopeScaling()
    short = wavelength < scaling.original_context / scaling.high_freq_factor
    long = wavelength > scaling.original_context / scaling.low_freq_factor
    torch.testing.assert_close(slow[short], fast[short])
    torch.testing.assert_close(slow[long], fast[long] / 32)
    between = ~short & ~long
    assert between.any()
    assert (slow[between] < fast[between]).all()
    assert (slow[between] > fast[between] / 32).all()


def test_masks_and_views_of_the_cache() -> None:
    assert causal_mask(slice(1, 3), 4)[0, 0].tolist() == [[True, True, False, False], [True, True, True, False]]
    assert causal_mask(torch.tensor([[0], [2]]), 3)[:, 0, 0].tolist() == [[True, False, False], [True, True, True]]
    cache = KeyValueCache(TINY.backbone, batch=3, length=10)
    view = cache.rows(1, 2).prefix(4)
    keys = torch.ones(1, 2, 2, 16)
    view.write(0, slice(1, 3), keys, 2 * keys)
    assert cache.tensor[0, 0, 1, :, 1:3].eq(1).all()
    assert cache.tensor[0, 1, 1, :, 1:3].eq(2).all()
    assert cache.tensor.count_nonzero() == 2 * keys.numel()


def test_the_published_shape_has_the_published_size() -> None:
    with torch.device("meta"):
        model = Csm(CsmConfig.csm_1b())
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_552_791_552
    assert len(model.state_dict()) == 187
    assert model.audio_head.shape == (31, 1024, 2051)
    assert model.text_embeddings.weight.shape == (128_256, 2048)


def test_without_a_cache_the_logits_are_those_with_one_and_the_references() -> None:
    model, reference = make_model(), make_reference(make_model())
    prompts = [prompt(TINY, 6, words=5, frames=20), prompt(TINY, 7, words=9)]
    rows = torch.full((2, len(prompts[0]), TINY.audio_codebooks + 1), -1)
    for index, each in enumerate(prompts):
        rows[index, : len(each)] = each
    hidden = model.hidden_states(rows.clamp(min=0), rows >= 0)
    for index, each in enumerate(prompts):
        alone = each[None]
        cached = model.prefill(alone.clamp(min=0), alone >= 0, slice(0, len(each)), model.cache(1))[0]
        torch.testing.assert_close(hidden[index, : len(each)], cached, rtol=0, atol=1e-5)

    follows = hidden[0]  # every row of it may be followed by a frame
    frames = torch.randint(0, TINY.codes, (len(follows), TINY.audio_codebooks))
    logits = model.depth_logits(follows, frames)
    assert logits.shape == (len(frames), TINY.audio_codebooks, TINY.audio_vocab_size)
    seen: list[Tensor] = []

    def forced(scores: Tensor, codebook: int) -> Tensor:
        seen.append(scores)
        return frames[:, codebook]

    model.frame(follows, model.depth_cache(len(frames)), forced)
    torch.testing.assert_close(logits[..., : TINY.codes], torch.stack(seen, dim=1), rtol=0, atol=1e-5)
    with torch.inference_mode():
        first = reference(inputs_embeds=reference_embeds(reference, prompts[0])[None]).logits[0]
        later = reference.depth_decoder(
            input_ids=torch.nn.functional.pad(frames, (1, 0))[:, :-1], backbone_last_hidden_state=follows
        ).logits
    torch.testing.assert_close(logits[:, 0], first, rtol=0, atol=2e-5)
    torch.testing.assert_close(logits[:, 1:], later, rtol=0, atol=2e-5)


def test_without_a_cache_gradients_reach_every_parameter() -> None:
    model = make_model().requires_grad_(True)
    rows = prompt(TINY, 6, words=5, frames=20)[None]
    hidden = model.hidden_states(rows.clamp(min=0), rows >= 0)[0, 4:-6]
    frames = rows[0, 5:-5, :-1].clamp(min=0)
    logits = model.depth_logits(hidden, frames)
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), frames.flatten()).backward()  # type: ignore[no-untyped-call]
    still = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()]
    assert not still


def test_several_sequences_of_a_cache_advance_without_the_others() -> None:
    model = make_model()
    prompts = [prompt(TINY, seed, words=4 + seed) for seed in range(3)]
    engine = Engine(model, 3)
    engine.prefill(prompts)
    codes = engine.next_frame(0.0, 1)
    before = engine.cache.tensor.clone()
    some = torch.tensor([2, 0])
    hidden = model.advance(codes[some], engine.positions[some], engine.cache.of(some))
    assert torch.equal(engine.cache.tensor[:, :, 1], before[:, :, 1])
    for index, sequence in enumerate(some.tolist()):
        alone = model.cache(1)
        rows = torch.cat((prompts[sequence], sound_rows(codes[[sequence]])[:1]))[None]
        expected = model.prefill(rows.clamp(min=0), rows >= 0, slice(0, rows.shape[1]), alone)[0, -1]
        torch.testing.assert_close(hidden[index], expected, rtol=0, atol=1e-5)
