"""One short text through a BERT-like sentence model, without the machinery that batches need.

A question is a dozen tokens, and then a third of sentence-transformers' time goes into calling modules. This is the
same arithmetic (Devlin et al., "BERT", 2019; mean over the tokens as in Reimers and Gurevych, "Sentence-BERT", 2019)
in a few calls a layer, with queries, keys and values in one product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

EQUAL = 1e-4
"""Largest difference in any number of a vector that still counts as the same vector."""
_PROBES = ("Hello.", "Where does Ann's sister live, and since when?", "word " * 400)


class SingleEncoder:
    """Embeds one text at a time by the weights of a sentence-transformers model, which it shares."""

    def __init__(self, model: SentenceTransformer) -> None:
        """Raises AttributeError or KeyError where the model is not built like BERT."""
        bert: Any = model[0].auto_model
        weights: dict[str, Tensor] = dict(bert.state_dict())
        self._tokenizer, self._longest = model.tokenizer, model.max_seq_length
        self._heads: int = bert.config.num_attention_heads
        self._epsilon: float = bert.config.layer_norm_eps
        self._token = weights["embeddings.word_embeddings.weight"]
        self._place = (
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][:1]
        )  # a single text is all of the first type
        self._first_norm = _pair(weights, "embeddings.LayerNorm")
        self._layers = [_Layer(weights, f"encoder.layer.{n}.") for n in range(bert.config.num_hidden_layers)]

    def embed(self, text: str) -> NDArray[np.float32]:
        """float32 [dimensions], of length 1."""
        tokens = self._tokenizer(text, truncation=True, max_length=self._longest)["input_ids"]
        with torch.inference_mode():
            state = self._norm(self._token[torch.tensor(tokens)] + self._place[: len(tokens)], self._first_norm)
            for layer in self._layers:
                parts = functional.linear(state, *layer.parts).view(len(tokens), 3, self._heads, -1).permute(1, 2, 0, 3)
                looked = functional.scaled_dot_product_attention(parts[0][None], parts[1][None], parts[2][None])[0]
                looked = looked.transpose(0, 1).reshape(len(tokens), -1)
                state = self._norm(state + functional.linear(looked, *layer.joined), layer.joined_norm)
                wide = functional.gelu(functional.linear(state, *layer.wide))
                state = self._norm(state + functional.linear(wide, *layer.narrow), layer.narrow_norm)
            vector = functional.normalize(state.mean(dim=0), dim=0)
        return np.asarray(vector.numpy(), dtype=np.float32)

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


def single_encoder(model: SentenceTransformer) -> SingleEncoder | None:
    """For the model, if its own vectors come out of it; None for a model that is built or pooled otherwise."""
    if model.device.type != "cpu":
        return None
    try:
        encoder = SingleEncoder(model)
        for probe in _PROBES:
            own = model.encode([probe], normalize_embeddings=True, show_progress_bar=False)[0]
            if np.abs(encoder.embed(probe) - own).max() > EQUAL:
                return None
    except (AttributeError, KeyError, RuntimeError):
        return None
    return encoder
