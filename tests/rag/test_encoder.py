"""A question's vector is the model's own, however it is reckoned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from rag import SentenceEmbedder
from rag.embedding import bundled_model
from rag.encoder import EQUAL, ShortEncoder, short_encoder

TEXTS = [
    "",
    "Hello.",
    "When did Ann talk about the cello, and where?",
    "アンさんの電話番号は何ですか",
    "👩‍👩‍👧‍👦 <b>!?</b>",
    "word " * 2000,
]


@pytest.fixture(scope="module")
def transformer() -> SentenceTransformer:
    folder = bundled_model()
    assert folder is not None
    return SentenceTransformer(str(folder), device="cpu")


def test_one_text_alone_gets_the_vector_that_it_gets_among_others(transformer: SentenceTransformer) -> None:
    encoder = ShortEncoder(transformer)
    own = transformer.encode(TEXTS, normalize_embeddings=True)
    assert max(np.abs(encoder.embed([text])[0] - vector).max() for text, vector in zip(TEXTS, own, strict=True)) < EQUAL


def test_texts_in_one_row_do_not_see_each_other(transformer: SentenceTransformer) -> None:
    own = transformer.encode(TEXTS, normalize_embeddings=True)
    assert np.abs(ShortEncoder(transformer).embed(TEXTS) - own).max() < EQUAL


def test_in_bfloat16_it_points_the_same_way(transformer: SentenceTransformer) -> None:
    encoder = ShortEncoder(transformer, torch.bfloat16)
    own = transformer.encode(TEXTS, normalize_embeddings=True)
    assert min(encoder.embed([text])[0] @ vector for text, vector in zip(TEXTS, own, strict=True)) > 0.9995


def test_the_embedder_gives_one_the_same_as_many(model: SentenceEmbedder) -> None:
    several = model.embed(TEXTS)
    assert min(model.embed([text])[0] @ several[n] for n, text in enumerate(TEXTS)) > 0.9995


def test_a_model_that_pools_otherwise_is_left_to_sentence_transformers(transformer: SentenceTransformer) -> None:
    pooling: Any = transformer[1]
    usual = pooling.pooling_mode
    pooling.pooling_mode = "cls" if isinstance(usual, str) else ("cls",)
    try:
        assert short_encoder(transformer) is None
    finally:
        pooling.pooling_mode = usual
