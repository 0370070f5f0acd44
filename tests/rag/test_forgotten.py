"""What was forgotten is gone: from every answer, and from every byte on the disk."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb.api.models.Collection import Collection

from rag import Memory
from rag.store import Which
from rag.vectors import Vectors
from tests.rag.conftest import WordEmbedder

SECRET = "swordfish"


def bytes_on_disk(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


@pytest.mark.parametrize("how", ["id", "day", "conversation", "everything", "corrected"])
def test_words_and_vectors_leave_the_disk(tmp_path: Path, words: WordEmbedder, long_memory: Path, how: str) -> None:
    spoken = f"Ann: My {SECRET} is well hidden."
    shutil.copytree(long_memory, tmp_path / "memory")
    with Memory(tmp_path / "memory", embedder=words) as memory:
        id = memory.remember("Ann", spoken.removeprefix("Ann: "), conversation="secret")
        memory.settle()
        (vector,) = words.embed([spoken])
        traces = [SECRET.encode(), id.encode(), (vector / np.linalg.norm(vector)).astype("<f4").tobytes()[:16]]
        before = bytes_on_disk(tmp_path)
        assert SECRET.encode() in before and id.encode() in before
        if how == "corrected":
            memory.correct(id, "Nothing to see.")
            traces.remove(id.encode())
        else:
            day = memory.turns(conversation="secret")[0].at.date()
            options = {"id": id, "day": day, "conversation": "secret", "everything": True}
            assert memory.forget(**{how: options[how]}) in (1, 1101)  # type: ignore[arg-type]
        assert memory.search(SECRET) == []
        assert not any(SECRET in item.text for item in memory.recall(SECRET).items)
        assert memory.export(tmp_path / "export.jsonl") >= 0
        memory.settle()
        after = bytes_on_disk(tmp_path)
        assert [trace for trace in traces if trace in after] == []
        assert memory.notices == ()


def test_no_id_is_used_again(tmp_path: Path, words: WordEmbedder) -> None:
    seen: set[str] = set()
    for _ in range(3):
        with Memory(tmp_path, embedder=words) as memory:
            for number in range(50):
                id = memory.remember("Ann", f"turn {number}")
                assert id not in seen
                seen.add(id)
            memory.forget(everything=True)


def test_what_a_crash_left_between_text_and_vector_is_put_right(tmp_path: Path, words: WordEmbedder) -> None:
    with Memory(tmp_path, embedder=words) as memory:
        ids = [memory.remember("Ann", f"turn {number}") for number in range(10)]
        memory.settle()
        store, vectors = memory._turns, memory._indexer._vectors
        assert vectors is not None
        memory._indexer.due()
        store.remove(Which.of(ids=ids[:1]))  # killed before its vector went
        vectors.drop(ids[1:2])  # a vector lost
    with Memory(tmp_path, embedder=words) as memory:
        memory.warm()
        memory.settle()
        assert memory._indexer._vectors is not None
        assert memory._indexer._vectors.ids() == set(ids[1:])
        assert memory.size().waiting == 0


def test_questions_are_answered_while_the_vectors_files_are_written_anew(
    tmp_path: Path, words: WordEmbedder, long_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released = threading.Event(), threading.Event()
    upsert = Collection.upsert

    def held_up(self: Collection, *args: Any, **options: Any) -> None:
        if self.name.endswith(".new"):
            begun.set()
            assert released.wait(60)
        upsert(self, *args, **options)

    shutil.copytree(long_memory, tmp_path / "memory")
    with Memory(tmp_path / "memory", embedder=words) as memory, ThreadPoolExecutor(1) as other:
        kept, gone = memory.turns(limit=2)
        memory.warm()
        memory.settle()  # so that forgetting is over before the background begins to write anew
        monkeypatch.setattr(Collection, "upsert", held_up)
        memory.forget(id=gone.id)
        assert begun.wait(60)
        try:
            found = other.submit(memory.find, kept.text).result(60)
        finally:
            released.set()
        assert found.features["meaning"].max() > 7, "the vectors answer"
        memory.settle()
        assert memory.find(kept.text).features["meaning"].max() > 7


def half_written_anew(memory: Memory) -> tuple[Vectors, set[str]]:
    """A step of it; and the ids that it has copied."""
    memory.warm()
    memory.settle()
    vectors = memory._indexer._vectors
    assert vectors is not None and not vectors.compact()
    return vectors, vectors.ids() - set(vectors._uncopied)


def test_what_is_said_and_forgotten_between_two_steps_of_writing_anew(
    tmp_path: Path, words: WordEmbedder, long_memory: Path
) -> None:
    shutil.copytree(long_memory, tmp_path / "memory")
    with Memory(tmp_path / "memory", embedder=words) as memory:
        vectors, copied = half_written_anew(memory)
        gone = min(copied)
        memory.forget(id=gone)
        said = memory.remember("Ann", "It has a bell.")
        memory.settle()
        assert vectors.count() == 1100 and said in vectors.ids() and gone not in vectors.ids()
        assert memory.find("It has a bell.").features["meaning"].max() > 7
        assert gone.encode() not in bytes_on_disk(tmp_path) and memory.notices == ()


def test_writing_anew_that_was_cut_off_begins_again(tmp_path: Path, words: WordEmbedder, long_memory: Path) -> None:
    shutil.copytree(long_memory, tmp_path / "memory")
    with Memory(tmp_path / "memory", embedder=words) as memory:
        _, copied = half_written_anew(memory)
        gone = min(copied)
    with Memory(tmp_path / "memory", embedder=words) as memory:
        memory.forget(id=gone)
        memory.settle()
        vectors = memory._indexer._vectors
        assert vectors is not None and vectors.count() == 1099 and gone not in vectors.ids()
        assert gone.encode() not in bytes_on_disk(tmp_path)
        assert {collection.name.count(".") for collection in vectors._client.list_collections()} == {2}
