"""Hearing: is speech noticed, is it understood, and do the ears understand the voice?"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from config.cache import is_here
from config.engines import CATALOGUE
from config.packages import WHISPER_BASE
from pipeline.audio import EAR_RATE, Samples
from pipeline.doctor.check import LOADING_S, Patient, Tell
from pipeline.doctor.finding import Verdict
from pipeline.doctor.speaking import SENTENCE
from pipeline.ends.file import read_sound
from pipeline.engines.catalogue import create
from pipeline.engines.trial import shortened, transcribe, words_right
from pipeline.stt import SpeechToText
from pipeline.turns.vad import FRAME, VoiceActivityLike

RECORDING = Path(__file__).with_name("weather_question.wav")
"""From livekit/agents (Apache-2.0): see the README beside it."""
SAID = "What is the weather in Paris?"

JUDGES = frozenset({"whisper"})
"""Ears that understand a synthesizer about as well as a person. PocketSphinx does not: of 12 words by eSpeak NG it got
0 to 7 right, so its failure says nothing about the voice."""

PACE_GOOD = 0.6
"""The real-time factor up to which nobody waits for the ears, which work while the user speaks."""
WORDS_GOOD, WORDS_BAD = 0.8, 0.5
"""Shares of words understood: good from the first, bad below the second."""


async def noticing(patient: Patient, tell: Tell) -> Verdict:
    vad = patient.engines.vad()
    recording = await asyncio.to_thread(read_sound, RECORDING)
    began = patient.clock()
    silence = await asyncio.to_thread(_likelihoods, vad, np.zeros(EAR_RATE // 2, np.float32))
    speech = await asyncio.to_thread(_likelihoods, vad, recording)
    seconds = patient.clock() - began
    each = 1000 * seconds / (len(silence) + len(speech))
    share = float(np.mean(np.array(speech) >= patient.settings.ears.sensitivity))
    figures = {"milliseconds_a_frame": round(each, 2), "speech_share": round(share, 2)}
    if max(silence) >= patient.settings.ears.sensitivity or share < 0.3:
        return Verdict("bad", f"It takes {share:.0%} of a question for speech, and silence for {max(silence):.0%} "
                       "likely: set the speech threshold to 50% on the setup page, under Turn-taking.",
                       seconds, figures)  # fmt: skip
    return Verdict("good", f"A question is speech, silence is not; {each:.1f} ms for each 32 ms.", seconds, figures)


def _likelihoods(vad: VoiceActivityLike, sound: Samples) -> list[float]:
    return [vad.probability(sound[at : at + FRAME]) for at in range(0, len(sound) - FRAME + 1, FRAME)]


async def understanding(patient: Patient, tell: Tell) -> Verdict:
    """Transcribe a person's recorded question."""
    recording = await asyncio.to_thread(read_sound, RECORDING)
    heard, seconds = await transcribe(_ears(patient), recording, patient.clock)
    pace = seconds / (len(recording) / EAR_RATE)
    share, told, figures = _compared(SAID, heard)
    figures["real_time_factor"] = round(pace, 3)
    patient.understands = share >= WORDS_GOOD
    told = f"{told} in {pace:.2f} of its length"
    if patient.settings.ears.language not in ("en", "auto"):
        return Verdict("open", f"{told}. The question is English, but the ears are set to another language: talk "
                               "with them to find out.", seconds, figures)  # fmt: skip
    if share < WORDS_BAD:
        return Verdict("bad", f"{told}: choose other ears or a larger model.", seconds, figures)
    if pace > PACE_GOOD:
        return Verdict("fair", f"{told}. A smaller model answers sooner.", seconds, figures)
    if share < WORDS_GOOD:
        return Verdict("fair", f"{told}. A larger model understands more.", seconds, figures)
    return Verdict("good", f"{told}.", seconds, figures)


async def heard_back(patient: Patient, tell: Tell) -> Verdict:
    """Let the ears listen to the voice. Only ears known to understand can judge it; if the chosen ones cannot, Whisper
    base is loaded for this check, if it is on this computer."""
    if patient.spoken is None:
        return Verdict("skipped", "There is no speech to check.")
    judges = patient.settings.ears.engine in JUDGES
    if judges or patient.talking() or not await asyncio.to_thread(is_here, WHISPER_BASE):
        return await _judged(patient, patient.spoken, _ears(patient))
    tell("loading Whisper to listen to the voice", LOADING_S)
    ears = patient.settings.ears.model_copy(update={"engine": "whisper", "model": "base", "language": "en"})
    settings = patient.settings.model_copy(update={"ears": ears})
    whisper = cast(SpeechToText, create(CATALOGUE["ears", "whisper"], settings, patient.data))
    try:
        await whisper.start(lambda progress: None)
        heard, _ = await transcribe(whisper, await asyncio.to_thread(read_sound, RECORDING), patient.clock)
        share, _, _ = _compared(SAID, heard)
        by_whisper = replace(patient, settings=settings, understands=share >= WORDS_GOOD)
        return await _judged(by_whisper, patient.spoken, whisper)
    finally:
        await whisper.stop()


async def _judged(patient: Patient, spoken: Samples, ears: SpeechToText) -> Verdict:
    quiet = np.zeros(EAR_RATE // 3, np.float32)
    sound = np.concatenate([quiet, spoken, quiet])
    heard, seconds = await transcribe(ears, sound, patient.clock)
    share, told, figures = _compared(SENTENCE, heard)
    if share >= WORDS_GOOD:
        return Verdict("good", f"{told}.", seconds, figures)
    why_not = None
    if patient.settings.ears.engine not in JUDGES:
        why_not = "These ears expect a person’s voice, so this says little about a synthetic one: choose Whisper."
    elif not patient.english:
        why_not = "The sentence is English, but the ears or the voice are set to another language."
    elif not patient.understands:
        why_not = "The ears did not understand a real person either, so this says nothing about the voice."
    if why_not is not None:
        return Verdict("open", f"{told}. {why_not}", seconds, figures)
    if share < WORDS_BAD:
        return Verdict("bad", f"{told}, but the same ears understood a real person, so the voice is not clear. "
                              "Choose another model, precision or recording.", seconds, figures)  # fmt: skip
    return Verdict("fair", f"{told}, so the voice is not always clear. A recording with less noise may help.", seconds,
                   figures)  # fmt: skip


def _compared(said: str, heard: str) -> tuple[float, str, dict[str, float]]:
    """Return the share of words that are right, the result in words, and the figures."""
    right, of = words_right(said, heard)
    told = f"{right} of {of} words right (“{shortened(heard)}”)" if heard.strip() else "No word was heard"
    return right / of, told, {"words_right": float(right), "words": float(of)}


def _ears(patient: Patient) -> SpeechToText:
    return cast(SpeechToText, patient.engines.running("ears"))
