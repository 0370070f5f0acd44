"""The engines there are to choose from. To add one: a file beside its stage's Protocol, and an entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast

from config.models import DEFAULTS
from config.profiles import Profile
from config.settings import Settings
from pipeline.engine import Engine, EngineError
from pipeline.tts.precision import chosen

Stage = Literal["ears", "mind", "voice"]


@dataclass(frozen=True, slots=True)
class EngineSpec:
    stage: Stage
    name: str
    label: str
    line: str
    """One honest line for the setup page."""
    downloads: bool
    """Whether it fetches a model before its first use."""
    target: str
    """"module:Class", imported when it is chosen, so that an engine's packages are nobody else's need."""
    arguments: Callable[[Settings, Path], Mapping[str, object]]
    """What the class is made with, from the settings and the data folder. When these change, it is loaded anew."""

    def create(self, settings: Settings, data: Path) -> Engine:
        """Raises EngineError when its packages are not installed."""
        module, _, name = self.target.partition(":")
        try:
            made = getattr(import_module(module), name)
        except ImportError as error:
            raise EngineError(
                f"{self.label} cannot be used ({error}): run `python3 setup.py` to install it."
            ) from error
        return cast(Engine, made(**self.arguments(settings, data)))


CATALOGUE: Mapping[tuple[str, str], EngineSpec] = MappingProxyType(
    {
        (spec.stage, spec.name): spec
        for spec in (
            EngineSpec(
                "ears",
                "pocketsphinx",
                "PocketSphinx",
                "Needs no download. Understands short, clear English questions; long sentences poorly.",
                downloads=False,
                target="pipeline.stt.pocketsphinx:PocketSphinx",
                arguments=lambda settings, data: {"language": settings.ears.language},
            ),
            EngineSpec(
                "ears",
                "whisper",
                "Whisper",
                "Understands everyday speech well. The large model wants a graphics card.",
                downloads=True,
                target="pipeline.stt.whisper:Whisper",
                arguments=lambda settings, data: {
                    "model": settings.ears.model or DEFAULTS["whisper"],
                    "language": settings.ears.language,
                },
            ),
            EngineSpec(
                "mind",
                "builtin",
                "Built-in replies",
                "Needs no download. Not a language model: greets, tells the time, remembers what you tell it.",
                downloads=False,
                target="pipeline.llm.builtin:BuiltinReplies",
                arguments=lambda settings, data: {},
            ),
            EngineSpec(
                "mind",
                "openai",
                "A server of yours",
                "Ollama, llama.cpp, LM Studio, vLLM elsewhere, or a service: as good as its model.",
                downloads=False,
                target="pipeline.llm.openai:OpenAIChat",
                arguments=lambda settings, data: {
                    "url": settings.mind.url,
                    "model": settings.mind.model,
                    "api_key": settings.mind.api_key.get_secret_value(),
                },
            ),
            EngineSpec(
                "mind",
                "vllm",
                "vLLM",
                "A language model on this computer. Wants a graphics card, and takes a minute to start.",
                downloads=True,
                target="pipeline.llm.vllm:Vllm",
                arguments=lambda settings, data: {
                    "model": settings.mind.model or DEFAULTS["vllm"],
                    "log": data / "logs" / "vllm.log",
                },
            ),
            EngineSpec(
                "mind",
                "transformers",
                "Transformers",
                "A small language model on this computer, without a server. On a processor it takes its time.",
                downloads=True,
                target="pipeline.llm.transformers:Transformers",
                arguments=lambda settings, data: {"model": settings.mind.model or DEFAULTS["transformers"]},
            ),
            EngineSpec(
                "voice",
                "espeak",
                "eSpeak NG",
                "Needs no download. Clear and instant, in over a hundred languages, but sounds like a machine.",
                downloads=False,
                target="pipeline.tts.espeak:Espeak",
                arguments=lambda settings, data: {
                    "voice": settings.voice.name or "en-us",
                    "words_per_minute": settings.voice.words_per_minute,
                    "pitch": settings.voice.pitch,
                    "volume": settings.voice.volume,
                },
            ),
            EngineSpec(
                "voice",
                "csm",
                "CSM-1B",
                "A natural voice, made from a recording. On a processor it keeps the pace of speech at best.",
                downloads=True,
                target="pipeline.tts.csm:Csm",
                arguments=lambda settings, data: {
                    "model": settings.voice.model or DEFAULTS["csm"],
                    "voices": data / "voices",
                    "references": [(reference.recording, reference.text) for reference in settings.voice.references],
                    "precision": settings.voice.precision,
                    "measured": chosen(data, settings.voice.model or DEFAULTS["csm"]),
                },
            ),
        )
    }
)
"""By stage and name."""


def offered(profile: Profile) -> bool:
    """Whether every engine of it is in the catalogue."""
    return all((stage, choice.engine) in CATALOGUE for stage, choice in profile.choices)
