"""The voice: does it keep up with speech, and which precision would?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import psutil
import soxr

from config.engines import CATALOGUE, named
from config.hardware import ask_nvidia, in_words
from config.models import find
from config.nvidia import roomiest
from config.precision import FINEST_FIRST, KEEPS_PACE, keep
from config.settings import Settings
from pipeline.audio import EAR_RATE, MOUTH_RATE
from pipeline.doctor.check import LOADING_S, Patient, Tell
from pipeline.doctor.finding import Verdict
from pipeline.engine import EngineError, Progress
from pipeline.engines.catalogue import create
from pipeline.engines.trial import speak
from pipeline.tts import TextToSpeech
from pipeline.tts.csm import Csm

SENTENCE = "The people of the city want to know the time of day."
"""Spoken, then transcribed again."""

FIRST_SOUND_GOOD_S = 0.6
"""A wait that goes unnoticed in a conversation."""

ON_GPU = ("bf16",)

KOKORO_PACE = 0.7
"""The real-time factor up to which Kokoro is proposed; in a conversation, ears and mind compute beside it."""

BUSY = "This would slow down a conversation: close the talk page, then check again."

SAMPLE_S, SAMPLE_WORK_S = 2.0, 20.0
"""A precision is measured by this much sound, or by what it produces in this much time."""


async def speaking(patient: Patient, tell: Tell) -> Verdict:
    voice = cast(TextToSpeech, patient.engines.running("voice"))

    def told(sound_s: float) -> None:
        tell(f"{sound_s:.1f} s spoken", passing=True)

    said = await speak(voice, SENTENCE, patient.clock, told)
    if said.sound_s < 0.3:
        return Verdict("bad", f"It spoke for only {said.sound_s:.1f} s: choose another model or recording.")
    patient.spoken = soxr.resample(said.sound, MOUTH_RATE, EAR_RATE).astype(np.float32)
    patient.factor = said.factor
    figures = {"first_sound_seconds": round(said.first_s, 3), "real_time_factor": round(said.factor, 3)}
    text = (
        f"{said.sound_s:.1f} s of sound took {said.seconds:.2f} s (real-time factor {said.factor:.2f}), "
        f"the first of it {said.first_s:.2f} s"
    )
    csm = patient.settings.voice.engine == "csm"
    advice = "At the end, the check measures which precision keeps up." if csm else "Choose another voice."
    if said.factor > KEEPS_PACE:
        pauses = "it has to pause while it speaks" if said.factor > 1 else "it hardly keeps pace"
        return Verdict("fair", f"{text}: {pauses}. {advice}", said.seconds, figures)
    if said.first_s > FIRST_SOUND_GOOD_S:
        return Verdict("fair", f"{text}: one waits for it. {advice}", said.seconds,
                       figures)  # fmt: skip
    return Verdict("good", f"{text}.", said.seconds, figures)


async def kokoro(patient: Patient, tell: Tell) -> Verdict:
    """Check whether this computer could run a more natural voice in real time. It is loaded only for this check."""
    if patient.talking():
        return Verdict("skipped", BUSY)
    tell("loading Kokoro", LOADING_S)
    voice = patient.settings.voice.model_copy(update={"engine": "kokoro", "model": ""})
    settings = patient.settings.model_copy(update={"voice": voice})
    engine = cast(TextToSpeech, create(CATALOGUE["voice", "kokoro"], settings, patient.data))
    try:
        await engine.start(lambda progress: None)
        said = await speak(engine, SENTENCE, patient.clock)
    finally:
        await engine.stop()
    figures = {"real_time_factor": round(said.factor, 3)}
    if said.factor <= KOKORO_PACE:
        return Verdict("good", f"It keeps up here (real-time factor {said.factor:.2f}): for a more natural voice "
                       "choose Kokoro on the setup page, under Engines.", said.seconds, figures)  # fmt: skip
    return Verdict("good", f"It would not keep up here (real-time factor {said.factor:.2f}): keep the current voice.",
                   said.seconds, figures)  # fmt: skip


async def precisions(patient: Patient, tell: Tell) -> Verdict:
    """Load the speech model in each precision that suits the machine, one after another and never two at once."""
    if patient.talking():
        return Verdict("skipped", BUSY)
    factors: dict[str, float] = {}
    failed: dict[str, str] = {}
    by: str | None = None
    has_gpu = bool(await asyncio.to_thread(ask_nvidia))
    async with patient.engines.resting("voice"):
        for precision in ON_GPU if has_gpu else FINEST_FIRST:
            try:
                await asyncio.to_thread(_check_room)
                factors[precision], packed_by = await _factor(precision, patient, tell)
                by = packed_by or by
            except EngineError as error:
                failed[precision] = str(error)
    verdict = recommended(factors, failed)
    if by is not None:
        verdict = replace(verdict, text=f"{verdict.text} 4 and 8 bits are computed by {by}.")
    if factors and not has_gpu:
        try:
            await asyncio.to_thread(keep, patient.data, named("voice", "csm", patient.settings.voice.model), factors)
        except OSError as error:
            return replace(verdict, text=f"{verdict.text} This could not be stored for “auto” ({error.strerror}).")
    return verdict


def recommended(factors: Mapping[str, float], failed: Mapping[str, str]) -> Verdict:
    """Judge real-time factors, ordered from the finest precision, and the errors of those that could not be tried."""
    told = ", ".join(f"{precision} {factor:.2f}" for precision, factor in factors.items())
    reasons: dict[str, list[str]] = {}
    for precision, why in failed.items():
        reasons.setdefault(why, []).append(precision)
    others = "".join(f" Not {' nor '.join(names)}: {why}" for why, names in reasons.items())
    if not factors:
        return Verdict("bad", others.strip())
    best = next((precision for precision, factor in factors.items() if factor <= KEEPS_PACE), None)
    if best is not None:
        return Verdict("good", f"Real-time factors: {told}. Choose {best}, or “auto”, which now means that.{others}",
                       None, factors)  # fmt: skip
    nearest = min(factors, key=lambda precision: factors[precision])
    return Verdict("fair", f"Real-time factors: {told}. None keeps up with speech; {nearest} comes nearest. For "
                           f"speech without pauses, choose eSpeak NG.{others}", None, factors)  # fmt: skip


async def _factor(precision: str, patient: Patient, tell: Tell) -> tuple[float, str | None]:
    """Load a voice, measure it and unload it. Return its real-time factor and what computes with its packed weights.
    Raises EngineError."""

    def report(progress: Progress) -> None:
        if progress.what not in ("loading", "ready", "stopped"):
            tell(f"{precision}: {progress.what}", LOADING_S)

    def told(sound_s: float) -> None:
        tell(f"{precision}: {sound_s:.1f} s spoken", passing=True)

    settings = _with(patient.settings, precision)
    voice = cast(TextToSpeech, create(CATALOGUE["voice", settings.voice.engine], settings, patient.data))
    try:
        await voice.start(report)
        said = await speak(voice, SENTENCE, patient.clock, told, SAMPLE_S, SAMPLE_WORK_S)
        by = await voice.computes_by() if isinstance(voice, Csm) else None
    finally:
        await voice.stop()
    return round(said.factor, 3), by


def _with(settings: Settings, precision: str) -> Settings:
    voice = settings.voice.model_copy(update={"precision": precision})
    return settings.model_copy(update={"voice": voice})


def _check_room() -> None:
    """Raise EngineError if there is no room for the model; loading it would push other programs out of memory."""
    model = find("voice", "csm", "")
    assert model is not None
    gpu = roomiest(ask_nvidia())
    if gpu is None:
        need, free, where = model.memory_bytes, psutil.virtual_memory().available, "of memory"
    else:
        need, free, where = model.gpu_bytes, gpu.free_bytes, f"on the {gpu.name}"
    if free < need:
        raise EngineError(
            f"it needs {in_words(need)} {where}, and {in_words(free)} are free. End other programs and check again."
        )
