"""The two formats in which CSM is published: Sesame's original, and that of Hugging Face transformers.

`Csm` uses the original names. A `Format` says under which name a tensor is stored, in which row order, and how
config.json describes the shape. Sources: SesameAILabs/csm `models.py`, transformers `models/csm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Protocol

from torch import Tensor

from ..errors import CheckpointError
from ..model import CsmConfig, RopeScaling, TransformerConfig

__all__ = ["FORMATS", "Format", "Original", "Transformers", "read_config"]

Json = dict[str, Any]


class Format(Protocol):
    """One published format."""

    title: str
    landmark: str
    """A tensor that every checkpoint of this format has, and none of the other format."""

    def names(self, original: str) -> tuple[str, ...]:
        """The names a tensor may have on disk, the usual one first."""
        ...

    def belongs(self, name: str) -> bool:
        """Whether a tensor belongs in such a checkpoint although the speech model does not use it."""
        ...

    def turned(self, original: str) -> bool:
        """Whether the tensor's rows have another order on disk."""
        ...

    def from_disk(self, original: str, tensor: Tensor, config: CsmConfig) -> Tensor:
        """Return a tensor in the original's order of rows."""
        ...

    def to_disk(self, original: str, tensor: Tensor, config: CsmConfig) -> Tensor:
        """The reverse of `from_disk`."""
        ...

    def config(self, config: CsmConfig) -> Json:
        """What config.json says about the shape."""
        ...


_PUBLISHED = CsmConfig.csm_1b()
_FLAVORS = {"llama-1B": _PUBLISHED.backbone, "llama-100M": _PUBLISHED.decoder}


class Original:
    """SesameAILabs/csm: rotary pairs are adjacent; config.json names the stacks' flavours."""

    title = "original"
    landmark = "backbone.layers.0.attn.q_proj.weight"

    def names(self, original: str) -> tuple[str, ...]:
        return (original,)

    def belongs(self, name: str) -> bool:
        return False

    def turned(self, original: str) -> bool:
        return False

    def from_disk(self, original: str, tensor: Tensor, config: CsmConfig) -> Tensor:
        return tensor

    def to_disk(self, original: str, tensor: Tensor, config: CsmConfig) -> Tensor:
        return tensor

    def config(self, config: CsmConfig) -> Json:
        """Describe a stack of a published size by its flavour, any other by its numbers."""
        flavors = {stack: name for name, stack in _FLAVORS.items()}
        described: Json = {
            "audio_num_codebooks": config.audio_codebooks,
            "audio_vocab_size": config.audio_vocab_size,
            "text_vocab_size": config.text_vocab_size,
        }
        for stack, shape in (("backbone", config.backbone), ("decoder", config.decoder)):
            if shape in flavors:
                described[f"{stack}_flavor"] = flavors[shape]
            else:
                described[stack] = asdict(shape)
        return described


_NAMES = {
    "text_embeddings.weight": ("embed_text_tokens.weight",),
    # Tied: a checkpoint holds one, the other, or both.
    "audio_embeddings.weight": (
        "backbone_model.embed_tokens.embed_audio_tokens.weight",
        "depth_decoder.model.embed_tokens.weight",
    ),
    "projection.weight": ("depth_decoder.model.inputs_embeds_projector.weight",),
    "codebook0_head.weight": ("lm_head.weight",),
    "audio_head": ("depth_decoder.codebooks_head.weight",),
}
_PARTS = {
    "attn.q_proj": "self_attn.q_proj",
    "attn.k_proj": "self_attn.k_proj",
    "attn.v_proj": "self_attn.v_proj",
    "attn.output_proj": "self_attn.o_proj",
    "mlp.w1": "mlp.gate_proj",
    "mlp.w2": "mlp.down_proj",
    "mlp.w3": "mlp.up_proj",
    "sa_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    "norm": "norm",
}
_STACKS = {"backbone": "backbone_model", "decoder": "depth_decoder.model"}


