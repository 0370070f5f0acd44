"""A few short texts through a BERT-like sentence model, without the machinery that batches need.

A question is a dozen tokens, and then a third of sentence-transformers' time goes into calling modules. This is the
same arithmetic (Devlin et al., "BERT", 2019; mean over the tokens as in Reimers and Gurevych, "Sentence-BERT", 2019)
in a few calls a layer, with queries, keys and values in one product.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

EQUAL = 1e-4
"""Largest difference in any number of a vector, reckoned in float32, that still counts as the same vector."""
_PROBES = ["Hello.", "Where does Ann's sister live, and since when?", "word " * 400]


class ShortEncoder:
    """Embeds a few texts at once by the weights of a sentence-transformers model, shared or in fewer bits."""

    def __init__(self, model: SentenceTransformer, dtype: torch.dtype = torch.float32) -> None:
        """Raises AttributeError or KeyError where the model is not built like BERT."""
        bert: Any = model[0].auto_model
        weights: dict[str, Tensor] = {name: weight.to(dtype) for name, weight in bert.state_dict().items()}
        self._tokenizer, self._longest = model.tokenizer, model.max_seq_length
        self._heads: int = bert.config.num_attention_heads
        self._epsilon: float = bert.config.layer_norm_eps
        self._token = weights["embeddings.word_embeddings.weight"]
        self._place = (
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][:1]
        )  # a single text is all of the first type
        self._first_norm = _pair(weights, "embeddings.LayerNorm")
        self._layers = [_Layer(weights, f"encoder.layer.{n}.") for n in range(bert.config.num_hidden_layers)]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [len(texts), dimensions], each row of length 1."""
        texts_tokens = self._tokenizer(list(texts), truncation=True, max_length=self._longest)["input_ids"]
        lengths = [len(tokens) for tokens in texts_tokens]
        with torch.inference_mode():
            owner = torch.repeat_interleave(torch.arange(len(texts)), torch.tensor(lengths))
            own = owner[:, None] == owner if len(texts) > 1 else None  # [tokens, tokens]: of the same text
            places = torch.cat([torch.arange(length) for length in lengths])
            state = self._norm(
                self._token[torch.tensor(list(chain(*texts_tokens)))] + self._place[places], self._first_norm
            )
            for layer in self._layers:
                parts = functional.linear(state, *layer.parts).view(1, len(state), 3, self._heads, -1)
                query, key, value = parts.permute(2, 0, 3, 1, 4)
                looked = functional.scaled_dot_product_attention(query, key, value, attn_mask=own)
                looked = looked[0].transpose(0, 1).reshape(len(state), -1)
                state = self._norm(state + functional.linear(looked, *layer.joined), layer.joined_norm)
                wide = functional.gelu(functional.linear(state, *layer.wide))
                state = self._norm(state + functional.linear(wide, *layer.narrow), layer.narrow_norm)
            means = torch.stack([text.mean(dim=0) for text in torch.split(state.float(), lengths)])
            return np.asarray(functional.normalize(means, dim=1).numpy(), dtype=np.float32)

    def _norm(self, state: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
        return functional.layer_norm(state, state.shape[-1:], *norm, self._epsilon)


class _Layer:
    """Weights and biases of one layer."""

    def __init__(self, weights: dict[str, Tensor], name: str) -> None:
        three = [_pair(weights, f"{name}attention.self.{part}") for part in ("query", "key", "value")]
        self.parts = torch.cat([weight for weight, _ in three]), torch.cat([bias for _, bias in three])
        self.joined = _pair(weights, f"{name}attention.output.dense")
        self.joined_norm = _pair(weights, f"{name}attention.output.LayerNorm")
        self.wide = _pair(weights, f"{name}intermediate.dense")
        self.narrow = _pair(weights, f"{name}output.dense")
        self.narrow_norm = _pair(weights, f"{name}output.LayerNorm")


def _pair(weights: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def short_encoder(model: SentenceTransformer) -> ShortEncoder | None:
    """For the model, if its own vectors come out of it; None for a model that is built or pooled otherwise."""
    if model.device.type != "cpu":
        return None
    try:
        encoder = ShortEncoder(model)
        own = model.encode(_PROBES, normalize_embeddings=True, show_progress_bar=False)
        if np.abs(encoder.embed(_PROBES) - own).max() > EQUAL:
            return None
    except (AttributeError, KeyError, RuntimeError):
        return None
    return ShortEncoder(model, torch.bfloat16) if _multiplies_bfloat16() else encoder


def _multiplies_bfloat16() -> bool:
    known = torch.cpu.get_capabilities()
    return bool(known.get("amx_bf16") or known.get("avx512_bf16") or known.get("bf16"))
