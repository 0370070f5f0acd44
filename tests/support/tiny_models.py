"""Tiny checkpoints in the published formats, made on the spot: Whisper in CTranslate2's form, and a Llama to chat with.

Neither understands anything. Their layers are random; embeddings and output are set so that each token is followed by
one certain other, and so they say the same words over and over, whatever they are given. That is enough to see whether
the engines around them work, and it is not speech recognition and not a language model.

CSM and its codec are made by tests/csm/tiny.py.
"""

# mypy: disable-error-code=no-untyped-call

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

HEARD = ("Tiny", "models", "hear", "these", "words", "in", "any", "sound.")
"""What the Whisper writes, whatever it hears, at every decoding."""

SAID = ("This", "is", "a", "tiny", "model,", "and", "these", "words", "are", "all", "it", "knows.")
"""What the Llama says, whatever it is asked, again and again until it may say no more."""

REPLY = tuple(f"Ġ{word}" for word in SAID)
"""The same as tokens."""

TINY: Mapping[str, int] = MappingProxyType({})
"""The shape of a model that takes no time."""

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write_whisper(folder: Path, *, language: str = "", vocabulary: int = 0, shape: Mapping[str, int] = TINY) -> Path:
    """A Whisper of one layer, as `ct2-transformers-converter` writes it: for English only, or with a language that it
    takes everything for.

    `shape` and `vocabulary` make it larger: fields of its configuration, and tokens beside the special ones.
    """
    from ctranslate2.converters import TransformersConverter
    from transformers import GenerationConfig, PreTrainedTokenizerFast, WhisperConfig, WhisperForConditionalGeneration

    words = [f"Ġ{word}" for word in HEARD]
    languages = [f"<|{code}|>" for code in ("en", language) if language]
    special = ["<|endoftext|>", "<|startoftranscript|>", *languages, "<|translate|>", "<|transcribe|>"]
    special += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    special += [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
    # by an empty token CTranslate2 knows a Whisper of many languages
    tokenizer = _tokenizer([*words, ""] if language else words, special, vocabulary)
    ids = tokenizer.get_vocab()

    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(ids), num_mel_bins=80, **{**_SMALL_WHISPER, **shape},
        bos_token_id=ids["<|endoftext|>"], eos_token_id=ids["<|endoftext|>"], pad_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"], suppress_tokens=[], begin_suppress_tokens=[],
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config).eval()
    begin = ["<|startoftranscript|>", *languages[1:], *(["<|transcribe|>"] if language else []), "<|notimestamps|>"]
    chain = [*begin, *words, "<|endoftext|>"]
    embeddings, output = _chain(model.model.decoder.embed_tokens.weight, ids, chain)
    model.proj_out.weight = torch.nn.Parameter(output)
    model.model.decoder.embed_tokens.weight = torch.nn.Parameter(embeddings)
    model.generation_config = GenerationConfig(
        alignment_heads=[[0, 0], [0, 1]], no_timestamps_token_id=ids["<|notimestamps|>"],
        suppress_tokens=[], begin_suppress_tokens=[], lang_to_id={name: ids[name] for name in languages},
    )  # fmt: skip
    source = folder.with_name(f"{folder.name}-transformers")
    model.config.tie_word_embeddings = False
    model.save_pretrained(source)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=None).save_pretrained(source)
    (source / "preprocessor_config.json").write_text(json.dumps(_WHISPER_SOUND))
    TransformersConverter(str(source), copy_files=["tokenizer.json", "preprocessor_config.json"]).convert(str(folder))
    return folder


def write_llama(
    folder: Path,
    says: Sequence[str] = REPLY,
    *,
    then: str = "",
    special: Sequence[str] = (),
    template: str | None = CHAT_TEMPLATE,
    vocabulary: int = 0,
    dtype: torch.dtype = torch.float32,
    shape: Mapping[str, int] = TINY,
) -> Path:
    """A Llama of two layers with a tokenizer and a chat template.

    `says`: the tokens of its replies, each of them once; with none, what it says is random, and depends on all it read.
    After them it says `then`, by default the first of them again. `special`: further special tokens.
    `shape` and `vocabulary` make it larger: fields of its configuration, and tokens beside the special ones.
    """
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", *special]
    tokenizer = _tokenizer([token for token in says if token not in special], special, vocabulary)
    ids = tokenizer.get_vocab()

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(ids), tie_word_embeddings=False, **{**_SMALL_LLAMA, **shape},
        bos_token_id=ids["<|begin|>"], eos_token_id=ids["<|end|>"],
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    if says:
        chain = ["<|assistant|>", *says, then or says[0]]
        embeddings, output = _chain(model.model.embed_tokens.weight, ids, chain)
        model.model.embed_tokens.weight = torch.nn.Parameter(embeddings)
        model.lm_head.weight = torch.nn.Parameter(output)
    model.to(dtype).save_pretrained(folder)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|end|>", chat_template=template
    )
    wrapped.save_pretrained(folder)
    return folder


_SMALL_WHISPER: Mapping[str, Any] = {
    "d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
}  # fmt: skip
_SMALL_LLAMA: Mapping[str, Any] = {
    "hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 4096,
}  # fmt: skip

_WHISPER_SOUND: Mapping[str, Any] = {
    "feature_size": 80, "sampling_rate": 16_000, "hop_length": 160, "chunk_length": 30, "n_fft": 400,
    "n_samples": 480_000, "nb_max_frames": 3000, "feature_extractor_type": "WhisperFeatureExtractor",
}  # fmt: skip


def _tokenizer(words: list[str], special: list[str], size: int = 0) -> Tokenizer:
    """Single bytes, some whole words, words that nobody uses up to `size`, and special tokens."""
    vocabulary = dict.fromkeys([*sorted(pre_tokenizers.ByteLevel.alphabet()), *words])
    vocabulary |= dict.fromkeys(f"Ġunused{number}" for number in range(size - len(vocabulary)))
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def _chain(embeddings: Tensor, ids: Mapping[str, int], chain: list[str]) -> tuple[Tensor, Tensor]:
    """Embeddings and output weights [tokens, dim] with which each token of the chain is followed by the next."""
    embeddings = torch.randn_like(embeddings)
    output = 0.02 * torch.randn_like(embeddings)
    for token, following in pairwise(chain):
        output[ids[following]] += embeddings[ids[token]]
    return embeddings, output
