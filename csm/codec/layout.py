"""Where each tensor of a published Mimi file goes in `csm.codec.mimi.Mimi`, and how its layout is converted.

The names are those of the original file (kyutai's tokenizer-e351c8d8-checkpoint125.safetensors, 318 tensors);
`transformers_names` returns those of transformers' kyutai/mimi (350 tensors: queries, keys and values are separate).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from csm.codec.convolution import CausalConvolution
from csm.codec.seanet import DecoderStage, EncoderStage, MimiWeights, ResidualBlock
from csm.codec.transformer import MimiTransformer, MimiTransformerLayer

USAGE_FLOOR = 1e-5  # moshi's and transformers' epsilon for codebook entries that were never used


@dataclass(frozen=True)
class Entry:
    """One of our parameters, or a part of one, and the file's tensors from which it is made.

    `read` converts the file's tensors to ours, `write` converts ours to the file's (as views where possible).
    """

    parameter: Tensor
    names: tuple[str, ...]
    read: Callable[..., Tensor]
    write: Callable[[Tensor], tuple[Tensor, ...]]


def entries(mimi: MimiWeights) -> Iterator[Entry]:
    """All entries, with the parts in the file's order."""
    yield from _seanet_encoder(mimi)
    yield from _transformer("encoder_transformer", mimi.encoder_transformer)
    yield _convolution_weight("downsample.conv.conv.conv", mimi.downsample, mimi.config.resampling)
    yield from _quantiser(mimi)
    upsample = "upsample.convtr.convtr.convtr.weight"
    yield Entry(mimi.upsample.weight, (upsample,), lambda file: file[:, 0].t(), lambda ours: (ours.t()[:, None],))
    yield from _transformer("decoder_transformer", mimi.decoder_transformer)
    yield from _seanet_decoder(mimi)


def _plain(name: str, parameter: Tensor) -> Entry:
    return Entry(parameter, (name,), lambda file: file, lambda ours: (ours,))


def _convolution_weight(name: str, convolution: CausalConvolution, stride: int = 1) -> Entry:
    """[outputs, inputs, kernel] in the file. With a stride, ours has fewer, wider steps but the same numbers."""
    channels = convolution.inputs // stride
    return Entry(
        convolution.weight,
        (f"{name}.weight",),
        lambda file: file.transpose(1, 2).flatten(1),
        lambda ours: (ours.view(len(ours), -1, channels).transpose(1, 2),),
    )


def _convolution(name: str, convolution: CausalConvolution, stride: int = 1) -> Iterator[Entry]:
    yield _convolution_weight(name, convolution, stride)
    yield _plain(f"{name}.bias", convolution.bias)