class Transformers:
    """Hugging Face: rotary pairs lie half a head apart, so the rows of q and k are reordered."""

    title = "transformers"
    landmark = "backbone_model.layers.0.self_attn.q_proj.weight"

    def names(self, original: str) -> tuple[str, ...]:
        if original in _NAMES:
            return _NAMES[original]
        stack, *middle, kind = original.split(".")
        layer, part = ([], middle) if middle[0] != "layers" else (middle[:2], middle[2:])
        weight = "weight" if kind == "scale" else kind
        return (".".join([_STACKS[stack], *layer, _PARTS[".".join(part)], weight]),)

    def belongs(self, name: str) -> bool:
        tied = _NAMES["audio_embeddings.weight"]
        return name.startswith("codec_model.") or name in tied or name.endswith(("_offsets", "inv_freq"))

    def turned(self, original: str) -> bool:
        return original.endswith(("q_proj.weight", "k_proj.weight"))

    def from_disk(self, original: str, tensor: Tensor, config: CsmConfig) -> Tensor:
        if not self.turned(original):
            return tensor
        heads = _heads(original, config)
        return tensor.view(heads, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)

    def to_disk(self, original: str, tensor: Tensor, config: CsmConfig) -> Tensor:
        if not self.turned(original):
            return tensor
        heads = _heads(original, config)
        return tensor.view(heads, -1, 2, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)

    def config(self, config: CsmConfig) -> Json:
        backbone = self._stack(config.backbone)
        decoder = self._stack(config.decoder) | {
            "model_type": "csm_depth_decoder_model",
            "backbone_hidden_size": config.backbone.dim,
        }
        for stack in (backbone, decoder):
            stack |= {"num_codebooks": config.audio_codebooks, "vocab_size": config.audio_vocab_size}
        special = min(config.text_vocab_size, 128_256) - 256
        return backbone | {
            "architectures": ["CsmForConditionalGeneration"],
            "model_type": "csm",
            "text_vocab_size": config.text_vocab_size,
            "tie_codebooks_embeddings": True,
            "bos_token_id": special,
            "audio_token_id": special + 2,
            "audio_eos_token_id": special + 3,
            "pad_token_id": special + 2,
            "codebook_eos_token_id": 0,
            "codebook_pad_token_id": config.audio_vocab_size - 1,
            "depth_decoder_config": decoder,
        }

    @staticmethod
    def _stack(shape: TransformerConfig) -> Json:
        rope: Json = {"rope_type": "default", "rope_theta": shape.rope_theta}
        if (scaling := shape.rope_scaling) is not None:
            # transformers requires the original context to be below max_position_embeddings. Only the ratios of context
            # to the low and the high frequency factor matter, so all three shrink together.
            original = 1 << ((shape.context // 2).bit_length() - 1)
            shrunk = original / scaling.original_context
            rope |= {
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_freq_factor * shrunk,
                "high_freq_factor": scaling.high_freq_factor * shrunk,
                "original_max_position_embeddings": original,
            }
        return {
            "hidden_size": shape.dim,
            "intermediate_size": shape.ffn,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "max_position_embeddings": shape.context,
            "rms_norm_eps": shape.norm_eps,
            "rope_parameters": rope,
        }


FORMATS: tuple[Format, ...] = (Original(), Transformers())


def read_config(described: Mapping[str, Any]) -> CsmConfig:
    """Read the shape from a config.json of either format; if it says nothing, return the published shape.

    Raises CheckpointError if it describes something other than CSM.
    """
    model_type = described.get("model_type", "csm")
    if model_type != "csm":
        raise CheckpointError(f"Expected a config.json of model_type csm, found {model_type!r}.")
    try:
        if "hidden_size" in described:
            return CsmConfig(
                backbone=_stack(described),
                decoder=_stack(described["depth_decoder_config"]),
                text_vocab_size=described["text_vocab_size"],
                audio_vocab_size=described["vocab_size"],
                audio_codebooks=described["num_codebooks"],
            )
        return replace(
            _PUBLISHED,
            backbone=_flavor(described, "backbone"),
            decoder=_flavor(described, "decoder"),
            text_vocab_size=described.get("text_vocab_size", _PUBLISHED.text_vocab_size),
            audio_vocab_size=described.get("audio_vocab_size", _PUBLISHED.audio_vocab_size),
            audio_codebooks=described.get("audio_num_codebooks", _PUBLISHED.audio_codebooks),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"Expected the shape of a CSM in config.json, found none or a part of one: {error}"
        ) from error


def _flavor(described: Mapping[str, Any], stack: str) -> TransformerConfig:
    if stack in described:
        numbers = dict(described[stack])
        scaling = numbers.pop("rope_scaling", None)
        return TransformerConfig(**numbers, rope_scaling=RopeScaling(**scaling) if scaling else None)
    flavor = described.get(f"{stack}_flavor", "llama-1B" if stack == "backbone" else "llama-100M")
    if flavor not in _FLAVORS:
        raise CheckpointError(f"Expected one of {', '.join(_FLAVORS)} as {stack}_flavor, found {flavor!r}.")
    return _FLAVORS[flavor]


def _stack(described: Mapping[str, Any]) -> TransformerConfig:
    # transformers 5 writes rope_parameters; version 4 wrote rope_scaling, with rope_theta beside it.
    rope = described.get("rope_parameters") or described.get("rope_scaling") or {}
    kind = rope.get("rope_type", "default")
    if kind not in ("default", "llama3"):
        raise CheckpointError(f"Expected rope_type llama3 or default in config.json, found {kind!r}.")
    scaling = None
    if kind == "llama3":
        scaling = RopeScaling(
            factor=rope["factor"],
            low_freq_factor=rope["low_freq_factor"],
            high_freq_factor=rope["high_freq_factor"],
            original_context=rope["original_max_position_embeddings"],
        )
    return TransformerConfig(
        layers=described["num_hidden_layers"],
        heads=described["num_attention_heads"],
        kv_heads=described["num_key_value_heads"],
        dim=described["hidden_size"],
        ffn=described["intermediate_size"],
        context=described["max_position_embeddings"],
        norm_eps=described.get("rms_norm_eps", 1e-5),
        rope_theta=rope.get("rope_theta") or described.get("rope_theta", 500_000.0),
        rope_scaling=scaling,
    )


def _heads(original: str, config: CsmConfig) -> int:
    stack = config.backbone if original.startswith("backbone.") else config.decoder
    return stack.heads if original.endswith("q_proj.weight") else stack.kv_heads
