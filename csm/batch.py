"""Several conversations at once on one model. Each has a slot in a batch that is computed together, frame by frame.

Slots join and leave between frames; none waits for another to finish. A slot keeps its keys and values from one
utterance to the next, and even after its conversation left, so that only new rows are read. Rows that another slot
already holds, such as a shared voice, are copied from there. Each slot has its own noise, so it says what it would say
alone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .backends.choose import Model, choose_slot_engine
from .codec.protocol import Codec
from .errors import ContextTooLong, CsmError
from .rows import common, frame_rows
from .sampling import draw_noise
from .utterance import Ending, Sampling

__all__ = ["Slots", "SlotsFull", "Sound"]


class SlotsFull(CsmError):
    """All slots are taken. Wait until one is free, or make more."""


@dataclass(frozen=True)
class Sound:
    """What a slot said in one step: codes [codebooks] and float32 samples [1920], on the host. `last` is true if the
    utterance ends with it. An utterance that ended without a sound gives empty samples."""

    slot: int
    codes: Tensor
    samples: Tensor
    last: bool


@dataclass
class _Slot:
    """A place in the batch. `rows` are the rows whose keys and values it holds; `ending` is set while it speaks."""

    rows: Tensor
    taken: bool = False
    generator: torch.Generator | None = None
    ending: Ending | None = None
    spoken: list[Tensor] = field(default_factory=list)


class Slots:
    """`count` slots for conversations of up to `length` rows (default: the model's full context).

    Only one thread may use it. Between two steps, call join, say and leave in any order.
    """

    def __init__(self, model: Model, codec: Codec, count: int, length: int | None = None) -> None:
        self.model = model
        self._engine = choose_slot_engine(model, codec, count, length)
        self._length = self._engine.length
        self._nothing = torch.zeros(0, model.config.audio_codebooks + 1, dtype=torch.int64)
        self._slots = [_Slot(self._nothing) for _ in range(count)]

    @property
    def free(self) -> int:
        """How many more conversations can join."""
        return sum(not place.taken for place in self._slots)

    @property
    def selective(self) -> bool:
        """Whether a slot that is speaking can be left out of a step. On a GPU, all slots are computed together."""
        return self._engine.selective

    def join(self) -> int:
        """Take a slot for a conversation. Raises SlotsFull."""
        free = [slot for slot, place in enumerate(self._slots) if not place.taken]
        if not free:
            raise SlotsFull(f"All {len(self._slots)} slots are taken. Wait until a conversation leaves.")
        self._slots[free[0]].taken = True
        return free[0]

    def leave(self, slot: int) -> None:
        """End the conversation, or an utterance that nobody wants any more, and free the slot."""
        self.fall_silent(slot)
        self._slots[slot].taken = False

    def known(self, prompt: Tensor) -> int:
        """How many leading rows of the prompt some slot already holds: those need not be computed."""
        return max(common(place.rows, prompt) for place in self._slots)

    def prefill(self, slot: int, prompt: Tensor) -> None:
        """Read rows [n, codebooks + 1] (csm.rows) ahead of time, such as a voice or what somebody said.

        Leading rows that this slot or another one already holds are not computed again. An utterance under way ends.
        Raises ContextTooLong.
        """
        place = self._of(slot)
        if len(prompt) >= self._length:
            raise ContextTooLong(
                f"The prompt takes {len(prompt)} rows, but it must leave room in a slot of {self._length}."
            )
        self.fall_silent(slot)
        # If prefill fails half-way, the contents of the slot are unknown.
        held, place.rows = place.rows, self._nothing
        known = common(held, prompt)
        source = max(range(len(self._slots)), key=lambda other: common(self._slots[other].rows, prompt))
        if (alike := common(self._slots[source].rows, prompt)) > known:
            self._engine.copy(source, slot, known, alike)
            held = prompt[:alike]
        self._engine.prefill(slot, held, prompt)
        place.rows = prompt

    def say(self, slot: int, prompt: Tensor, most: int, sampling: Sampling | None = None) -> None:
        """Begin an utterance of at most `most` frames that follows the prompt. The next steps return its sound.

        Raises ContextTooLong if prompt and frames do not fit.
        """
        sampling = sampling or Sampling()
        if len(prompt) + most > self._length:
            raise ContextTooLong(
                f"Prompt and speech take {len(prompt)} + {most} rows, but a slot holds {self._length}."
            )
        self.prefill(slot, prompt)
        place, noise = self._of(slot), self._engine.noise
        place.ending, place.spoken = Ending(most), []
        place.generator = sampling.generator(noise.device) if sampling.temperature > 0 else None
        noise[slot] = 1
        self._engine.begin(slot, sampling.temperature, sampling.topk)

    def step(self, wanted: Collection[int] | None = None) -> list[Sound]:
        """Return the next frame of every speaking slot, or only of the `wanted` ones if `selective`. If nobody speaks,
        compute nothing and return an empty list."""
        speaking = [slot for slot, place in enumerate(self._slots) if place.ending is not None]
        if wanted is not None and self.selective:
            speaking = [slot for slot in speaking if slot in wanted]
        if not speaking:
            return []
        places = [self._slots[slot] for slot in speaking]
        for slot, place in zip(speaking, places, strict=True):
            if place.generator is not None:
                noise = self._engine.noise[slot]
                draw_noise(tuple(noise.shape), place.generator, out=noise)
        longest = max(len(place.rows) + len(place.spoken) for place in places) + 1
        codes, sound = self._engine.step(speaking, longest)
        return [self._judge(*spoken) for spoken in zip(speaking, codes, sound, strict=True)]

    def fall_silent(self, slot: int) -> None:
        """End the utterance under way, if there is one."""
        place = self._of(slot)
        if len(place.spoken) > 1:  # all frames but the newest were read, so their rows are held
            place.rows = torch.cat((place.rows, frame_rows(torch.stack(place.spoken[:-1]))))
        place.ending, place.spoken = None, []

    def forget(self, slot: int) -> None:
        """Call this after a step failed, because the contents of the slot are then unknown."""
        self.fall_silent(slot)
        self._slots[slot].rows = self._nothing

    def _judge(self, slot: int, codes: Tensor, samples: Tensor) -> Sound:
        place = self._slots[slot]
        assert place.ending is not None
        belongs = place.ending(codes)
        place.spoken.append(codes)
        over = place.ending.over
        if over:
            self.fall_silent(slot)
        return Sound(slot, codes, samples if belongs else samples[:0], over)

    def _of(self, slot: int) -> _Slot:
        place = self._slots[slot]
        if not place.taken:
            raise ValueError(f"Nobody has joined slot {slot}.")
        return place
