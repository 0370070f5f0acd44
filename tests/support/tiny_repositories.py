"""The hub's repositories of all the engines, tiny, with random weights, as the published ones are laid out.

What they hear and say is fixed (tests/support/tiny_models.py), and what they speak is noise (tests/csm/tiny.py). The
names are those that a user's choices lead to, so that every step from a choice to a running engine is the user's own.
"""

# mypy: disable-error-code=no-untyped-call

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from csm.checkpoint.checkpoint import save
from tests.csm.tiny import TINY, make_mimi, make_model, write_checkpoint
from tests.support.tiny_models import write_llama, write_whisper

WHISPER = "Systran/faster-whisper-base.en"
"""What `base.en` stands for."""
LLAMA = "someone/tiny-llama"
CSM = "sesame/csm-1b"
"""Sesame's format and transformers' in one repository. Parley reads the first, whose codec is in another one."""
MIMI = "kyutai/moshiko-pytorch-bf16"
TUNED = "someone/csm-tuned"
"""In transformers' format alone, in shards, its codec within."""
MINILM = "someone/tiny-minilm"

WORDS = 60_000
"""Rows of the voice's text embedding: 15 MB, so that a download can be killed in the middle of a file."""


def write_repositories(folder: Path) -> dict[str, Path]:
    """Each repository's folder by its name."""
    return {
        WHISPER: write_whisper(folder / "whisper"),
        LLAMA: write_llama(
            folder / "llama", shape={"max_position_embeddings": 8192}
        ),  # as many as Parley asks vLLM for
        CSM: write_both_formats(folder / "csm"),
        MIMI: write_codec(folder / "mimi"),
        TUNED: write_checkpoint(folder / "tuned", "transformers", shard_bytes=100_000),
        MINILM: write_sentence_model(folder / "minilm"),
    }


def write_both_formats(folder: Path) -> Path:
    """As sesame/csm-1b: the original's file, the shards of transformers' format, and one config.json with both."""
    model = make_model(replace(TINY, text_vocab_size=WORDS))
    write_checkpoint(folder, "transformers", model=model, shard_bytes=100_000)
    for file in [*folder.glob("model-*"), folder / "model.safetensors.index.json"]:
        file.rename(folder / file.name.replace("model", "transformers", 1))
    save(model, folder, described=json.loads((folder / "config.json").read_text()))
    return folder


def write_codec(folder: Path) -> Path:
    """Mimi alone."""
    write_checkpoint(folder, mimi=make_mimi())
    for file in folder.iterdir():
        if not file.name.startswith("tokenizer-"):
            file.unlink()
    return folder


def write_sentence_model(folder: Path) -> Path:
    """The shape of all-MiniLM-L6-v2 as sentence-transformers keeps it, with one narrow layer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = [*special, *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    torch.manual_seed(0)
    bert = BertModel(
        BertConfig(
            vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=512,
        )
    )  # fmt: skip
    source = folder.with_name(f"{folder.name}-bert")
    bert.save_pretrained(source)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=512,
    ).save_pretrained(source)  # fmt: skip
    words = Transformer(str(source), max_seq_length=256)
    sentence = SentenceTransformer(modules=[words, Pooling(32), Normalize()], device="cpu")
    sentence.save(str(folder))
    return folder
