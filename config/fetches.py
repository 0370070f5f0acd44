"""Which files of a hub repository an engine reads. Data only."""

from __future__ import annotations

import re
from dataclasses import dataclass

CODEC_FILE, CODEC_TENSORS = "tokenizer-*.safetensors", "codec_model."
"""How a speech model brings its codec: Sesame's format as a file beside it, transformers' as tensors of its own."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Which files of a repository on the hub an engine reads."""

    repository: str
    files: tuple[str, ...]
    """Patterns of those that are always wanted."""
    weights: tuple[str, ...]
    """Patterns of the weights, the best first: only what the first that matches anything names is fetched."""
    architectures: tuple[str, ...] = ()
    """Patterns of the classes that its config.json may name. One that names none is tried."""
    codec: Fetch | None = None
    """What is read too, where the repository brings no codec."""


_WHISPER = {
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "large": "Systran/faster-whisper-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
}
"""Sizes whose repository is not named as the others are."""


def whisper_files(model: str) -> Fetch:
    """As faster-whisper reads them: a size has its repository; a name with a slash is one."""
    named = model.replace("distil-", "distil-whisper-", 1) if model.startswith("distil-") else f"whisper-{model}"
    repository = model if "/" in model else _WHISPER.get(model, f"Systran/faster-{named}")
    return Fetch(
        repository, ("config.json", "preprocessor_config.json", "tokenizer.json", "vocabulary.*"), ("model.bin",)
    )


def language_model_files(repository: str) -> Fetch:
    return Fetch(
        repository,
        ("*.json", "*.txt", "*.model", "*.jinja"),
        ("*.safetensors",),
        ("*ForCausalLM", "*LMHeadModel", "*ForConditionalGeneration"),
    )


def gguf_file(name: str) -> Fetch | None:
    """One file of a repository, written owner/name/file.gguf or owner/name:file.gguf; None for any other name."""
    named = re.fullmatch(r"([\w.-]+/[\w.-]+)[/:]((?:[\w-][\w.-]*/)*[\w-][\w.-]*\.gguf)", name)
    return Fetch(named[1], (), (named[2],)) if named else None


MIMI = Fetch("kyutai/moshiko-pytorch-bf16", (), ("tokenizer-e351c8d8-checkpoint125.safetensors",))


def speech_model_files(repository: str) -> Fetch:
    """Of a repository with both of CSM's formats only the original's one file is read."""
    return Fetch(
        repository,
        ("*.json", CODEC_FILE),
        ("model-*.safetensors", "model.safetensors", "*.safetensors"),
        ("CsmForConditionalGeneration",),
        MIMI,
    )
