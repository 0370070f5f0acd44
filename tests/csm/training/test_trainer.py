"""The loop: what it learns, that it can stop at any moment, and what it says when it cannot go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from config.places import ROOT
from csm.checkpoint.adapter_formats import read_adapter
from csm.checkpoint.adapters import merge
from csm.checkpoint.checkpoint import load
from csm.model import Csm
from csm.training import trainer as trainer_module
from csm.training.adapters import Consent
from csm.training.checkpoints import ResumeRefused
from csm.training.held_out import HeldOut
from csm.training.loss import Batch, Example, frame_losses
from csm.training.order import Order
from csm.training.settings import Settings
from csm.training.trainer import Step, Trainer, TrainingStopped
from tests.csm.test_model import greedy
from tests.csm.tiny import TINY, make_model
from tests.csm.training.lessons import SMALL, example, lessons, of, weights


def trained(settings: Settings, folder: Path, **options: Any) -> tuple[Trainer, list[Step]]:
    trainer = Trainer(make_model(), lessons(), settings, folder, **options)
    return trainer, list(trainer.steps())


def largest_difference(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_one_clip_is_learnt_to_its_codes_and_its_end(mode: Any, tmp_path: Path) -> None:
    clip = example(1, words=5, frames=6)
    settings = replace(SMALL, mode=mode, rank=16, alpha=32, steps=60, batch=1, accumulation=1, depth_share=1.0,
                       learning_rate=2e-2 if mode == "lora" else 5e-3)  # fmt: skip
    trainer = Trainer(make_model(), of([clip]), settings, tmp_path)
    steps = list(trainer.steps())
    # LoRA leaves the heads as they are, and random ones cannot be surer than this.
    assert steps[0].loss > 9 and steps[-1].loss < (1.2 if mode == "lora" else 0.2)
    spoken = greedy(trainer.model.eval(), [clip.rows[: -clip.frames]], clip.frames)[0]
    assert torch.equal(spoken, clip.rows[-clip.frames :, :-1])
    assert not spoken[-1].any()


@pytest.mark.slow
def test_two_speakers_are_told_apart_by_their_number(tmp_path: Path) -> None:
    one, other = example(1, words=5, frames=4), example(2, words=5, frames=4)
    rows = other.rows.clone()
    rows[:5] = one.rows[:5]
    rows[1, -1] = (one.rows[1, -1] + 1) % TINY.text_vocab_size  # the same words, but for the speaker's number
    other = Example(rows, other.frames)
    settings = replace(SMALL, mode="full", steps=60, batch=2, accumulation=1, depth_share=1.0, learning_rate=5e-3)
    trainer = Trainer(make_model(), of([one, other]), settings, tmp_path)
    assert list(trainer.steps())[-1].loss < 0.2
    for clip in (one, other):
        spoken = greedy(trainer.model.eval(), [clip.rows[: -clip.frames]], clip.frames)[0]
        assert torch.equal(spoken, clip.rows[-clip.frames :, :-1])


def test_accumulation_is_one_large_batch(tmp_path: Path) -> None:
    """The same six clips in every step, cut in four ways. AdamW makes large steps of tiny gradients, so SGD's are
    compared: the gradients themselves."""

    def gradients(batch: int, accumulation: int, parts: int = 1) -> list[torch.Tensor]:
        settings = replace(SMALL, steps=1, batch=batch, accumulation=accumulation, clip=1e9, depth_share=1.0)
        trainer = Trainer(make_model(), lessons(6), settings, tmp_path)
        trainer.parts = parts
        list(trainer.steps())
        return [weight.grad.clone() for weight in trainer.trained if weight.grad is not None]

    whole = gradients(6, 1)
    assert len(whole) == len(list(make_model().decoder.layers)) * 28
    for cut in [(1, 6), (2, 3), (6, 1, 2), (6, 1, 4)]:
        assert largest_difference(gradients(*cut), whole) < 1e-5


def test_only_what_is_trained_changes(tmp_path: Path) -> None:
    trainer, _ = trained(SMALL, tmp_path)
    before, after = make_model().state_dict(), trainer.model.state_dict()
    for name, tensor in before.items():
        again = after.get(name, after.get(name.replace(".weight", ".base.weight")))
        assert again is not None and torch.equal(tensor, again), name


@pytest.mark.slow
def test_the_loss_goes_down_on_what_is_held_out_too(tmp_path: Path) -> None:
    clip = example(1, words=4, frames=6)
    learnt = of([clip, *(example(seed, words=4, frames=6) for seed in (1, 1, 2))], held_out=1)
    trainer = Trainer(make_model(), learnt, replace(SMALL, steps=25), tmp_path)
    before = trainer.evaluate()
    assert trainer.evaluate() == before  # the same frames each time
    list(trainer.steps())
    after = trainer.evaluate()
    assert before is not None and after is not None and after.loss < 0.8 * before.loss


@pytest.mark.slow
def test_activation_checkpointing_and_dropout_change_no_more_than_they_should(tmp_path: Path) -> None:
    plain, steps = trained(SMALL, tmp_path / "1")
    checked, again = trained(replace(SMALL, activation_checkpointing=True), tmp_path / "2")
    assert largest_difference(weights(plain), weights(checked)) < 1e-6
    assert [step.loss for step in steps] == pytest.approx([step.loss for step in again], abs=1e-5)
    dropped, _ = trained(replace(SMALL, dropout=0.5), tmp_path / "3")
    assert largest_difference(weights(plain), weights(dropped)) > 1e-4


@pytest.mark.slow
def test_bf16_keeps_what_is_learnt_in_float32(tmp_path: Path) -> None:
    for mode in ("lora", "full"):
        settings = replace(SMALL, mode=mode, precision="bf16", steps=12, learning_rate=1e-3 if mode == "full" else 1e-2)
        model = make_model()
        trainer = Trainer(model.bfloat16() if mode == "lora" else model, lessons(), settings, tmp_path / mode)
        steps = list(trainer.steps())
        assert all(weight.dtype == torch.float32 for weight in trainer.trained)
        assert steps[-1].loss < steps[0].loss


class TestOrder:
    def test_every_clip_once_an_epoch_in_another_order(self) -> None:
        order = Order([5, 9, 2, 7, 7, 1, 3], batch=3, seed=4)
        epochs = [[order[3 * epoch + index] for index in range(3)] for epoch in range(3)]
        assert all(sorted(clip for batch in epoch for clip in batch) == list(range(7)) for epoch in epochs)
        assert epochs[0] != epochs[1]
        assert Order([5, 9, 2, 7, 7, 1, 3], batch=3, seed=4)[4] == epochs[1][1]

    def test_clips_of_like_length_are_together(self) -> None:
        lengths = [index % 50 for index in range(640)]
        order = Order(lengths, batch=8, seed=0)
        spread = [max(lengths[clip] for clip in batch) - min(lengths[clip] for clip in batch)
                  for batch in (order[number] for number in range(order.batches))]  # fmt: skip
        assert sum(spread) / len(spread) < 5

    def test_the_rate_rises_and_falls(self) -> None:
        for schedule in ("linear", "cosine"):
            settings = replace(SMALL, steps=20, warmup=4, schedule=schedule)
            rates = [settings.rate(step) for step in range(20)]
            assert rates[3] == rates[4] == 1e-2
            assert rates[:4] == sorted(rates[:4]) and rates[4:] == sorted(rates[4:], reverse=True)
            assert rates[12] == pytest.approx(5e-3) and 0 < rates[-1] < 1e-3


class TestGoingOn:
    """Killed and resumed it is the training that was not."""

    @pytest.mark.parametrize(
        "options",
        [
            {"dropout": 0.2},
            pytest.param({}, marks=pytest.mark.slow),
            pytest.param({"mode": "full", "learning_rate": 1e-3}, marks=pytest.mark.slow),
        ],
        ids=["dropout", "lora", "full"],
    )
    def test_to_the_bit(self, options: dict[str, Any], tmp_path: Path) -> None:
        settings = replace(SMALL, **options)
        straight, expected = trained(settings, tmp_path / "straight")
        first = Trainer(make_model(), lessons(), settings, tmp_path / "cut")
        steps = first.steps()
        for _ in range(4):
            next(steps)
            if first.step == 3:
                first.save()
        second = Trainer(make_model(), lessons(), settings, tmp_path / "cut")
        assert second.resume() and second.step == 3
        assert list(second.steps()) == expected[3:]
        assert largest_difference(weights(second), weights(straight)) == 0

    def test_after_kill_9_in_the_middle_of_a_checkpoint(self, tmp_path: Path) -> None:
        script = (
            "import os, signal, sys, torch\n"
            "from pathlib import Path\n"
            "from csm.training.trainer import Trainer\n"
            "from tests.csm.tiny import make_model\n"
            "from tests.csm.training.lessons import SMALL, lessons\n"
            "torch.set_num_threads(1)\n"
            "trainer = Trainer(make_model(), lessons(), SMALL, Path(sys.argv[1]))\n"
            "for step in trainer.steps():\n"
            "    if trainer.step == 4:\n"
            "        torch.save = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
            "    if trainer.step % 2 == 0:\n"
            "        trainer.save()\n"
        )
        killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert list((tmp_path / "checkpoints").glob(".*.partial"))  # what it was writing
        resumed = Trainer(make_model(), lessons(), SMALL, tmp_path)
        assert resumed.resume() and resumed.step == 2
        _, expected = trained(SMALL, tmp_path / "straight")
        assert list(resumed.steps()) == expected[2:]
        resumed.save()
        assert not list((tmp_path / "checkpoints").glob(".step-000004.partial")) or resumed.step != 4

    def test_the_last_ones_and_the_best_are_kept(self, tmp_path: Path) -> None:
        trainer = Trainer(make_model(), lessons(), replace(SMALL, steps=5, keep=2), tmp_path)
        for step, held_out in zip(trainer.steps(), [3.0, 1.0, 4.0, None, 5.0], strict=True):
            trainer.held_out = None if held_out is None else HeldOut(held_out, 0.0)
            trainer.save()
            del step
        names = [path.name for path in trainer.checkpoints.all()]
        assert names == ["step-000002", "step-000004", "step-000005"]
        best = trainer.checkpoints.best()
        assert best is not None and best.name == "step-000002"

    def test_nothing_to_go_on_from(self, tmp_path: Path) -> None:
        assert not Trainer(make_model(), lessons(), SMALL, tmp_path).resume()

    def test_other_settings_are_refused_with_the_difference(self, tmp_path: Path) -> None:
        trainer, _ = trained(SMALL, tmp_path)
        trainer.save()
        other = replace(SMALL, rank=8, depth_share=0.5, keep=7)
        with pytest.raises(ResumeRefused, match=r"depth_share: 0.0625 → 0.5; rank: 4 → 8"):
            Trainer(make_model(), lessons(), other, tmp_path).resume()

    def test_another_model_is_refused(self, tmp_path: Path) -> None:
        trainer, _ = trained(replace(SMALL, steps=1), tmp_path)
        trainer.save()
        wider = replace(TINY, decoder=replace(TINY.decoder, ffn=64))
        with pytest.raises(ResumeRefused, match="another shape"):
            Trainer(make_model(wider), lessons(), replace(SMALL, steps=1), tmp_path).resume()

    def test_a_damaged_state_is_told(self, tmp_path: Path) -> None:
        trainer, _ = trained(replace(SMALL, steps=1), tmp_path)
        trainer.save()
        state = next((tmp_path / "checkpoints").glob("*/state.pt"))
        state.write_bytes(state.read_bytes()[:1000])
        with pytest.raises(Exception, match="Expected the state of a training"):
            Trainer(make_model(), lessons(), replace(SMALL, steps=1), tmp_path).resume()


class TestWhatIsLeft:
    def test_an_adapter_of_the_best_with_its_consent(self, tmp_path: Path) -> None:
        trainer, _ = trained(SMALL, tmp_path, consent=Consent("Anna"))
        trainer.save()
        folder = trainer.export()
        adapter = read_adapter(folder, TINY)
        assert "Anna agreed" in str(adapter.described)
        merged = make_model()
        merge(merged, adapter)
        batch = trainer._batch(0)
        torch.testing.assert_close(
            frame_losses(merged, batch).code0, frame_losses(trainer.model.eval(), batch).code0, atol=1e-3, rtol=1e-4
        )

    def test_a_whole_model(self, tmp_path: Path) -> None:
        trainer, _ = trained(replace(SMALL, mode="full", learning_rate=1e-3, steps=2), tmp_path)
        trainer.save()
        loaded = load(trainer.export())
        pairs = zip(loaded.parameters(), trainer.model.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


class TestWhatGoesWrong:
    def patched(self, monkeypatch: pytest.MonkeyPatch, losses: Callable[[Csm, Batch], Any]) -> None:
        monkeypatch.setattr(trainer_module, "frame_losses", losses)

    def test_too_little_memory_cuts_the_batch_and_says_so(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        plain, expected = trained(replace(SMALL, dropout=0.1, steps=2, batch=4), tmp_path / "1")
        del plain

        def small_memory(model: Csm, batch: Batch) -> Any:
            if len(batch.rows) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return frame_losses(model, batch)

        self.patched(monkeypatch, small_memory)
        said: list[str] = []
        trainer, steps = trained(replace(SMALL, steps=2, batch=4), tmp_path / "2", say=said.append)
        assert trainer.parts == 4
        assert [line.partition("computed in ")[2][:7] for line in said] == ["2 parts", "4 parts"]
        monkeypatch.undo()
        _, expected = trained(replace(SMALL, steps=2, batch=4), tmp_path / "3")
        assert [step.loss for step in steps] == pytest.approx([step.loss for step in expected], abs=1e-4)

    def test_a_clip_that_does_not_fit_is_told(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def no_memory(model: Csm, batch: Batch) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

        self.patched(monkeypatch, no_memory)
        with pytest.raises(TrainingStopped, match="One clip of this length does not fit"):
            trained(SMALL, tmp_path)

    def test_a_loss_that_is_no_number_stops_before_the_weights_change(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        trainer = Trainer(make_model(), lessons(), SMALL, tmp_path)
        next(trainer.steps())
        before = weights(trainer)

        def broken(model: Csm, batch: Batch) -> Any:
            losses = frame_losses(model, batch)
            return replace(losses, code0=losses.code0 * torch.nan)

        self.patched(monkeypatch, broken)
        with pytest.raises(TrainingStopped, match=r"loss of step 2 is not a number.*lower learning rate than 0.01"):
            next(trainer.steps())
        assert largest_difference(before, weights(trainer)) == 0

    def test_a_gpu_that_vanishes(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        trainer = Trainer(make_model(), lessons(), SMALL, tmp_path)
        next(trainer.steps())
        trainer.save()

        def vanished(model: Csm, batch: Batch) -> Any:
            raise torch.AcceleratorError("CUDA error: device lost\nmore lines")

        self.patched(monkeypatch, vanished)
        with pytest.raises(TrainingStopped, match=r"failed in step 2 \(CUDA error: device lost\).*step-000001"):
            next(trainer.steps())

    def test_no_room_on_the_disk(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        trainer, _ = trained(replace(SMALL, steps=1), tmp_path)
        trainer.save()

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(torch, "save", full)
        trainer.step = 2
        with pytest.raises(
            TrainingStopped, match=r"disk is full. Free some space.*Continue from .*step-000001 with --resume"
        ):
            trainer.save()
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]

    def test_nothing_to_learn_from(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingStopped, match="no clip"):
            Trainer(make_model(), of([]), SMALL, tmp_path)


TWO_RANKS = """
import os, sys, torch
from pathlib import Path
from dataclasses import replace
from csm.training.ranks import joined
from csm.training.trainer import Trainer
from tests.csm.tiny import make_model
from tests.csm.training.lessons import SMALL, lessons, weights
torch.set_num_threads(1)
settings = replace(SMALL, steps=3, batch=1, accumulation=2, depth_share=1.0)
with joined(torch.device("cpu")) as ranks:
    trainer = Trainer(make_model(), lessons(6, held_out=3), settings, Path(sys.argv[1]), ranks=ranks)
    steps = list(trainer.steps())
    held_out = trainer.evaluate()
    trainer.save()
    torch.save([weights(trainer), [[s.loss, s.gradient] for s in steps], [held_out.code0, held_out.depth]],
               Path(sys.argv[1]) / f"rank{ranks.rank}.pt")
"""


@pytest.mark.slow  # two processes that load torch
def test_two_ranks_are_one_process_with_twice_the_batches(tmp_path: Path) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen([sys.executable, "-c", TWO_RANKS, str(tmp_path)], cwd=ROOT, env=common | {"RANK": str(rank)})
        for rank in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    settings = replace(SMALL, steps=3, batch=1, accumulation=4, depth_share=1.0)
    alone = Trainer(make_model(), lessons(6, held_out=3), settings, tmp_path / "alone")
    expected = [[step.loss, step.gradient] for step in alone.steps()]
    held_out = alone.evaluate()
    assert held_out is not None
    for rank in range(2):
        learnt, losses, judged = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        torch.testing.assert_close(torch.tensor(losses), torch.tensor(expected), atol=1e-4, rtol=0)
        assert judged == pytest.approx([held_out.code0, held_out.depth], abs=1e-4)
        assert largest_difference(learnt, weights(alone)) < 1e-4
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
