"""How Parley describes itself: its ears, voices and mind."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from wyoming.info import (
    AsrModel,
    AsrProgram,
    Attribution,
    HandleModel,
    HandleProgram,
    Info,
    TtsProgram,
    TtsVoice,
)

from config.engines import CATALOGUE, Stage, named
from config.packages import KOKORO_VOICES
from pipeline.engine import EngineError
from web.api.audio.errors import Refused
from web.api.audio.voice_choice import OWN, speakable
from web.service import Service
from web.voices import Voices

NAME = "parley"
_ATTRIBUTION = Attribution("Parley", "")

WHISPER = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt "
    "la mi ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc "
    "ka be tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue"
).split()
"""The languages of its multilingual models (openai/whisper, tokenizer.py), the best known first."""
ENGLISH_MINDS = "smollm2"
"""Its model card names no language but English."""


async def info(service: Service, voices: Voices) -> Info:
    """Describe what runs now. A stage that is still loading is listed too, and says so when it is used."""
    settings = service.settings
    asr = AsrProgram(
        **_about(NAME, _label(service, "ears")),
        models=[AsrModel(**_about(settings.ears.engine, _label(service, "ears")), languages=ears_languages(service))],
        supports_transcript_streaming=True,
    )
    tts = TtsProgram(
        **_about(NAME, _label(service, "voice")),
        voices=await _voices(service, voices),
        supports_synthesize_streaming=True,
    )
    mind = HandleProgram(
        **_about(NAME, _label(service, "mind")),
        models=[
            HandleModel(**_about(settings.mind.engine, _label(service, "mind")), languages=mind_languages(service))
        ],
        supports_handled_streaming=True,
    )
    return Info(asr=[asr], tts=[tts], handle=[mind])


def ears_languages(service: Service) -> list[str]:
    ears = service.settings.ears
    if ears.engine != "whisper" or named("ears", "whisper", ears.model).endswith(".en"):
        return ["en"]
    return list(WHISPER)


def mind_languages(service: Service) -> list[str]:
    """Return the ears' languages, or only English for a small mind that knows no other."""
    mind = service.settings.mind
    if mind.engine == "builtin" or ENGLISH_MINDS in named("mind", mind.engine, mind.model).lower():
        return ["en"]
    return ears_languages(service)


async def voice_of(service: Service, voices: Voices, language: str) -> str:
    """Return the first voice of a language, for a client that names none. Raises Refused if there is none."""
    offered = await _voices(service, voices)
    fitting = (voice.name for voice in offered if base(language) in map(base, voice.languages))
    if (name := next(fitting, None)) is None:
        raise Refused(400, f"No voice speaks {language[:20]!r}: choose a voice by name.", "voice", "voice_not_found")
    return name


def base(language: str) -> str:
    """Return a language without its region: `en` for en-US and en_US."""
    return language.lower().partition("-")[0].partition("_")[0]


async def _voices(service: Service, voices: Voices) -> list[TtsVoice]:
    own = service.settings.voice.name
    offered = [TtsVoice(**_about(OWN, "Parley, as set up"), languages=[_language(own) or "en"])]
    with suppress(EngineError):
        offered += [
            TtsVoice(**_about(voice.name, voice.label), languages=[_language(voice.name) or "en"])
            for voice in await service.engines.voices()
        ]
    offered += [TtsVoice(**_about(voice.id, voice.name), languages=["en"]) for voice in speakable(service, voices)]
    return offered


def _language(voice: str) -> str:
    """Return a voice's language by its name: Kokoro's begin with the accent, eSpeak's are languages themselves."""
    if voice in KOKORO_VOICES:
        return "en-US" if voice.startswith("a") else "en-GB"
    language, _, region = voice.partition("+")[0].partition("-")
    return f"{language}-{region.upper()}" if len(region) == 2 else language


def _label(service: Service, stage: Stage) -> str:
    engine = getattr(service.settings, stage).engine
    spec = CATALOGUE.get((stage, engine))
    return spec.label if spec is not None else engine


def _about(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name, "description": description, "attribution": _ATTRIBUTION, "installed": True, "version": None,
    }  # fmt: skip
