"""Mimi, the codec CSM speaks through: 24 kHz sound to 12.5 frames a second of 32 codes, and back, while it happens.

Encoder: SEANet (convolutions, 24 kHz to 25 Hz), a transformer, a last halving to 12.5 Hz, residual vector quantisation
with one semantic codebook and 31 acoustic ones. Decoder: the same, backwards. Architecture: Défossez et al. 2024,
"Moshi", section 3.3. Everything is causal, so there is one way of working only, in steps of whole frames with state;
`encode` and `decode` take a whole recording through it in longer steps.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from csm.codec.protocol import StreamingDecoder, StreamingEncoder
from csm.codec.seanet import MimiConfig, MimiWeights
from csm.codec.stream import MimiDecoder, MimiEncoder

FRAMES_A_STEP = 8  # of a whole recording: the weights are read once for eight frames, the buffers stay small


class WholeRecordings(ABC):
    """Recordings at once, by streams that work in longer steps; for a codec that makes such streams."""

    config: MimiConfig
    sample_rate: int
    frame_size: int
    codebooks: int

    @abstractmethod
    def decoder(self, batch: int = 1, frames: int = 1) -> StreamingDecoder:
        """A new stream of codes to sound that works in steps of `frames` frames."""

    @abstractmethod
    def encoder(self, batch: int = 1, frames: int = 1) -> StreamingEncoder:
        """A new stream of sound to codes that works in steps of `frames` frames."""

    def encode(self, audio: Tensor) -> Tensor:
        """float [batch, samples] at 24 kHz to int64 [batch, codebooks, frames]; silence fills up a partial last frame.

        Raises:
            ValueError: `audio` has no samples or another shape.
        """
        if audio.dim() != 2 or audio.shape[1] == 0:
            raise ValueError(f"The codec encodes sound of shape [batch, samples], but was given {list(audio.shape)}.")
        frames = -(-audio.shape[1] // self.frame_size)
        step = min(frames, FRAMES_A_STEP)
        encoder = self.encoder(audio.shape[0], step)
        # Causal: the silence that fills up the last step changes nothing before it.
        return torch.cat((encoder.step(audio), encoder.flush()), dim=2)[:, :, :frames]

    def decode(self, codes: Tensor) -> Tensor:
        """int64 [batch, codebooks, frames] to float32 [batch, frames * frame_size].

        Raises:
            ValueError: `codes` has no frames, another shape, or ids that the codebooks have not.
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
    """The codec: streams, and the whole of a recording at once. Implements `csm.codec.Codec`.

    Streams are made by `decoder` and `encoder`; any number of them work on the same weights. Make them after the model
    has been moved to its device and dtype.
    """

    def __init__(self, config: MimiConfig) -> None:
        super().__init__(config)
        self.sample_rate, self.frame_size, self.codebooks = config.sample_rate, config.frame_size, config.codebooks

    def decoder(self, batch: int = 1, frames: int = 1) -> MimiDecoder:
        """A new stream of codes to sound that works in steps of `frames` frames."""
        return MimiDecoder(self, batch, frames)

    def encoder(self, batch: int = 1, frames: int = 1) -> MimiEncoder:
        """A new stream of sound to codes that works in steps of `frames` frames."""
        return MimiEncoder(self, batch, frames)
