"""A BERT-like sentence encoder that reads only the model's files, without the libraries that training needs.

A question is about a dozen tokens; a third of sentence-transformers' time for it goes into calling modules, and
importing that library takes nine seconds of one core at every start. This module does the same arithmetic (Devlin et
al., "BERT", 2019; mean over the tokens as in Reimers and Gurevych, "Sentence-BERT", 2019) in a few calls per layer,
with queries, keys and values in one product.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

EQUAL = 1e-4
"""Largest difference in any component of a vector, computed in float32, at which two vectors count as the same."""
MOST = 1_000
"""Characters of text that are encoded in one batch. The texts share one row, and masking attention to each text costs
more the longer the row is: 400 sentences took 2.7 s of one core; 3.5 s with 500 characters, 3.8 s with 6,000, and
5.5 s by sentence-transformers."""
_PROBES = ["Hello.", "Where does Ann's sister live, and since when?", "word " * 400]

Tokens = Callable[[Sequence[str]], list[list[int]]]
"""Tokenizes texts, with the begin and end tokens, each cut to the longest input the model reads."""


class Encoder:
    """Embeds texts on the CPU with the weights of a BERT-like model."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        tokens: Tokens,
        heads: int,
        epsilon: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """
        Args:
            weights: by BERT's own names; not copied if they already have the dtype.
            heads: the number of attention heads.
            epsilon: of the layer norms.

        Raises:
            KeyError: the model is not built like BERT.
        """
        weights = {name: weight.to(dtype) for name, weight in weights.items()}
        self._tokens, self._heads, self._epsilon = tokens, heads, epsilon
        self._token = weights["embeddings.word_embeddings.weight"]
        self._place = (
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][:1]
        )  # a text by itself consists of tokens of type 0 only
        self._first_norm = _pair(weights, "embeddings.LayerNorm")
        layers = sum(name.endswith("attention.self.query.weight") for name in weights)
        self._layers = [_Layer(weights, f"encoder.layer.{n}.") for n in range(layers)]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 [len(texts), dimensions], each row of length 1."""
        vectors = [np.zeros((0, self._token.shape[1]), np.float32)]
        row: list[str] = []
        for text in texts:
            if row and sum(map(len, row)) + len(text) > MOST:
                vectors.append(self._embed(row))
                row = []
            row.append(text)
        if row:
            vectors.append(self._embed(row))
        return np.concatenate(vectors)

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        texts_tokens = self._tokens(texts)
        lengths = [len(tokens) for tokens in texts_tokens]
        with torch.inference_mode():
            owner = torch.repeat_interleave(torch.arange(len(texts)), torch.tensor(lengths))
            own = owner[:, None] == owner if len(texts) > 1 else None  # [tokens, tokens]: of the same text
            places = torch.cat([torch.arange(length) for length in lengths])
            state = self._norm(
                self._token[torch.tensor(list(chain(*texts_tokens)))] + self._place[places], self._first_norm
            )
            for layer in self._layers:
                parts = layer.parts(state).view(1, len(state), 3, self._heads, -1)
                query, key, value = parts.permute(2, 0, 3, 1, 4)
                looked = functional.scaled_dot_product_attention(query, key, value, attn_mask=own)
                looked = looked[0].transpose(0, 1).reshape(len(state), -1)
                state = self._norm(state + layer.joined(looked), layer.joined_norm)
                wide = functional.gelu(layer.wide(state))
                state = self._norm(state + layer.narrow(wide), layer.narrow_norm)
            means = torch.stack([text.mean(dim=0) for text in torch.split(state.float(), lengths)])
            return np.asarray(functional.normalize(means, dim=1).numpy(), dtype=np.float32)

    def _norm(self, state: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
        return functional.layer_norm(state, state.shape[-1:], *norm, self._epsilon)


class _Layer:
    """One layer's products and norms."""

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        three = [_pair(weights, f"{name}attention.self.{part}") for part in ("query", "key", "value")]
        self.parts = _Linear(torch.cat([weight for weight, _ in three]), torch.cat([bias for _, bias in three]))
        self.joined = _Linear(*_pair(weights, f"{name}attention.output.dense"))
        self.joined_norm = _pair(weights, f"{name}attention.output.LayerNorm")
        self.wide = _Linear(*_pair(weights, f"{name}intermediate.dense"))
        self.narrow = _Linear(*_pair(weights, f"{name}output.dense"))
        self.narrow_norm = _pair(weights, f"{name}output.LayerNorm")


class _Linear:
    """A linear layer. In bfloat16, oneDNN would otherwise bring the weights into the processor's order at every call,
    which takes longer than the product itself for a question's few tokens."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight: [out, in]; bias: [out]."""
        self._bias = bias
        self._packed = weight.dtype == torch.bfloat16 and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight) if self._packed else weight

    def __call__(self, state: Tensor) -> Tensor:
        """Map [rows, in] to [rows, out]."""
        if not self._packed:
            return functional.linear(state, self._weight, self._bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(state, self._weight, self._bias, "none", [], "")
        return product


def _pair(weights: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def encoder_of_files(folder: Path) -> Encoder | None:
    """Load an encoder from a folder in sentence-transformers' format; None for another kind of model or of pooling."""
    import tokenizers
    from safetensors.torch import load_file

    config, pooling = _read(folder / "config.json"), _read(folder / "1_Pooling" / "config.json")
    steps = [step["type"].rpartition(".")[2] for step in _read(folder / "modules.json") or ()]
    if not config or not pooling or steps[:2] != ["Transformer", "Pooling"] or set(steps[2:]) - {"Normalize"}:
        return None
    means = [name for name, chosen in pooling.items() if name.startswith("pooling_mode") and chosen is True]
    if (
        config.get("model_type") != "bert"
        or config.get("hidden_act") != "gelu"
        or means != ["pooling_mode_mean_tokens"]
    ):
        return None
    words, weights = folder / "tokenizer.json", folder / "model.safetensors"
    if not words.is_file() or not weights.is_file():
        return None
    tokenizer = tokenizers.Tokenizer.from_file(str(words))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_read(folder / "sentence_bert_config.json")["max_seq_length"])

    def tokens(texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]

    dtype = torch.bfloat16 if _multiplies_bfloat16() else torch.float32
    return Encoder(load_file(weights), tokens, config["num_attention_heads"], config["layer_norm_eps"], dtype)


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def encoder_of_model(model: SentenceTransformer) -> Encoder | None:
    """Build an encoder from a sentence-transformers model; None if it does not reproduce the model's own vectors."""
    if model.device.type != "cpu":
        return None
    try:
        bert: Any = model[0].auto_model
        weights, config = bert.state_dict(), bert.config

        def tokens(texts: Sequence[str]) -> list[list[int]]:
            ids: list[list[int]] = model.tokenizer(list(texts), truncation=True, max_length=model.max_seq_length)[
                "input_ids"
            ]
            return ids

        encoder = Encoder(weights, tokens, config.num_attention_heads, config.layer_norm_eps)
        own = model.encode(_PROBES, normalize_embeddings=True, show_progress_bar=False)
        if np.abs(encoder.embed(_PROBES) - own).max() > EQUAL:
            return None
    except (AttributeError, KeyError, RuntimeError):
        return None
    if not _multiplies_bfloat16():
        return encoder
    return Encoder(weights, tokens, config.num_attention_heads, config.layer_norm_eps, torch.bfloat16)


def _multiplies_bfloat16() -> bool:
    known = torch.cpu.get_capabilities()
    return bool(known.get("amx_bf16") or known.get("avx512_bf16") or known.get("bf16"))
