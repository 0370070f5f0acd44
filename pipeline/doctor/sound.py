"""The sound card: does the microphone hear, and do the headphones play?"""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing

from pipeline.doctor.check import Patient, Tell
from pipeline.doctor.finding import Verdict
from pipeline.ends.soundcard import levels, play_tone

LISTEN_S = 2.0
STALLED_S = 20.0
"""Seconds after which a device that opens but does nothing is given up."""
QUIET = 0.002
"""Peak (of full scale) too low even for a quiet room: the microphone is muted, or the wrong one."""
FAINT = 0.02
"""Peak below which nobody spoke into it while it listened, or only from far away."""


async def microphone(patient: Patient, tell: Tell) -> Verdict:
    if (elsewhere := _elsewhere(patient, "Microphone")) is not None:
        return elsewhere
    tell("say something")
    try:
        async with asyncio.timeout(STALLED_S):
            peak = await _peak(patient.settings.audio.input, tell)
    except TimeoutError:
        return Verdict("bad", "It opens, but delivers no sound: plug it in again, or choose another on the setup page.")
    if peak < QUIET:
        return Verdict("bad", "It is silent: unmute it, or choose another on the setup page.")
    loudness = _decibels(peak)
    figures = {"peak_dbfs": round(loudness, 1)}
    if peak < FAINT:
        return Verdict("fair", f"It hears no more than a quiet room ({loudness:.0f} dB of full scale): if you were "
                               "speaking, move closer or turn it up.", None, figures)  # fmt: skip
    return Verdict("good", f"It works: at most {loudness:.0f} dB of full scale.", None, figures)


async def headphones(patient: Patient, tell: Tell) -> Verdict:
    if (elsewhere := _elsewhere(patient, "Sound")) is not None:
        return elsewhere
    tell("two notes")
    began = patient.clock()
    try:
        async with asyncio.timeout(STALLED_S):
            await play_tone(patient.settings.audio.output)
    except TimeoutError:
        return Verdict("bad", "They open, but do not play: plug them in again, or choose others on the setup page.")
    return Verdict("good", "Two notes were played. Did you hear them?", patient.clock() - began)


async def _peak(name: str | None, tell: Tell) -> float:
    """Return the loudest sample of LISTEN_S seconds, of full scale."""
    highest = 0.0
    async with aclosing(levels(name)) as peaks:
        for _ in range(round(10 * LISTEN_S)):
            peak = await anext(peaks)
            highest = max(highest, peak)
            tell(f"say something ({_decibels(peak):.0f} dB)", passing=True)
    return highest


def _decibels(peak: float) -> float:
    return 20 * math.log10(max(peak, 1e-5))


def _elsewhere(patient: Patient, part: str) -> Verdict | None:
    """Say why the sound card is not checked, or None. `part`: of the setup page, which tests the browser's devices."""
    if patient.settings.audio.place == "browser":
        return Verdict("skipped", f"Your headset is the browser’s: try it on the setup page, under {part}.")
    if patient.talking():
        return Verdict("skipped", "The conversation is using the sound card: close the talk page, then check again.")
    return None
