"""Twenty questions in each language about talks in it, by words alone: the vectors here know nothing of meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.conversations import talks
from rag import Memory
from tests.rag.conftest import WordEmbedder


@pytest.mark.parametrize(("language", "least"), [("de", 12), ("es", 17), ("fr", 16), ("zh", 16)])
def test_what_was_said_is_found_in_its_language(tmp_path: Path, words: WordEmbedder, language: str, least: int) -> None:
    held = talks(language)
    assert len(held.questions) == 20
    whole = sum(len(f"{turn.speaker}: {turn.text}") for turn in held.turns)
    with Memory(tmp_path, embedder=words) as memory:
        ids = {
            memory.remember(turn.speaker, turn.text, at=turn.at, conversation=turn.conversation): turn.id
            for turn in held.turns
        }
        memory.settle()
        missed = []
        for question in held.questions:
            recall = memory.recall(question.text, budget_chars=whole // 5, now=held.now, asker=question.asker)
            if not set(question.evidence) <= {ids[item.id] for item in recall.items}:
                missed.append(question.text)
    assert 20 - len(missed) >= least, missed
