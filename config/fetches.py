"""Which files an engine reads of a repository on the hub. Data."""

from __future__ import annotations

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


def whisper_files(repository: str) -> Fetch:
    """As faster-whisper reads them."""
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
