"""GGUF files: what their headers tell, what is refused before anything loads it, and by which names they are found."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import psutil
import pytest

from pipeline.engine import EngineError
from pipeline.llm import llama
from pipeline.llm.gguf import read
from pipeline.llm.gguf_files import file_of
from pipeline.llm.llama import TALKERS, check_processor, check_room, check_talks, usual_threads

Values = dict[str, str | int | list[str]]

TALKS: Values = {
    "general.architecture": "llama",
    "tokenizer.chat_template": "{{ messages }}",
    "llama.context_length": 2048,
    "llama.embedding_length": 64,
    "llama.block_count": 2,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def pair(key: str, value: str | int | list[str]) -> bytes:
    if isinstance(value, list):
        return text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(text(each) for each in value)
    if isinstance(value, int):
        return text(key) + struct.pack("<II", 4, value)
    return text(key) + struct.pack("<I", 8) + text(value)


def write(file: Path, values: Values, *, numbers: int = 64, missing: int = 0) -> Path:
    """A GGUF of one tensor of float16s, with as many bytes missing at its end."""
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, len(values)) + b"".join(pair(*each) for each in values.items())
    header += text("token_embd.weight") + struct.pack("<IQIQ", 1, numbers, 1, 0)
    header += bytes(-len(header) % 32)
    with file.open("wb") as content:
        content.write(header)
        content.truncate(len(header) + 2 * numbers - missing)
    return file


def test_a_header_tells_what_the_model_is(tmp_path: Path) -> None:
    header = read(write(tmp_path / "a.gguf", {**TALKS, "tokenizer.ggml.tokens": ["a", "b" * 300]}, numbers=1000))
    assert (header.architecture, header.context) == ("llama", 2048)
    assert (header.parameters, header.weight_bytes) == (1000, 2000)
    assert header.token_bytes() == 2 * 2 * 2 * (16 + 16), "two layers, two heads, keys and values of 16 numbers"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PK\x03\x04 something else", "is not a GGUF file: choose one whose name ends in .gguf."),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "is a GGUF file of version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1), "is incomplete: download it again."),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 60), "is not a valid GGUF file"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<I", 77),
            "is not a valid GGUF file",
        ),
    ],
)
def test_what_is_no_whole_gguf_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(EngineError, match=r"a.gguf") as refused:
        read(tmp_path / "a.gguf")
    assert sentence in str(refused.value)


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.gguf", TALKS, numbers=2_000_000, missing=3_000_000)
    with pytest.raises(EngineError, match=r"a.gguf is cut short: 1 of its 4 MB are here; fetch it again."):
        read(tmp_path / "a.gguf")


def test_a_model_that_is_not_made_for_talk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no chat template, so it is not made for conversation .*'clip'"):
        check_talks(read(write(tmp_path / "a.gguf", {"general.architecture": "clip"})), "a.gguf")


def test_a_model_larger_than_the_memory_is_refused(tmp_path: Path) -> None:
    header = read(write(tmp_path / "a.gguf", TALKS, numbers=4 << 30))
    contexts = TALKERS * 2048 * header.token_bytes()
    with pytest.raises(EngineError, match=r"a.gguf needs 8.8 GB of memory, and 4.0 GB are free: choose a smaller"):
        check_room(header, "a.gguf", 2048, 4 * 10**9)
    check_room(header, "a.gguf", 2048, header.weight_bytes + contexts + llama.COMPUTED_BYTES)


def test_an_old_processor_is_told_before_the_library_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama, "instructions", lambda: frozenset({"avx512f"}))
    with pytest.raises(EngineError, match=r"needs a processor with AVX2 or NEON, but this one has neither"):
        check_processor()
    for known in (frozenset({"avx2"}), frozenset({"neon"}), None):
        monkeypatch.setattr(llama, "instructions", lambda known=known: known)
        check_processor()


@pytest.mark.parametrize(("cores", "threads"), [(None, 1), (1, 1), (2, 2), (4, 3), (64, 8)])
def test_threads_leave_a_core_where_there_are_several(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, threads: int
) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: cores)
    assert usual_threads() == threads


def test_a_model_that_ollama_has_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    blob = tmp_path / "blobs" / f"sha256-{'a' * 64}"
    manifest = tmp_path / "manifests/registry.ollama.ai/library/llama3.2/latest"
    for folder in (blob.parent, manifest.parent):
        folder.mkdir(parents=True)
    layers = [
        {"mediaType": "application/vnd.ollama.image.license", "digest": f"sha256:{'b' * 64}"},
        {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{'a' * 64}"},
    ]
    manifest.write_text(json.dumps({"layers": layers}))
    with pytest.raises(EngineError, match=r"`ollama pull llama3.2` downloads it"):
        file_of("ollama:llama3.2", lambda progress: None)  # its weights are not here
    blob.touch()
    assert file_of("ollama:llama3.2", lambda progress: None) == blob
    assert file_of("ollama:llama3.2:latest", lambda progress: None) == blob
    with pytest.raises(EngineError, match=r"Ollama has no model 'llama3.2:1b'"):
        file_of("ollama:llama3.2:1b", lambda progress: None)
    layers[1]["digest"] = "sha256:../../elsewhere"
    manifest.write_text(json.dumps({"layers": layers}))
    for name in ("llama3.2", "../../secret", "a/b/c/d", ""):
        with pytest.raises(EngineError, match=r"Ollama"):
            file_of(f"ollama:{name}", lambda progress: None)


@pytest.mark.parametrize("name", ["./nowhere.gguf", "/nowhere.gguf", "owner/name", "owner/name/../../x.gguf", "gpt"])
def test_a_name_that_means_no_file_is_refused_without_asking_the_hub(name: str) -> None:
    with pytest.raises(EngineError, match=r"is not a GGUF file: choose a file on this computer"):
        file_of(name, lambda progress: None)
