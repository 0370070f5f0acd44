"""Mimi, the codec CSM speaks through: 24 kHz sound to 12.5 frames a second of 32 codes, and back, while it happens.

Encoder: SEANet (convolutions, 24 kHz to 25 Hz), a transformer, a last halving to 12.5 Hz, residual vector quantisation
with one semantic codebook and 31 acoustic ones. Decoder: the same, backwards. Architecture: Défossez et al. 2024,
"Moshi", section 3.3. Everything is causal, so there is one way of working only, in steps of whole frames with state;
`encode` and `decode` take a whole recording through it in longer steps.
"""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from csm.codec.convolution import CausalConvolution, ChannelwiseUpsampling
from csm.codec.stream import MimiDecoder, MimiEncoder
from csm.codec.transformer import Transformer

FRAMES_A_STEP = 8  # of a whole recording: the weights are read once for eight frames, the buffers stay small


@dataclass(frozen=True)
class MimiConfig:
    """Sizes. The defaults are kyutai's published Mimi with the 32 codebooks that CSM uses."""

    sample_rate: int = 24_000
    codebooks: int = 32
    semantic_codebooks: int = 1
    codebook_size: int = 2048
    codebook_dim: int = 256
    dim: int = 512
    layers: int = 8
    heads: int = 8
    ffn: int = 2048
    window: int = 250  # steps of attention at 25 Hz
    theta: float = 10_000.0
    norm_eps: float = 1e-5
    filters: int = 64
    ratios: tuple[int, ...] = (8, 6, 5, 4)  # of the decoder; the encoder takes them from behind
    kernel: int = 7
    last_kernel: int = 3
    residual_kernel: int = 3
    compress: int = 2
    resampling: int = 2  # between the transformers' 25 Hz and the codes' 12.5 Hz

    @property
    def frame_size(self) -> int:
        """Samples a frame."""
        return prod(self.ratios) * self.resampling


class ResidualBlock(nn.Module):
    """x + wide(narrow(x)), each after ELU."""

    def __init__(self, channels: int, config: MimiConfig) -> None:
        super().__init__()
        hidden = channels // config.compress
        self.narrow = CausalConvolution(channels, hidden, config.residual_kernel)
        self.wide = CausalConvolution(hidden, channels, 1)


class EncoderStage(nn.Module):
    """Residual block, then `ratio` times fewer steps of twice the channels."""

    def __init__(self, channels: int, ratio: int, config: MimiConfig) -> None:
        super().__init__()
        self.ratio = ratio
        self.residual = ResidualBlock(channels, config)
        self.down = CausalConvolution(ratio * channels, 2 * channels, 2)


class DecoderStage(nn.Module):
    """`ratio` times more steps of half the channels, then a residual block."""

    def __init__(self, channels: int, ratio: int, config: MimiConfig) -> None:
        super().__init__()
        self.ratio = ratio
        self.up = CausalConvolution(channels, ratio * channels // 2, 2)
        self.residual = ResidualBlock(channels // 2, config)


class SeanetEncoder(nn.Module):
    """Sound [batch, samples, 1] to [batch, samples / prod(ratios), dim]."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        channels = config.filters
        self.first = CausalConvolution(1, channels, config.kernel)
        self.stages = nn.ModuleList()
        for ratio in reversed(config.ratios):
            self.stages.append(EncoderStage(channels, ratio, config))
            channels *= 2
        self.last = CausalConvolution(channels, config.dim, config.last_kernel)


class SeanetDecoder(nn.Module):
    """[batch, steps, dim] to sound [batch, steps * prod(ratios), 1]."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        channels = config.filters * 2 ** len(config.ratios)
        self.first = CausalConvolution(config.dim, channels, config.kernel)
        self.stages = nn.ModuleList()
        for ratio in config.ratios:
            self.stages.append(DecoderStage(channels, ratio, config))
            channels //= 2
        self.last = CausalConvolution(channels, 1, config.last_kernel)


class Quantiser(nn.Module):
    """The codebooks [codebooks, codebook_size, codebook_dim] and their projections; the first `semantic` codebooks and
    the others are two residual chains side by side, whose projections are stacked into one matrix each way."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        dim = config.codebook_dim
        self.semantic = config.semantic_codebooks
        self.codebooks = nn.Parameter(torch.empty(config.codebooks, config.codebook_size, dim), requires_grad=False)
        self.input_proj = nn.Parameter(torch.empty(2 * dim, config.dim), requires_grad=False)
        self.output_proj = nn.Parameter(torch.empty(config.dim, 2 * dim), requires_grad=False)

    def encode(self, latents: Tensor) -> Tensor:
        """[batch, frames, dim] to the nearest entries, int64 [batch, codebooks, frames]."""
        semantic, acoustic = (latents @ self.input_proj.t()).chunk(2, dim=-1)
        codes = self._nearest(semantic, self.codebooks[: self.semantic])
        codes += self._nearest(acoustic, self.codebooks[self.semantic :])
        return torch.stack(codes, dim=1)

    @staticmethod
    def _nearest(residual: Tensor, codebooks: Tensor) -> list[Tensor]:
        codes = []
        for codebook in codebooks:
            # |r - c|² without |r|², which is the same for all c.
            distance = codebook.square().sum(-1) - 2 * (residual @ codebook.t())
            codes.append(distance.argmin(-1))
            residual = residual - codebook[codes[-1]]
        return codes


class Mimi(nn.Module):
    """The weights, and the whole of a recording at once. Implements `csm.codec.Codec`.

    Streams are made by `decoder` and `encoder`; any number of them work on the same weights. Make them after the model
    has been moved to its device and dtype.
    """

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.frame_size, self.codebooks = config.sample_rate, config.frame_size, config.codebooks
        sizes = (config.layers, config.dim, config.heads, config.ffn, config.window, config.theta, config.norm_eps)
        self.seanet_encoder = SeanetEncoder(config)
        self.encoder_transformer = Transformer(*sizes)
        self.downsample = CausalConvolution(config.resampling * config.dim, config.dim, 2, bias=False)
        self.quantiser = Quantiser(config)
        self.upsample = ChannelwiseUpsampling(config.dim, config.resampling)
        self.decoder_transformer = Transformer(*sizes)
        self.seanet_decoder = SeanetDecoder(config)

    def decoder(self, batch: int = 1, frames: int = 1) -> MimiDecoder:
        """A new stream of codes to sound that works in steps of `frames` frames."""
        return MimiDecoder(self, batch, frames)

    def encoder(self, batch: int = 1, frames: int = 1) -> MimiEncoder:
        """A new stream of sound to codes that works in steps of `frames` frames."""
        return MimiEncoder(self, batch, frames)

    def encode(self, audio: Tensor) -> Tensor:
        """float [batch, samples] at 24 kHz to int64 [batch, codebooks, frames]; silence fills up a partial last frame.

        Raises:
            ValueError: `audio` has no samples or another shape.
        """
        if audio.dim() != 2 or audio.shape[1] == 0:
            raise ValueError(f"The codec encodes sound of shape [batch, samples], and was given {list(audio.shape)}.")
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
