"""The loss and every gradient against transformers' CsmForConditionalGeneration(labels=…)."""

from __future__ import annotations

import torch
from torch import Tensor

from csm.checkpoint.formats import Transformers
from csm.model import Csm
from csm.training.loss import Batch, Counts, Example, frame_losses, pick_depth
from tests.csm.oracle import make_reference
from tests.csm.tiny import TINY, make_model
from tests.csm.training.lessons import example


def two_examples(share: float) -> Batch:
    examples = [example(1, words=5, frames=12, context=6), example(2, words=9, frames=4)]
    draw = torch.Generator().manual_seed(3)
    return Batch.of(examples, [pick_depth(one.frames, share, draw) for one in examples])


def trainable(model: Csm) -> Csm:
    return model.requires_grad_(True)


def reference_loss(model: Csm, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """transformers' loss, and its gradients under our names and in our order of rows."""
    reference = make_reference(model).requires_grad_(True)
    reference.tie_weights()
    text = reference.embed_text_tokens(batch.rows[..., -1].clamp(min=0))
    sound = reference.backbone_model.embed_tokens(batch.rows[..., :-1].clamp(min=0))
    padded = (batch.rows < 0).all(dim=-1, keepdim=True)
    embeds = torch.where(batch.rows[..., -1:] >= 0, text, sound).masked_fill(padded, 0)
    labels = torch.where(batch.learnt[..., None], batch.rows[..., :-1], -100)
    labels[..., 1:] = torch.where(batch.depth[..., None], labels[..., 1:], -100)
    loss = reference(inputs_embeds=embeds, labels=labels).loss
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in reference.named_parameters()}
    form = Transformers()
    return loss.detach(), {
        name: form.from_disk(name, gradients[form.names(name)[0]], model.config)
        for name, _ in model.named_parameters()
        if name != "audio_embeddings.weight"
    } | {
        "audio_embeddings.weight": sum(
            gradient for name in form.names("audio_embeddings.weight") if (gradient := gradients.get(name)) is not None
        )
    }


def test_loss_and_every_gradient_equal_the_reference() -> None:
    for share in (0.3, 1.0):
        model = trainable(make_model())
        batch = two_examples(share)
        loss = frame_losses(model, batch).mean(batch.counts)
        loss.backward()  # type: ignore[no-untyped-call]
        expected, gradients = reference_loss(model, batch)
        assert abs(float(loss.detach() - expected)) < 1e-5
        assert gradients.keys() == dict(model.named_parameters()).keys()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
            assert (parameter.grad - gradients[name]).abs().max() < 1e-5, name


def test_the_end_is_learnt_and_the_context_is_not() -> None:
    one = example(1, words=5, frames=12, context=6)
    batch = Batch.of([one], [pick_depth(one.frames, 0.0, torch.Generator().manual_seed(0))])
    learnt = batch.learnt[0].nonzero().flatten().tolist()
    assert learnt == [*range(len(one) - 13, len(one))]
    assert batch.depth[0].nonzero().flatten().tolist() == [len(one) - 1]
    assert not one.rows[-1, :-1].any()
    assert batch.counts == Counts(13, TINY.audio_codebooks - 1)


def test_no_frame_is_told_to_whoever_predicts_it() -> None:
    """Code 0 and depth losses of earlier frames stay as they are when the last frame becomes another."""
    model = make_model()
    one = example(4, words=3, frames=8)
    other = Example(one.rows.clone(), one.frames)
    other.rows[-2, :-1] = (other.rows[-2, :-1] + 1) % TINY.codes
    for picked in range(7):
        mask = torch.zeros(one.frames, dtype=torch.bool)
        mask[picked] = True
        batches = [Batch.of([each], [mask]) for each in (one, other)]
        for batch in batches:
            batch.learnt[:] = batch.depth
        same, changed = (frame_losses(model, batch) for batch in batches)
        assert torch.equal(same.code0, changed.code0)
        assert torch.equal(same.depth, changed.depth)


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    model = make_model()
    examples = [example(seed, words=2 + seed, frames=3 * seed + 1) for seed in range(1, 5)]
    picked = [pick_depth(one.frames, 0.5, torch.Generator().manual_seed(7)) for one in examples]
    whole = Batch.of(examples, picked)
    expected = frame_losses(model, whole).mean(whole.counts)
    parts = [Batch.of([one], [mask]) for one, mask in zip(examples, picked, strict=True)]
    counts = sum((part.counts for part in parts), Counts())
    assert counts == whole.counts
    total = sum(float(frame_losses(model, part).mean(counts)) for part in parts)
    assert abs(total - float(expected)) < 1e-5


def test_a_share_of_the_frames_is_drawn_anew_each_time() -> None:
    draw = torch.Generator().manual_seed(0)
    picks = [pick_depth(1600, 1 / 16, draw) for _ in range(2)]
    assert all(70 < int(pick.sum()) < 135 for pick in picks)
    assert not torch.equal(*picks)
