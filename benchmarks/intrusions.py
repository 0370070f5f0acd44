"""Which of a hundred phrases spoken over a reply, by several voices and as Whisper hears them, are judged wrongly.

Part of `python benchmarks/conversation.py --intrusions`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import soxr

from benchmarks.simulated_user import machine
from config import Settings
from config.engines import CATALOGUE, Stage
from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.engine import Engine
from pipeline.engines.catalogue import create
from pipeline.engines.trial import speak, transcribe
from pipeline.stt import SpeechToText
from pipeline.tts import TextToSpeech
from pipeline.turns.interruption import InterruptionJudge, Intrusion
from pipeline.turns.judges import FRAME_MS, SpeechDetector
from pipeline.turns.vad import FRAME, VoiceActivity, load_model
from tests.support.intrusions import ASSENTING, TAKING

VOICES = (("espeak", "en-us"), ("espeak", "en-gb+f3"), ("piper", ""), ("kokoro", "af_heart"))
"""Engine and voice."""


@dataclass(frozen=True, slots=True)
class Judged:
    wants_the_turn: bool
    voice: str
    said: str
    heard: str
    speech_ms: float
    kind: str

    @property
    def wrong(self) -> bool:
        return self.wants_the_turn == (self.kind == "backchannel")


@asynccontextmanager
async def started(stage: Stage, engine: str, settings: Settings) -> AsyncIterator[Engine]:
    running = create(CATALOGUE[stage, engine], settings, Path("data"))
    await running.start(lambda progress: None)
    try:
        yield running
    finally:
        await running.stop()


def speech_ms(sound: Samples, vad: VoiceActivity) -> float:
    """Count speech as a turn does: the frames in which the detector hears speech."""
    detector, speech = SpeechDetector(Settings().ears.sensitivity), SpeechDetector.ONSET - 1
    vad.reset()
    for at in range(0, len(sound) - FRAME, FRAME):
        detector.update(vad.probability(sound[at : at + FRAME]))
        speech += detector.speaking and not detector.silence_frames
    return speech * FRAME_MS


async def judged(whisper: str, rounds: int) -> list[Judged]:
    """Judge every intrusion, `rounds` times, each time by another voice."""
    texts = [(text, True) for text in TAKING] + [(text, False) for text in ASSENTING]
    vad, judge, found = VoiceActivity(load_model()), InterruptionJudge(), list[Judged]()
    quiet = np.random.default_rng(1).normal(0, 2e-4, EAR_RATE // 2).astype(np.float32)
    async with AsyncExitStack() as engines:
        hearing = Settings.model_validate({"ears": {"engine": "whisper", "model": whisper}})
        ears = cast(SpeechToText, await engines.enter_async_context(started("ears", "whisper", hearing)))
        for place, (engine, name) in enumerate(VOICES):
            speaking = Settings.model_validate({"voice": {"engine": engine, "name": name}})
            voice = cast(TextToSpeech, await engines.enter_async_context(started("voice", engine, speaking)))
            for number, (text, wants) in enumerate(texts):
                if (number - place) % len(VOICES) >= rounds:
                    continue
                spoken = soxr.resample((await speak(voice, text)).sound, MOUTH_RATE, EAR_RATE)
                sound = np.concatenate([quiet, spoken, quiet]).astype(np.float32)
                heard, _ = await transcribe(ears, sound)
                lasted = speech_ms(sound, vad)
                ruling = judge.ruling(Intrusion(lasted, judge.verdict_silence_ms, heard, final=True))
                assert ruling is not None
                found.append(Judged(wants, f"{engine} {name}".strip(), text, heard, lasted, ruling.kind))
    return found


def table(found: list[Judged], whisper: str) -> str:
    def row(name: str, of: list[Judged]) -> str:
        taking = [each for each in of if each.wants_the_turn]
        assenting = [each for each in of if not each.wants_the_turn]
        missed, stopped = (sum(each.wrong for each in kind) for kind in (taking, assenting))
        return f"| {name} | {missed} of {len(taking)} | {stopped} of {len(assenting)} |"

    voices = Counter(each.voice for each in found)
    wrong = [f"- “{each.said}” by {each.voice}, {each.speech_ms:.0f} ms, heard as “{each.heard}”: {each.kind}"
             for each in found if each.wrong]  # fmt: skip
    return "\n".join(
        [
            f"{machine()}, Whisper {whisper}",
            "",
            "| voice | wanted the turn and were talked over | assented and stopped the reply |",
            "|---|---|---|",
            *(row(voice, [each for each in found if each.voice == voice]) for voice in voices),
            row("all", found),
            "",
            *wrong,
        ]
    )
