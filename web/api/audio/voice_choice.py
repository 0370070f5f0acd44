"""Which voice a client means: the one in the settings, one of the engine's, one made from a recording, or one of
OpenAI's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import cast

from config.packages import KOKORO_VOICES
from pipeline.engine import EngineError
from pipeline.engines.lease import LeasedVoice
from pipeline.tts import Imitating, ManyVoiced, Speaker, TextToSpeech
from web.api.audio.errors import Refused, explained
from web.service import Service
from web.voices import MadeVoice, Voices

OWN = "parley"
"""The voice of the settings, for clients that must name one."""

OPENAI = MappingProxyType(
    {
        "alloy": "af_alloy", "ash": "am_michael", "ballad": "bm_george", "cedar": "am_adam", "coral": "af_bella",
        "echo": "am_echo", "fable": "bm_fable", "marin": "af_heart", "nova": "af_nova", "onyx": "am_onyx",
        "sage": "af_sarah", "shimmer": "af_sky", "verse": "am_puck",
    }
)  # fmt: skip
"""OpenAI's voices (API reference, November 2026), and Kokoro's voice for each; six of them have the same name."""

Choose = Callable[[TextToSpeech], Speaker]

SHOWN = 12
"""The number of names given as examples."""


async def is_taken(service: Service, name: str) -> bool:
    """Whether the name is already a voice of OpenAI's, Kokoro's or the engine's, which a voice made here would hide."""
    known = {OWN, *OPENAI, *KOKORO_VOICES}
    with suppress(EngineError):  # while the engine is loading, its own voices are not known
        known |= {voice.name.lower() for voice in await service.engines.voices()}
    return name.lower().partition("+")[0] in known  # eSpeak's voices have variants, as in en+f3


def running_voice(service: Service) -> LeasedVoice:
    """Return the running voice. Raises Refused (503) while there is none."""
    with explained():
        return cast(LeasedVoice, service.engines.running("voice"))


def speakable(service: Service, voices: Voices) -> list[MadeVoice]:
    """Return the voices made here, if the running engine can speak like a recording."""
    with suppress(EngineError, Refused):
        if isinstance(running_voice(service).current.engine, Imitating):
            return voices.all()
    return []


async def chosen(service: Service, voices: Voices, name: str) -> Choose:
    """Return how to create the speaker that a client asks for.

    Args:
        name: empty for the settings' voice.

    Raises:
        Refused: there is no such voice, or the running engine cannot speak with it.
    """
    engine = running_voice(service).current.engine
    if name in ("", OWN):
        return _own
    if (made := voices.find(name)) is not None:
        return like(engine, [(voices.sample(made), made.text)], name)
    known = []
    if isinstance(engine, ManyVoiced):
        with explained():
            known = [voice.name for voice in await engine.voices()]
    if name.partition("+")[0] in known:
        return _of(name)
    if (meant := OPENAI.get(name.lower())) is not None:
        return _of(meant) if meant in known else _own
    if name in KOKORO_VOICES:
        raise Refused(
            400, f"The voice {name} belongs to Kokoro: choose Kokoro on the setup page.", "voice", "voice_not_found"
        )
    examples = ", ".join([OWN, *known[:SHOWN], *(voice.name for voice in speakable(service, voices)[:SHOWN])])
    raise Refused(400, f"There is no voice {name[:100]!r}: choose one such as {examples}.", "voice", "voice_not_found")


def like(engine: TextToSpeech, references: list[tuple[Path, str]], name: str) -> Choose:
    """Return how to create the speaker. Raises Refused if the running engine cannot imitate."""
    if not isinstance(engine, Imitating):
        raise Refused(
            400, f"Only CSM-1B can speak like a recording ({name}): choose it on the setup page.", "voice",
            "voice_not_available",
        )  # fmt: skip

    def choose(running: TextToSpeech) -> Speaker:
        assert isinstance(running, Imitating)
        return running.speaker_like(references)

    return choose


def _own(running: TextToSpeech) -> Speaker:
    return running.speaker()


def _of(name: str) -> Choose:
    def choose(running: TextToSpeech) -> Speaker:
        assert isinstance(running, ManyVoiced)
        return running.speaker_of(name)

    return choose
