"""Mimi's streams: codes to sound and sound to codes, each with its state and its buffers."""

from typing import Protocol

import torch
from torch import Tensor

from csm.codec.convolution import ConvolutionStream, RepeatedStartStream, UpsamplingStream
from csm.codec.seanet import (
    DecoderStage,
    EncoderStage,
    MimiWeights,
    ResidualBlock,
    SeanetDecoder,
    SeanetEncoder,
)
from csm.codec.transformer import TransformerStream


class Stream(Protocol):
    """One link of a chain: processes a step of input, keeps its state, and resets a slot on request."""

    def step(self, x: Tensor) -> Tensor: ...

    def reset(self, slot: int | slice) -> None: ...


class Chain:
    """Streams applied one after the other."""

    def __init__(self, *links: Stream) -> None:
        self.links = links

    def step(self, x: Tensor) -> Tensor:
        for link in self.links:
            x = link.step(x)
        return x

    def reset(self, slot: int | slice) -> None:
        for link in self.links:
            link.reset(slot)


class Reshaped:
    """A convolution with input and output reshaped: s steps to one step with s times the channels, or the reverse."""

    def __init__(self, stream: ConvolutionStream, steps_in: int, steps_out: int) -> None:
        self.stream, self.steps_in, self.steps_out = stream, steps_in, steps_out

    def step(self, x: Tensor) -> Tensor:
        output = self.stream.step(x.view(len(x), self.steps_in, -1))
        return output.view(len(x), self.steps_out, -1)

    def reset(self, slot: int | slice) -> None:
        self.stream.reset(slot)


class ResidualStream(Chain):
    """The stream of a residual block."""

    def __init__(self, block: ResidualBlock, batch: int, steps: int) -> None:
        narrow = ConvolutionStream(block.narrow, batch, steps, elu=True)
        super().__init__(narrow, ConvolutionStream(block.wide, batch, steps, elu=True))

    def step(self, x: Tensor) -> Tensor:
        return super().step(x).add_(x)


def _encoder_chain(seanet: SeanetEncoder, batch: int, steps: int) -> Chain:
    links: list[Stream] = [ConvolutionStream(seanet.first, batch, steps, elu=False)]
    stage: EncoderStage
    for stage in seanet.stages:  # type: ignore[assignment]
        links.append(ResidualStream(stage.residual, batch, steps))
        steps //= stage.ratio
        links.append(Reshaped(ConvolutionStream(stage.down, batch, steps, elu=True), steps, steps))
    return Chain(*links, ConvolutionStream(seanet.last, batch, steps, elu=True))


def _decoder_chain(seanet: SeanetDecoder, batch: int, steps: int) -> Chain:
    links: list[Stream] = [ConvolutionStream(seanet.first, batch, steps, elu=False)]
    stage: DecoderStage
    for stage in seanet.stages:  # type: ignore[assignment]
        up = ConvolutionStream(stage.up, batch, steps, elu=True)
        links.append(Reshaped(up, steps, steps * stage.ratio))
        steps *= stage.ratio
        links.append(ResidualStream(stage.residual, batch, steps))
    return Chain(*links, ConvolutionStream(seanet.last, batch, steps, elu=True))


class DequantiserStream:
    """Codes [batch, codebooks, frames] to [batch, frames, dim]. It has no state, only buffers."""

    def __init__(self, mimi: MimiWeights, batch: int, frames: int) -> None:
        quantiser, example = mimi.quantiser, mimi.quantiser.codebooks
        count, size, dim = example.shape
        self.semantic, self.projection = quantiser.semantic, quantiser.output_proj
        self.entries = quantiser.codebooks.view(count * size, dim)
        self.first_entry = torch.arange(0, count * size, size, device=example.device)[:, None]
        self.index = torch.zeros(batch, count, frames, dtype=torch.int64, device=example.device)
        self.chosen = example.new_zeros(batch * count * frames, dim)
        self.chosen_by_codebook = self.chosen.view(batch, count, frames, dim)
        self.sums = example.new_zeros(batch * frames, 2 * dim)
        self.semantic_sum, self.acoustic_sum = self.sums.view(batch, frames, 2, dim).unbind(2)
        self.latents = example.new_zeros(batch, frames, mimi.config.dim)

    def step(self, codes: Tensor) -> Tensor:
        torch.add(codes, self.first_entry, out=self.index)
        torch.index_select(self.entries, 0, self.index.view(-1), out=self.chosen)
        torch.sum(self.chosen_by_codebook[:, : self.semantic], 1, out=self.semantic_sum)
        torch.sum(self.chosen_by_codebook[:, self.semantic :], 1, out=self.acoustic_sum)
        torch.mm(self.sums, self.projection.t(), out=self.latents.flatten(0, 1))
        return self.latents

    def reset(self, slot: int | slice) -> None:
        pass


