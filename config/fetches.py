"""Which files of a hub repository an engine reads. Data only."""

from __future__ import annotations

import re
from dataclasses import dataclass

CODEC_FILE, CODEC_TENSORS = "tokenizer-*.safetensors", "codec_model."
"""The codec's files in Sesame's format, and the prefix of its tensors in transformers' format."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """The files of a hub repository that an engine reads."""

    repository: str
    files: tuple[str, ...]
    """Patterns of the files that are always needed."""
    weights: tuple[str, ...]
    """Patterns of the weights, best first; only the files of the first pattern that matches any are downloaded."""
    architectures: tuple[str, ...] = ()
    """Patterns for the classes in the model's config.json. A config that names no class is accepted."""
    codec: Fetch | None = None
    """What to download as well if the repository includes no codec."""


_WHISPER = {
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "large": "Systran/faster-whisper-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
}
"""Sizes whose repository does not follow the naming of the others."""


def whisper_files(model: str) -> Fetch:
    """Return the files as faster-whisper finds them: a size has its repository; a name with a slash is a repository."""
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
    """Return one file, named owner/name/file.gguf or owner/name:file.gguf; None for any other name."""
    named = re.fullmatch(r"([\w.-]+/[\w.-]+)[/:]((?:[\w-][\w.-]*/)*[\w-][\w.-]*\.gguf)", name)
    return Fetch(named[1], (), (named[2],)) if named else None


def sentence_model_files(repository: str) -> Fetch:
    """Return the files of a model in sentence-transformers' format."""
    return Fetch(repository, ("*.json", "*.txt", "*.model"), ("model.safetensors",))


MIMI = Fetch("kyutai/moshiko-pytorch-bf16", (), ("tokenizer-e351c8d8-checkpoint125.safetensors",))


def speech_model_files(repository: str) -> Fetch:
    """Return the files to read; if a repository has both of CSM's formats, only the original's single weights file."""
    return Fetch(
        repository,
        ("*.json", CODEC_FILE),
        ("model-*.safetensors", "model.safetensors", "*.safetensors"),
        ("CsmForConditionalGeneration",),
        MIMI,
    )
