"""Several conversations at once on one model: each has a slot in a batch that is computed together, frame by frame.

Slots join and leave between frames, and none waits for another to finish. A slot's keys and values stay from one
utterance to the next, so that a conversation hears only what is new; its noise is its own, so that it says what it
would say alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .backends.cuda_graph import GraphDecoder, StaticFrame
from .backends.eager import prefill_new
from .codec.protocol import Codec
from .errors import ContextTooLong, CsmError
from .model import Csm
from .rows import frame_rows
from .sampling import draw_noise
from .utterance import Ending, Sampling

__all__ = ["Slots", "SlotsFull", "Sound"]


class SlotsFull(CsmError):
    """All slots are taken. Wait until one leaves, or make more."""


@dataclass(frozen=True)
class Sound:
    """What a slot has said in one step: float32 [1920] on the host. `last` if the utterance ends with it; an utterance
    that has ended without a sound gives an empty one."""

    slot: int
    samples: Tensor
    last: bool


@dataclass
class _Slot:
    """A conversation. `rows` are those its keys and values hold; `ending` is there while it speaks."""

    rows: Tensor
    generator: torch.Generator | None = None
    ending: Ending | None = None
    spoken: list[Tensor] = field(default_factory=list)


class Slots:
    """`count` places for conversations of up to `length` rows (default: all the model knows).

    One thread uses it: between two steps, join, say and leave as you like.
    """

    def __init__(self, model: Csm, codec: Codec, count: int, length: int | None = None, topk: int = 50) -> None:
        config = model.config
        self.model, self.topk = model, topk
        hidden = torch.zeros(count, config.backbone.dim, device=model.device, dtype=model.dtype)
        positions = torch.zeros(count, dtype=torch.int64, device=model.device)
        self._frame = StaticFrame(model, model.cache(count, length), model.depth_cache(count), hidden, positions)
        self._decoder = GraphDecoder(codec.decoder(count), count, config.audio_codebooks, model.device)
        self._slots: list[_Slot | None] = [None] * count
        if model.device.type == "cuda":
            self._frame.prepare(topk)

    @property
    def free(self) -> int:
        """How many more conversations may join."""
        return self._slots.count(None)

    def join(self) -> int:
        """A slot for a conversation. Raises SlotsFull."""
        if None not in self._slots:
            raise SlotsFull(f"All {len(self._slots)} slots are taken. Wait until a conversation leaves.")
        slot = self._slots.index(None)
        self._slots[slot] = _Slot(torch.zeros(0, self.model.config.audio_codebooks + 1, dtype=torch.int64))
        return slot

    def leave(self, slot: int) -> None:
        """The conversation is over, or the utterance no longer wanted by anyone."""
        self._of(slot)
        self._fall_silent(slot)
        self._slots[slot] = None

    def prefill(self, slot: int, prompt: Tensor) -> None:
        """Takes in rows [n, codebooks + 1] (csm.prompt) ahead of time, such as a voice or what somebody has said.

        As far as they begin with rows already held, these are not heard again. An utterance under way ends.
        Raises ContextTooLong.
        """
        held = self._of(slot)
        if len(prompt) > self._frame.cache.length:
            raise ContextTooLong(f"The prompt takes {len(prompt)} rows, and a slot holds {self._frame.cache.length}.")
        self._fall_silent(slot)
        frame = self._frame
        with torch.inference_mode():
            frame.hidden[slot] = prefill_new(self.model, frame.cache.rows(slot, slot + 1), held.rows, prompt)
            frame.positions[slot] = len(prompt)
        held.rows = prompt

    def say(self, slot: int, prompt: Tensor, most: int, sampling: Sampling | None = None) -> None:
        """Begins an utterance of at most `most` frames that follows the prompt; the steps to come bring its sound.

        Raises ContextTooLong if prompt and frames do not fit, and ValueError for another topk than the slots have.
        """
        sampling = sampling or Sampling(topk=self.topk)
        if sampling.topk != self.topk and sampling.temperature > 0:
            raise ValueError(f"These slots are made for a topk of {self.topk}, not {sampling.topk}.")
        if len(prompt) + most > self._frame.cache.length:
            raise ContextTooLong(
                f"Prompt and speech take {len(prompt)} + {most} rows, and a slot holds {self._frame.cache.length}."
            )
        self.prefill(slot, prompt)
        held, frame = self._of(slot), self._frame
        held.ending, held.spoken = Ending(most), []
        held.generator = sampling.generator(frame.hidden.device) if sampling.temperature > 0 else None
        frame.temperature[slot] = sampling.temperature
        frame.noise[slot] = 1
        self._decoder.reset(slot)

    @torch.inference_mode()
    def step(self) -> list[Sound]:
        """The next frame of all that speak; none, and no work, if nobody does."""
        speaking = {slot: held for slot, held in enumerate(self._slots) if held is not None and held.ending is not None}
        if not speaking:
            return []
        frame = self._frame
        for slot, held in speaking.items():
            if held.generator is not None:
                draw_noise(tuple(frame.noise[slot].shape), held.generator, out=frame.noise[slot])
        frame.run(max(len(held.rows) + len(held.spoken) for held in speaking.values()) + 1, self.topk)
        samples = self._decoder.step(frame.codes[:, :, None])
        listening = torch.zeros(len(self._slots), dtype=torch.int64)
        listening[list(speaking)] = 1
        frame.listening.copy_(listening)
        # The one wait for the device in a step: for all slots together.
        codes, heard = frame.codes.to("cpu", copy=True), samples.cpu()
        return [self._judge(slot, held, codes[slot], heard[slot]) for slot, held in speaking.items()]

    def _judge(self, slot: int, held: _Slot, codes: Tensor, samples: Tensor) -> Sound:
        assert held.ending is not None
        belongs = held.ending(codes)
        held.spoken.append(codes)
        over = held.ending.over
        if over:
            self._fall_silent(slot)
        return Sound(slot, samples if belongs else samples[:0], over)

    def _fall_silent(self, slot: int) -> None:
        """Ends the utterance. All its frames but the newest were listened to, and are among the rows held."""
        held = self._of(slot)
        if len(held.spoken) > 1:
            held.rows = torch.cat((held.rows, frame_rows(torch.stack(held.spoken[:-1]))))
        held.ending, held.spoken = None, []
        self._frame.listening[slot] = 0

    def _of(self, slot: int) -> _Slot:
        held = self._slots[slot]
        if held is None:
            raise ValueError(f"Nobody has joined slot {slot}.")
        return held