class MimiDecoder:
    """Codes to sound, `frames` frames per step, for `batch` slots. Implements `csm.codec.StreamingDecoder`.

    All memory is allocated at construction: 18 MB per slot for the published sizes in float32. With `out` a step
    allocates nothing and reads nothing back from the device, so it can be captured in a CUDA graph.
    """

    def __init__(self, mimi: MimiWeights, batch: int, frames: int, transformer: Stream | None = None) -> None:
        """transformer: a stream that replaces PyTorch for the transformer's part."""
        config, steps = mimi.config, frames * mimi.config.resampling
        self.frames, self.frame_size = frames, config.frame_size
        self.chain = Chain(
            DequantiserStream(mimi, batch, frames),
            UpsamplingStream(mimi.upsample, batch, frames),
            transformer or TransformerStream(mimi.decoder_transformer, batch, steps),
            _decoder_chain(mimi.seanet_decoder, batch, steps),
        )

    def step(self, codes: Tensor, out: Tensor | None = None) -> Tensor:
        """int64 [batch, codebooks, n], n a multiple of `frames`, to float32 [batch, n * frame_size].

        Args:
            out: where the samples are written; a new tensor if not given.

        Raises:
            ValueError: n is not a multiple of `frames`.
        """
        batch, _, count = codes.shape
        if count % self.frames:
            raise ValueError(f"This decoder works in steps of {self.frames} frames, but was given {count}.")
        if out is None:
            out = torch.empty(batch, count * self.frame_size, device=codes.device)
        with torch.inference_mode():
            for start in range(0, count, self.frames):
                end = start + self.frames
                samples = self.chain.step(codes[:, :, start:end])
                out[:, start * self.frame_size : end * self.frame_size].copy_(samples.flatten(1))
        return out

    def reset(self, slot: int | None = None) -> None:
        """Start afresh: one slot, leaving the others as they are, or all of them."""
        with torch.inference_mode():
            self.chain.reset(slice(None) if slot is None else slot)


class MimiEncoder:
    """Sound to codes, `frames` frames per step, for `batch` slots. Implements `csm.codec.StreamingEncoder`."""

    def __init__(self, mimi: MimiWeights, batch: int, frames: int) -> None:
        config, steps = mimi.config, frames * mimi.config.resampling
        example = mimi.downsample.weight
        self.quantiser, self.samples_a_step = mimi.quantiser, frames * config.frame_size
        downsample = RepeatedStartStream(mimi.downsample, batch, frames, config.resampling)
        self.chain = Chain(
            _encoder_chain(mimi.seanet_encoder, batch, self.samples_a_step),
            TransformerStream(mimi.encoder_transformer, batch, steps),
            Reshaped(downsample, frames, frames),
        )
        self.waiting = example.new_zeros(batch, 0)
        self.no_codes = torch.zeros(batch, config.codebooks, 0, dtype=torch.int64, device=example.device)

    def step(self, audio: Tensor) -> Tensor:
        """float [batch, n], any n, to the codes of the steps it completes, int64 [batch, codebooks, frames]."""
        with torch.inference_mode():
            audio = torch.cat((self.waiting, audio.to(self.waiting)), dim=1)
            codes = [self.no_codes]
            for start in range(0, audio.shape[1] - self.samples_a_step + 1, self.samples_a_step):
                samples = audio[:, start : start + self.samples_a_step, None]
                codes.append(self.quantiser.encode(self.chain.step(samples)))
            self.waiting = audio[:, audio.shape[1] - audio.shape[1] % self.samples_a_step :]
        return torch.cat(codes, dim=2)

    def flush(self) -> Tensor:
        """Return the codes of the samples still waiting, if any, padded with silence to a whole step."""
        batch, waiting = self.waiting.shape
        return self.step(self.waiting.new_zeros(batch, self.samples_a_step - waiting)) if waiting else self.no_codes

    def reset(self, slot: int | None = None) -> None:
        """Start afresh: one slot, leaving the others as they are, or all of them. Samples of an incomplete step become
        silence if one slot is reset, and are dropped if all are."""
        with torch.inference_mode():
            self.chain.reset(slice(None) if slot is None else slot)
            if slot is None:
                self.waiting = self.waiting[:, :0]
            else:
                self.waiting = self.waiting.clone()
                self.waiting[slot] = 0
