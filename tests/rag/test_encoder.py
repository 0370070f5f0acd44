"""A text's vector is the model's own, however it is reckoned."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from rag import SentenceEmbedder, encoder
from rag.embedding import bundled_model
from rag.encoder import EQUAL, Encoder, encoder_of_files, encoder_of_model

TEXTS = [
    "",
    "Hello.",
    "When did Ann talk about the cello, and where?",
    "アンさんの電話番号は何ですか",
    "👩‍👩‍👧‍👦 <b>!?</b>",
    "word " * 2000,
]


def folder() -> Path:
    found = bundled_model()
    assert found is not None
    return found


@pytest.fixture(scope="module")
def transformer() -> SentenceTransformer:
    return SentenceTransformer(str(folder()), device="cpu")


@pytest.fixture(params=["files", "model"])
def exact(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, transformer: SentenceTransformer) -> Encoder:
    """In float32, made in both ways."""
    monkeypatch.setattr(encoder, "_multiplies_bfloat16", lambda: False)
    made = encoder_of_files(folder()) if request.param == "files" else encoder_of_model(transformer)
    assert made is not None
    return made


def test_one_text_alone_gets_the_vector_that_it_gets_among_others(
    exact: Encoder, transformer: SentenceTransformer
) -> None:
    own = transformer.encode(TEXTS, normalize_embeddings=True)
    assert max(np.abs(exact.embed([text])[0] - vector).max() for text, vector in zip(TEXTS, own, strict=True)) < EQUAL


def test_texts_in_one_row_do_not_see_each_other(exact: Encoder, transformer: SentenceTransformer) -> None:
    own = transformer.encode(TEXTS, normalize_embeddings=True)
    assert np.abs(exact.embed(TEXTS) - own).max() < EQUAL
    assert exact.embed([]).shape == (0, own.shape[1])


def test_in_bfloat16_it_points_the_same_way(monkeypatch: pytest.MonkeyPatch, transformer: SentenceTransformer) -> None:
    monkeypatch.setattr(encoder, "_multiplies_bfloat16", lambda: True)
    halved = encoder_of_files(folder())
    assert halved is not None and halved._token.dtype == torch.bfloat16
    own = transformer.encode(TEXTS, normalize_embeddings=True)
    assert min(halved.embed([text])[0] @ vector for text, vector in zip(TEXTS, own, strict=True)) > 0.9995


def test_the_embedder_gives_one_the_same_as_many(model: SentenceEmbedder) -> None:
    several = model.embed(TEXTS)
    assert min(model.embed([text])[0] @ several[n] for n, text in enumerate(TEXTS)) > 0.9995


def test_the_bundled_model_needs_no_library_that_takes_seconds_to_import(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sentence_transformers", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    assert SentenceEmbedder().embed(["Hello."]).shape == (1, 384)


def test_a_model_that_pools_otherwise_is_left_to_sentence_transformers(transformer: SentenceTransformer) -> None:
    pooling: Any = transformer[1]
    usual = pooling.pooling_mode
    pooling.pooling_mode = "cls" if isinstance(usual, str) else ("cls",)
    try:
        assert encoder_of_model(transformer) is None
    finally:
        pooling.pooling_mode = usual


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", lambda config: config | {"model_type": "mpnet"}),
        ("config.json", lambda config: config | {"hidden_act": "relu"}),
        ("1_Pooling/config.json", lambda config: config | {"pooling_mode_cls_token": True}),
        ("1_Pooling/config.json", lambda config: config | {"pooling_mode_mean_tokens": False}),
        ("modules.json", lambda steps: [*steps, {"type": "sentence_transformers.models.Dense"}]),
        ("modules.json", lambda steps: steps[:1]),
    ],
)
def test_files_of_another_kind_are_left_to_sentence_transformers(
    tmp_path: Path, file: str, change: Callable[[Any], Any]
) -> None:
    for name in ("config.json", "1_Pooling/config.json", "modules.json", "sentence_bert_config.json", "tokenizer.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder() / name, tmp_path / name)
    (tmp_path / "model.safetensors").symlink_to(folder() / "model.safetensors")
    assert encoder_of_files(tmp_path) is not None
    (tmp_path / file).write_text(json.dumps(change(json.loads((tmp_path / file).read_text()))))
    assert encoder_of_files(tmp_path) is None
