"""All engines to choose from. To add one, write its file beside the Protocol of its stage in `pipeline`, and an entry
here. The sizes of recommended models are in config/models.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from config import precision
from config.cache import Source
from config.fetches import MIMI, gguf_file, language_model_files, speech_model_files, whisper_files
from config.packages import KOKORO, KOKORO_VOICES, PIPER_JOE, SMOLLM2_135M, WHISPER_BASE
from config.settings import Settings

Stage = Literal["ears", "mind", "voice"]

CSM_1B = "sesame/csm-1b"
PIPER, KOKORO_82M = "en_US-joe-medium", "hexgrad/Kokoro-82M"
NATURAL_PACE = 175
"""The setting, in words per minute, at which Piper and Kokoro speak at their natural pace."""


def _nothing(_: str) -> tuple[Source, ...]:
    return ()


def _gguf(model: str) -> tuple[Source, ...]:
    """Return the file to download; nothing for a model from Ollama."""
    source = SMOLLM2_135M if model == SMOLLM2_135M.name else gguf_file(model)
    return (source,) if source is not None else ()


@dataclass(frozen=True, slots=True)
class EngineSpec:
    stage: Stage
    name: str
    """Its name in the settings."""
    label: str
    line: str
    """One honest line for the setup page."""
    target: str
    """"module:Class", imported when the engine is chosen, so that nobody else needs its packages."""
    arguments: Callable[[Settings, Path], Mapping[str, object]]
    """The arguments of the class, from the settings and the data folder. When they change, the engine is reloaded."""
    model: str = ""
    """The model it loads if the settings name none; empty if it includes its own, or a server has it."""
    files: Callable[[str], tuple[Source, ...]] = _nothing
    """The files it reads for a model of that name, downloaded from the hub or taken from packages."""

    @property
    def downloads(self) -> bool:
        """Whether it downloads a model before its first use."""
        return bool(self.model)


CATALOGUE: Mapping[tuple[str, str], EngineSpec] = MappingProxyType(
    {
        (spec.stage, spec.name): spec
        for spec in (
            EngineSpec(
                "ears",
                "pocketsphinx",
                "PocketSphinx",
                "Needs no download. Understands short, clear English questions, but not long sentences.",
                "pipeline.stt.pocketsphinx:PocketSphinx",
                lambda settings, data: {"language": settings.ears.language},
            ),
            EngineSpec(
                "ears",
                "whisper",
                "Whisper",
                "Understands everyday speech well. The large model needs a graphics card.",
                "pipeline.stt.whisper:Whisper",
                lambda settings, data: {
                    "model": named("ears", "whisper", settings.ears.model),
                    "language": settings.ears.language,
                },
                model="base.en",
                files=lambda model: (WHISPER_BASE if model == "base" else whisper_files(model),),
            ),
            EngineSpec(
                "mind",
                "builtin",
                "Built-in replies",
                "Needs no download. Not a language model: greets, tells the time, remembers what you tell it.",
                "pipeline.llm.builtin:BuiltinReplies",
                lambda settings, data: {},
            ),
            EngineSpec(
                "mind",
                "openai",
                "Your own server",
                "Ollama, llama.cpp, LM Studio, vLLM elsewhere, or an online service. As good as the model it runs.",
                "pipeline.llm.openai:OpenAIChat",
                lambda settings, data: {
                    "url": settings.mind.url,
                    "model": settings.mind.model,
                    "api_key": settings.mind.api_key.get_secret_value(),
                },
            ),
            EngineSpec(
                "mind",
                "vllm",
                "vLLM",
                "Runs a language model on this computer, best with a graphics card. Takes a minute to start.",
                "pipeline.llm.vllm:Vllm",
                lambda settings, data: {
                    "model": named("mind", "vllm", settings.mind.model),
                    "log": data / "logs" / "vllm.log",
                },
                model="Qwen/Qwen3-4B-Instruct-2507",
                files=lambda model: (language_model_files(model),),
            ),
            EngineSpec(
                "mind",
                "llama",
                "llama.cpp",
                "Runs a language model on this computer, even without a graphics card. The smallest one only chats; "
                "larger ones, from Hugging Face or Ollama, know more.",
                "pipeline.llm.llama:Llama",
                lambda settings, data: {"model": named("mind", "llama", settings.mind.model)},
                model=SMOLLM2_135M.name,
                files=_gguf,
            ),
            EngineSpec(
                "mind",
                "transformers",
                "Transformers",
                "Runs a small language model on this computer. Slow without a graphics card.",
                "pipeline.llm.transformers:Transformers",
                lambda settings, data: {"model": named("mind", "transformers", settings.mind.model)},
                model="Qwen/Qwen2.5-0.5B-Instruct",
                files=lambda model: (language_model_files(model),),
            ),
            EngineSpec(
                "voice",
                "espeak",
                "eSpeak NG",
                "Needs no download. Clear and instant, in over a hundred languages, but sounds like a machine.",
                "pipeline.tts.espeak:Espeak",
                lambda settings, data: {
                    "voice": settings.voice.name if settings.voice.name not in ("", *KOKORO_VOICES) else "en-us",
                    "words_per_minute": settings.voice.words_per_minute,
                    "pitch": settings.voice.pitch,
                    "volume": settings.voice.volume,
                },
            ),
            EngineSpec(
                "voice",
                "piper",
                "Piper",
                "A clear voice that answers quickly, even on two cores. American English.",
                "pipeline.tts.piper:Piper",
                lambda settings, data: {
                    "model": named("voice", "piper", settings.voice.model),
                    "speed": settings.voice.words_per_minute / NATURAL_PACE,
                    "volume": settings.voice.volume,
                },
                model=PIPER,
                files=lambda model: (PIPER_JOE,),
            ),
            EngineSpec(
                "voice",
                "kokoro",
                "Kokoro",
                "Natural voices to choose from, American and British. Needs four cores to answer quickly.",
                "pipeline.tts.kokoro:Kokoro",
                lambda settings, data: {
                    # a name that was chosen for another engine means nothing to this one
                    "voice": settings.voice.name if settings.voice.name in KOKORO_VOICES else "af_heart",
                    "speed": settings.voice.words_per_minute / NATURAL_PACE,
                    "volume": settings.voice.volume,
                },
                model=KOKORO_82M,
                files=lambda model: (KOKORO,),
            ),
            EngineSpec(
                "voice",
                "csm",
                "CSM-1B",
                "A natural voice, cloned from a recording. Without a graphics card, it only just keeps up with speech.",
                "pipeline.tts.csm:Csm",
                lambda settings, data: {
                    "model": named("voice", "csm", settings.voice.model),
                    "voices": data / "voices",
                    "references": [(reference.recording, reference.text) for reference in settings.voice.references],
                    "precision": settings.voice.precision,
                    "adapter": settings.voice.adapter,
                    "measured": precision.chosen(data, named("voice", "csm", settings.voice.model)),
                },
                model=CSM_1B,
                files=lambda model: (
                    (speech_model_files(model), MIMI) if model == CSM_1B else (speech_model_files(model),)
                ),
            ),
        )
    }
)
"""The engines, by stage and name."""


def named(stage: Stage, engine: str, model: str) -> str:
    """The model in the settings, or the engine's default if they name none; empty if it has none."""
    spec = CATALOGUE.get((stage, engine))
    return model or (spec.model if spec is not None else "")


def fetches(stage: Stage, engine: str, model: str) -> tuple[Source, ...]:
    """What must be downloaded for a choice, including any hub id; nothing for the user's own folder."""
    spec, model = CATALOGUE.get((stage, engine)), named(stage, engine, model)
    return spec.files(model) if spec is not None and model and not is_path(model) else ()


def is_path(model: str) -> bool:
    """Whether a model's name means a folder on this machine, existing or not, rather than a model on the hub."""
    try:
        return model.startswith((".", "~")) or Path(model).is_absolute() or Path(model).exists()
    except (OSError, ValueError):  # too long for a file, or with a character that no file's name may have
        return False