def _transposed_convolution(name: str, convolution: CausalConvolution, stride: int) -> Iterator[Entry]:
    """[inputs, outputs, 2 * stride] in the file: the first half acts on the step itself, the second one step later."""

    def read(file: Tensor) -> Tensor:
        now, later = file[..., :stride], file[..., stride:]
        return torch.stack((later, now)).permute(3, 2, 0, 1).flatten(2).flatten(0, 1)

    def write(ours: Tensor) -> tuple[Tensor, ...]:
        later, now = ours.view(stride, -1, 2, convolution.inputs).permute(2, 3, 1, 0)
        return (torch.cat((now, later), dim=2),)

    yield Entry(convolution.weight, (f"{name}.weight",), read, write)
    yield Entry(
        convolution.bias,
        (f"{name}.bias",),
        lambda file: file.repeat(stride),
        lambda ours: (ours[: len(ours) // stride],),
    )


def _residual(name: str, block: ResidualBlock) -> Iterator[Entry]:
    yield from _convolution(f"{name}.block.1.conv.conv", block.narrow)
    yield from _convolution(f"{name}.block.3.conv.conv", block.wide)


def _seanet_encoder(mimi: MimiWeights) -> Iterator[Entry]:
    """The file numbers activations, too: convolution 0, then residual block, ELU, convolution for each stage."""
    seanet = mimi.seanet_encoder
    yield from _convolution("encoder.model.0.conv.conv", seanet.first)
    number = 1
    for stage in seanet.stages:
        assert isinstance(stage, EncoderStage)
        yield from _residual(f"encoder.model.{number}", stage.residual)
        yield from _convolution(f"encoder.model.{number + 2}.conv.conv", stage.down, stage.ratio)
        number += 3
    yield from _convolution(f"encoder.model.{number + 1}.conv.conv", seanet.last)


def _seanet_decoder(mimi: MimiWeights) -> Iterator[Entry]:
    """Convolution 0, then ELU, transposed convolution, residual block for each stage."""
    seanet = mimi.seanet_decoder
    yield from _convolution("decoder.model.0.conv.conv", seanet.first)
    number = 1
    for stage in seanet.stages:
        assert isinstance(stage, DecoderStage)
        yield from _transposed_convolution(f"decoder.model.{number + 1}.convtr.convtr", stage.up, stage.ratio)
        yield from _residual(f"decoder.model.{number + 2}", stage.residual)
        number += 3
    yield from _convolution(f"decoder.model.{number + 1}.conv.conv", seanet.last)


def _transformer(name: str, transformer: MimiTransformer) -> Iterator[Entry]:
    for number, layer in enumerate(transformer.layers):
        assert isinstance(layer, MimiTransformerLayer)
        prefix = f"{name}.transformer.layers.{number}"
        yield _plain(f"{prefix}.self_attn.in_proj_weight", layer.in_proj.weight)
        yield _plain(f"{prefix}.self_attn.out_proj.weight", layer.out_proj.weight)
        yield _plain(f"{prefix}.layer_scale_1.scale", layer.scale1)
        yield _plain(f"{prefix}.layer_scale_2.scale", layer.scale2)
        for part in ("norm1", "norm2"):
            norm = layer.get_submodule(part)
            assert isinstance(norm.weight, Tensor) and isinstance(norm.bias, Tensor)
            yield _plain(f"{prefix}.{part}.weight", norm.weight)
            yield _plain(f"{prefix}.{part}.bias", norm.bias)
        yield _plain(f"{prefix}.linear1.weight", layer.linear1.weight)
        yield _plain(f"{prefix}.linear2.weight", layer.linear2.weight)


def _quantiser(mimi: MimiWeights) -> Iterator[Entry]:
    quantiser, dim = mimi.quantiser, mimi.config.codebook_dim
    semantic = quantiser.semantic
    parts = (("rvq_first", slice(0, dim), slice(0, semantic)), ("rvq_rest", slice(dim, None), slice(semantic, None)))
    for part, columns, books in parts:
        prefix = f"quantizer.{part}"
        for name, weight in (
            ("input_proj", quantiser.input_proj[columns]),
            ("output_proj", quantiser.output_proj[:, columns]),
        ):
            yield Entry(
                weight, (f"{prefix}.{name}.weight",), lambda file: file[..., 0], lambda ours: (ours[..., None],)
            )
        for number, codebook in enumerate(quantiser.codebooks[books]):
            book = f"{prefix}.vq.layers.{number}._codebook"
            yield Entry(
                codebook,
                (f"{book}.embedding_sum", f"{book}.cluster_usage", f"{book}._initialized"),
                lambda total, usage, _: total / usage.clamp(min=USAGE_FLOOR)[:, None],
                # Every entry with a usage of one: this gives the same codebook.
                lambda ours: (ours, torch.ones_like(ours[:, 0]), torch.ones_like(ours[0, :1])),
            )


_RENAMED = (
    (r"^(en|de)coder\.model\.", r"\1coder.layers."),
    (r"\.(conv|convtr)(\.\1)+\.", ".conv."),
    (r"_transformer\.transformer\.", "_transformer."),
    (r"^quantizer\.rvq_first\.", "quantizer.semantic_residual_vector_quantizer."),
    (r"^quantizer\.rvq_rest\.", "quantizer.acoustic_residual_vector_quantizer."),
    (r"\.vq\.layers\.(\d+)\._codebook\.embedding_sum", r".layers.\1.codebook.embed_sum"),
    (r"\.vq\.layers\.(\d+)\._codebook\._?", r".layers.\1.codebook."),
    (r"\.self_attn\.out_proj\.", ".self_attn.o_proj."),
    (r"\.layer_scale_1\.", ".self_attn_layer_scale."),
    (r"\.layer_scale_2\.", ".mlp_layer_scale."),
    (r"\.norm1\.", ".input_layernorm."),
    (r"\.norm2\.", ".post_attention_layernorm."),
    (r"\.linear([12])\.", r".mlp.fc\1."),
)


def transformers_names(name: str) -> tuple[str, ...]:
    """The names of an original tensor in transformers' format, which separates queries, keys and values."""
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    if name.endswith(".in_proj_weight"):
        return tuple(name.replace("in_proj_weight", f"{part}_proj.weight") for part in "qkv")
    return (name,)


def join_qkv(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Join them in the original's order, which rotates neighbours; transformers rotates the halves of a head."""
    pairs = (weight.reshape(heads, 2, -1, len(weight)).transpose(1, 2).flatten(0, 2) for weight in (q, k))
    return torch.cat((*pairs, v))


def split_qkv(in_proj: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """The reverse of `join_qkv`."""
    q, k, v = in_proj.chunk(3)
    q, k = (weight.reshape(heads, -1, 2, len(weight)).transpose(1, 2).flatten(0, 2) for weight in (q, k))
    return q, k, v
