"""Mimi's weights, part by part: its sizes, SEANet (the convolutions between sound and latents), and the codebooks.

This module holds only the weights; csm/codec/stream.py computes steps of sound with them.
"""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from csm.codec.convolution import CausalConvolution, ChannelwiseUpsampling
from csm.codec.transformer import MimiTransformer


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
    ratios: tuple[int, ...] = (8, 6, 5, 4)  # of the decoder; the encoder uses them in reverse
    kernel: int = 7
    last_kernel: int = 3
    residual_kernel: int = 3
    compress: int = 2
    resampling: int = 2  # between the transformers' 25 Hz and the codes' 12.5 Hz

    @property
    def frame_size(self) -> int:
        """Samples per frame."""
        return prod(self.ratios) * self.resampling


class ResidualBlock(nn.Module):
    """x + wide(narrow(x)), each preceded by ELU."""

    def __init__(self, channels: int, config: MimiConfig) -> None:
        super().__init__()
        hidden = channels // config.compress
        self.narrow = CausalConvolution(channels, hidden, config.residual_kernel)
        self.wide = CausalConvolution(hidden, channels, 1)


class EncoderStage(nn.Module):
    """A residual block, then `ratio` times fewer steps with twice the channels."""

    def __init__(self, channels: int, ratio: int, config: MimiConfig) -> None:
        super().__init__()
        self.ratio = ratio
        self.residual = ResidualBlock(channels, config)
        self.down = CausalConvolution(ratio * channels, 2 * channels, 2)


class DecoderStage(nn.Module):
    """`ratio` times more steps with half the channels, then a residual block."""

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
    """The codebooks [codebooks, codebook_size, codebook_dim] and their projections. The first `semantic` codebooks and
    the others are two parallel residual chains, whose projections are stacked into one matrix for each direction."""

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


class MimiWeights(nn.Module):
    """All parts, in the order in which sound passes through encoder and decoder."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        self.config = config
        sizes = (config.layers, config.dim, config.heads, config.ffn, config.window, config.theta, config.norm_eps)
        self.seanet_encoder = SeanetEncoder(config)
        self.encoder_transformer = MimiTransformer(*sizes)
        self.downsample = CausalConvolution(config.resampling * config.dim, config.dim, 2, bias=False)
        self.quantiser = Quantiser(config)
        self.upsample = ChannelwiseUpsampling(config.dim, config.resampling)
        self.decoder_transformer = MimiTransformer(*sizes)
        self.seanet_decoder = SeanetDecoder(config)
