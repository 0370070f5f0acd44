"""Questions go before what is done behind them."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import rag.precedence
from rag import Memory
from rag.precedence import Precedence
from tests.rag.conftest import WordEmbedder


def test_work_waits_for_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rag.precedence, "PATIENCE", 60.0)
    precedence, order = Precedence(), list[str]()

    def work() -> None:
        precedence.give_way()
        order.append("work")

    worker = threading.Thread(target=work)
    with precedence.question():
        worker.start()
        worker.join(timeout=0.1)  # time enough for what does not wait
        order.append("answer")
    worker.join()
    assert order == ["answer", "work"]


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rag.precedence, "PATIENCE", 0.0)
    precedence = Precedence()
    with precedence.question():
        precedence.give_way()


def test_the_collector_waits_and_goes_on() -> None:
    precedence = Precedence()
    with pytest.raises(ZeroDivisionError), precedence.question():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()
    gc.disable()
    try:
        with precedence.question():
            pass
        assert not gc.isenabled()  # whoever has turned it off keeps it off
    finally:
        gc.enable()


class Stuck(WordEmbedder):
    """Turns get no vectors until it is let go; questions do."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if any(text.startswith("Ann: ") for text in texts):
            self.let_go.wait()
        return super().embed(texts)


def test_while_turns_wait_for_their_vectors_words_and_claims_answer(tmp_path: Path) -> None:
    lines = [
        {"speaker": "Ann", "text": text, "at": datetime(2026, 5, 3, tzinfo=UTC).isoformat(), "conversation": "c"}
        for text in ["Call me Sasha.", "The cello is in the attic.", *(f"Nothing new, {n}." for n in range(300))]
    ]
    file = tmp_path / "turns.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    embedder = Stuck()
    with Memory(tmp_path / "memory", embedder=embedder) as memory:
        try:
            memory.import_(file)
            found = [item.text for item in memory.recall("Where is the cello?").items]
            assert "The cello is in the attic." in found[:2]
            while memory._turns.claims.unread():  # half a millisecond a turn, before any vector
                pass
            assert memory.recall("What am I called?", asker="Ann").items[0].text == "Call me Sasha."
            assert memory.size().waiting == len(lines)
        finally:
            embedder.let_go.set()
