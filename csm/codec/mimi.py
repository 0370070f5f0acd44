"""Mimi, the codec through which CSM speaks: 24 kHz sound to 12.5 frames a second of 32 codes, and back, in real time.

Encoder: SEANet (convolutions, 24 kHz to 25 Hz), a transformer, a final halving to 12.5 Hz, and residual vector
quantisation with one semantic codebook and 31 acoustic ones. Decoder: the same in reverse. Architecture: Défossez et
al. 2024, "Moshi", section 3.3. Everything is causal, so the codec only works in steps of whole frames with state;
`encode` and `decode` process a whole recording in longer steps.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from csm.codec.protocol import StreamingDecoder, StreamingEncoder
from csm.codec.seanet import MimiConfig, MimiWeights
from csm.codec.stream import MimiDecoder, MimiEncoder

FRAMES_A_STEP = 8  # for whole recordings: weights are read once for eight frames, and buffers stay small


class WholeRecordings(ABC):
    """A base for codecs with streams: encodes and decodes whole recordings in longer steps."""

    config: MimiConfig
    sample_rate: int
    frame_size: int
    codebooks: int

    @abstractmethod
    def decoder(self, batch: int = 1, frames: int = 1) -> StreamingDecoder:
        """Return a new stream of codes to sound that works in steps of `frames` frames."""

    @abstractmethod
    def encoder(self, batch: int = 1, frames: int = 1) -> StreamingEncoder:
        """Return a new stream of sound to codes that works in steps of `frames` frames."""

    def encode(self, audio: Tensor) -> Tensor:
        """float [batch, samples] at 24 kHz to int64 [batch, codebooks, frames]; silence fills a partial last frame.

        Raises:
            ValueError: `audio` has no samples or another shape.
        """
        if audio.dim() != 2 or audio.shape[1] == 0:
            raise ValueError(f"The codec encodes sound of shape [batch, samples], but was given {list(audio.shape)}.")
        frames = -(-audio.shape[1] // self.frame_size)
        step = min(frames, FRAMES_A_STEP)
        encoder = self.encoder(audio.shape[0], step)
        # Everything is causal: the silence that fills the last step changes nothing before it.
        return torch.cat((encoder.step(audio), encoder.flush()), dim=2)[:, :, :frames]

    def decode(self, codes: Tensor) -> Tensor:
        """int64 [batch, codebooks, frames] to float32 [batch, frames * frame_size].

        Raises:
            ValueError: `codes` has no frames, another shape, or ids outside the codebooks.
        """
        size = self.config.codebook_size
        if codes.dim() != 3 or codes.shape[1] != self.codebooks or codes.shape[2] == 0:
            raise ValueError(
                f"The codec decodes codes of shape [batch, {self.codebooks}, frames]; it was given {list(codes.shape)}."
            )
        if codes.min() < 0 or codes.max() >= size:
            raise ValueError(f"The codec's ids are 0 to {size - 1}; found {int(codes.min())} to {int(codes.max())}.")
        batch, _, frames = codes.shape
        step = min(frames, FRAMES_A_STEP)
        filled = nn.functional.pad(codes, (0, -frames % step))
        return self.decoder(batch, step).step(filled)[:, : frames * self.frame_size]


class Mimi(MimiWeights, WholeRecordings):
    """The codec: streams, and whole recordings at once. Implements `csm.codec.Codec`.

    `decoder` and `encoder` make streams; any number of them share the same weights. Make them after the model has been
    moved to its device and dtype.
    """

    def __init__(self, config: MimiConfig) -> None:
        super().__init__(config)
        self.sample_rate, self.frame_size, self.codebooks = config.sample_rate, config.frame_size, config.codebooks

    def decoder(self, batch: int = 1, frames: int = 1) -> MimiDecoder:
        """Return a new stream of codes to sound that works in steps of `frames` frames."""
        return MimiDecoder(self, batch, frames)

    def encoder(self, batch: int = 1, frames: int = 1) -> MimiEncoder:
        """Return a new stream of sound to codes that works in steps of `frames` frames."""
        return MimiEncoder(self, batch, frames)
