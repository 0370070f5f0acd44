"""A `Generator` speaks text as a continuation of a context: whole, in chunks while it is made, or several at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .backends.choose import Model, choose_decoder, choose_engine
from .backends.protocol import Frames
from .checkpoint.adapter_formats import read_adapter
from .checkpoint.adapters import Switch
from .codec.protocol import Codec, StreamingDecoder
from .errors import CheckpointError, ContextTooLong, DeviceMissing, NoSpeech, OutOfMemory
from .model import Csm
from .prompt import Prompter, Segment, speakable
from .utterance import Ending, Noise, Sampling, Utterance, frames_a_chunk, frames_asked

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Cancelled", "Generator", "in_chunks"]

Cancelled = Callable[[], bool]
FULL = "can't allocate memory|\\[(metal::)?malloc"
"""What PyTorch on a CPU, and MLX, say when memory is used up."""


class Generator:
    """Speaks text in the voice of a speaker, as a continuation of a context.

    Calls are independent: the same arguments and seed give the same samples. For a growing conversation, use a
    `csm.Session`, which keeps what it has read. Calls may overlap; each one uses a separate engine.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, codec: Codec, adapters: Switch | None = None) -> None:
        self.model, self.codec, self._adapters = model, codec, adapters
        self.sample_rate = codec.sample_rate
        self.context = model.config.backbone.context
        self.prompter = Prompter(tokenizer, codec, self.context, model.device)
        self._idle: list[tuple[Frames, StreamingDecoder]] = []

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def csm(self) -> Csm:
        """The PyTorch model. Raises DeviceMissing for a model in MLX, which can speak but not be trained here."""
        if not isinstance(self.model, Csm):
            raise DeviceMissing("This runs on PyTorch only: load the model with device='cpu', 'cuda' or 'mps'.")
        return self.model

    def use_adapter(self, adapter: str | Path | None) -> None:
        """Speak with another trained voice from now on, or with none, without reloading the model.

        Nobody may speak during the change. Open new sessions afterwards, because existing ones remember the old voice.
        Raises CheckpointError.
        """
        self.prepared_adapter(adapter)()

    def prepared_adapter(self, adapter: str | Path | None) -> Callable[[], None]:
        """Do the slow part of `use_adapter` while others may speak; call the result to do the rest.

        Raises CheckpointError.
        """
        if self._adapters is None:
            raise CheckpointError("This model was not loaded from a checkpoint: reload it with the other adapter.")
        return self._adapters.prepared(None if adapter is None else read_adapter(adapter, self.model.config))

    def engine(self, batch: int = 1, length: int | None = None) -> Frames:
        """A new engine for this model, for `batch` sequences of up to `length` rows."""
        return choose_engine(self.model, batch, length)

    def decoder(self) -> StreamingDecoder:
        """A new decoder that turns a stream of codes into sound."""
        return choose_decoder(self.codec, self.model)

    def generate(
        self,
        text: str,
        speaker: int,
        context: Sequence[Segment] | None = (),
        max_audio_length_ms: float = 90_000,
        temperature: float = 0.9,
        topk: int = 50,
        stream: bool = False,
        seed: int | None = None,
        *,
        cancelled: Cancelled = lambda: False,
    ) -> Tensor:
        """Return speech for `text`: float32 [samples] at `sample_rate`, on the host.

        `context` is what was said before; None means nothing. `stream` is accepted for compatibility: sound is always
        decoded while it is made, with the same result. `cancelled` is called before each frame; if it returns true, the
        speech so far is returned.

        Raises InvalidText, InvalidSpeaker, InvalidAudio, ContextTooLong, NoSpeech, OutOfMemory, and ValueError for an
        invalid length, temperature or topk. The generator can be used again afterwards.
        """
        chunks = self.generate_stream(
            text, speaker, context, max_audio_length_ms, temperature, topk, seed, cancelled=cancelled
        )
        return torch.cat([torch.zeros(0), *chunks])

    def generate_stream(
        self,
        text: str,
        speaker: int,
        context: Sequence[Segment] | None = (),
        max_audio_length_ms: float = 90_000,
        temperature: float = 0.9,
        topk: int = 50,
        seed: int | None = None,
        chunk_frames: int = 1,
        *,
        cancelled: Cancelled = lambda: False,
    ) -> Iterator[Tensor]:
        """Yield the same speech while it is made: a first chunk of one frame (80 ms), then chunks of `chunk_frames`.

        To cancel, stop iterating or close the iterator. Arguments and errors are those of `generate`; arguments are
        checked at once, before the first chunk is requested.
        """
        sampling, chunk = Sampling(temperature, topk, seed), frames_a_chunk(chunk_frames)
        with self.memory():
            prompt, most = self.prompt(text, speaker, context, max_audio_length_ms)
        return in_chunks(self._speak(prompt, most, sampling, cancelled), chunk)

    def generate_batch(
        self,
        texts: Sequence[str],
        speakers: Sequence[int],
        contexts: Sequence[Sequence[Segment] | None] | None = None,
        max_audio_length_ms: float = 90_000,
        temperature: float = 0.9,
        topk: int = 50,
        seed: int | None = None,
        *,
        cancelled: Cancelled = lambda: False,
    ) -> list[Tensor]:
        """Speak several texts at once, of any lengths: float32 [samples] for each.

        Text i is drawn with seed + i. Arguments and errors are those of `generate`.
        """
        sampling = Sampling(temperature, topk, seed)
        contexts = [()] * len(texts) if contexts is None else contexts
        with self.memory():
            requests = [
                self.prompt(text, speaker, context, max_audio_length_ms)
                for text, speaker, context in zip(texts, speakers, contexts, strict=True)
            ]
            if not requests:
                return []
            spoken = self._speak_together(requests, sampling, cancelled)
            decoder = self.codec.decoder()
            return [_decode(decoder, frames) for frames in spoken]

    def prompt(
        self, text: str, speaker: int, context: Sequence[Segment] | None, max_audio_length_ms: float
    ) -> tuple[Tensor, int]:
        """The rows of a request, and how many frames it may take: as requested, but no more than the text can need.

        Raises ContextTooLong if rows and frames do not fit into the model's positions.
        """
        # Text first, so that its errors are found before any recording is encoded.
        target = self.prompter.text(text, speaker)
        most = frames_asked(speakable(text), max_audio_length_ms)
        rows = torch.cat([*(self.prompter.segment(segment) for segment in context or ()), target])
        if len(rows) >= (limit := self.context - most):
            raise ContextTooLong(
                f"Inputs too long, must be below max_seq_len - max_generation_len: {limit}. "
                f"Context and text take {len(rows)} rows, and {most} are kept for speech. Give less context, a "
                "shorter text, or a smaller max_audio_length_ms."
            )
        return rows, most

    def _speak(self, prompt: Tensor, most: int, sampling: Sampling, cancelled: Cancelled) -> Iterator[Tensor]:
        with self.memory():
            engine, decoder = self._idle.pop() if self._idle else (self.engine(), self.decoder())
            engine.forget()
            try:
                yield from Utterance(engine, decoder, prompt, most, sampling, cancelled)
            finally:
                self._idle.append((engine, decoder))

    def _speak_together(
        self, requests: Sequence[tuple[Tensor, int]], sampling: Sampling, cancelled: Cancelled
    ) -> list[list[Tensor]]:
        """The frames of each request. A request that stays empty is tried once more, alone and cooler."""
        engine = self.engine(len(requests), max(len(prompt) + most for prompt, most in requests))
        engine.prefill([prompt for prompt, _ in requests])
        endings = [Ending(most) for _, most in requests]
        draws = Noise(engine, sampling)
        while not all(ending.over for ending in endings) and not cancelled():
            codes = engine.next_frame(sampling.temperature, sampling.topk, draws.next()).cpu()
            for ending, frame in zip(endings, codes, strict=True):
                ending(frame)
        for index, (ending, (prompt, most)) in enumerate(zip(endings, requests, strict=True)):
            if ending.over and not ending.frames:
                alone = Utterance(self.engine(), self.codec.decoder(), prompt, most, sampling.cooler(), cancelled)
                try:
                    for _ in alone:
                        pass
                except NoSpeech as error:
                    raise NoSpeech(f"Text {index + 1} of {len(requests)}: {error}") from error
                ending.frames = alone.frames
        return [ending.frames for ending in endings]

    @contextmanager
    def memory(self) -> Iterator[None]:
        """Turn an out-of-memory error of any device into one clear error, and release what can be released."""
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and not re.search(FULL, str(error)):
                raise
            self._idle.clear()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            raise OutOfMemory(
                f"The memory of {self.device} is used up. Use less context, or load the model with quantize='int8'."
            ) from error


def in_chunks(frames: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Yield the first frame alone, because someone is waiting for it; then `size` frames at a time."""
    frames = iter(frames)
    for chunk in chain([list(islice(frames, 1))], iter(lambda: list(islice(frames, size)), [])):
        if chunk:
            yield torch.cat(chunk)


@torch.inference_mode()
def _decode(decoder: StreamingDecoder, frames: Sequence[Tensor]) -> Tensor:
    decoder.reset()
    return torch.cat([torch.zeros(0), *(decoder.step(frame[None, :, None])[0].cpu().clone() for frame in frames)])
