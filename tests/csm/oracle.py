"""The reference: transformers' CsmForConditionalGeneration, made from a model of ours by our own converter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import CsmConfig as ReferenceConfig
from transformers import CsmForConditionalGeneration
from transformers.initialization import no_init_weights

from csm.checkpoint.formats import Transformers
from csm.codec.checkpoint import transformers_config
from csm.codec.seanet import MimiConfig
from csm.model import Csm


def make_reference(model: Csm) -> Any:
    """The same weights in transformers, float32. Its codec is a small random one and is not used."""
    form, config = Transformers(), model.config
    codec = MimiConfig(
        codebooks=config.audio_codebooks, codebook_size=config.codes, codebook_dim=8, dim=32, layers=1, heads=2, ffn=32,
        window=16, filters=4,
    )  # fmt: skip
    described: dict[str, Any] = form.config(config) | {
        "codec_config": transformers_config(codec) | {"upsample_groups": codec.dim}
    }
    with no_init_weights():
        reference: Any = CsmForConditionalGeneration(ReferenceConfig(**described))
        reference.eval()
    tensors = {form.names(name)[0]: form.to_disk(name, tensor, config) for name, tensor in model.state_dict().items()}
    tensors["depth_decoder.model.embed_tokens.weight"] = model.audio_embeddings.weight
    missing, unexpected = reference.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert all(name.startswith("codec_model.") or name.endswith("_offsets") for name in missing)
    return reference


@torch.inference_mode()
def reference_frames(reference: Any, model: Csm, prompts: list[Tensor], count: int) -> Tensor:
    """Greedy frames, int64 [batch, count, codebooks], for prompts (rows) of any lengths, padded on the left."""
    longest, dim = max(len(prompt) for prompt in prompts), model.config.backbone.dim
    embeds = torch.zeros(len(prompts), longest, dim)
    attended = torch.zeros(len(prompts), longest, dtype=torch.int64)
    for index, prompt in enumerate(prompts):
        embeds[index, longest - len(prompt) :] = reference_embeds(reference, prompt)
        attended[index, longest - len(prompt) :] = 1
    never = list(range(model.config.codes, model.config.audio_vocab_size))
    frames: Tensor = reference.generate(
        inputs_embeds=embeds,
        attention_mask=attended,
        do_sample=False,
        depth_decoder_do_sample=False,
        max_new_tokens=count,
        suppress_tokens=never,
        depth_decoder_suppress_tokens=never,
    )
    return frames


@torch.inference_mode()
def reference_embeds(reference: Any, prompt: Tensor) -> Tensor:
    """Rows [n, codebooks + 1] → embeddings [n, dim], by the reference's own tables: a row is all text or all sound."""
    text = reference.embed_text_tokens(prompt[:, -1].clamp(min=0))
    sound = reference.backbone_model.embed_tokens(prompt[None, :, :-1].clamp(min=0))[0]
    return torch.where(prompt[:, -1:] >= 0, text, sound)
