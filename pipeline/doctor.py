"""Is all well? Every stage is really run on something known; what came of it is said in plain words, with its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, cast

import numpy as np
import psutil
import soxr

from config.hardware import ask_nvidia
from config.settings import Settings
from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.audio.file import AudioFileError, read_sound
from pipeline.audio.portaudio import SoundCardError
from pipeline.audio.soundcard import levels, play_tone
from pipeline.catalogue import CATALOGUE
from pipeline.engine import EngineError
from pipeline.engines import Engines
from pipeline.llm import LanguageModel, Message, Prompt
from pipeline.stages import VoiceActivityLike
from pipeline.trial import Clock, speak, transcribe, words_right
from pipeline.tts import TextToSpeech
from pipeline.vad import FRAME

RECORDING = Path(__file__).resolve().parent.parent / "tests" / "audio" / "weather_question.wav"
"""From livekit/agents (Apache-2.0); see the README beside it."""
SAID = "What is the weather in Paris?"

SENTENCE = "The people of the city want to know the time of day."
"""Spoken to be heard back."""

JUDGES = frozenset({"whisper"})
"""Ears that understand a synthesiser about as well as a person. PocketSphinx does not: of sentences by eSpeak NG it had
0 to 7 words right in 12, so that its failure says nothing about the voice."""

LISTEN_S = 2.0
"""Of the microphone."""
LIMIT_S = 120.0
"""After which an engine that says nothing is given up."""

QUIET = 0.002
"""Peak (of full scale) below which a microphone is silent even for a quiet room: it is muted, or not the right one."""
EARS_GOOD, VOICE_GOOD = 0.6, 0.9
"""Real-time factors up to which nobody waits: of understanding, while one speaks; of speaking, once it has begun."""
TOKEN_GOOD_S, SOUND_GOOD_S = 1.0, 0.6
"""Seconds to the first word of a reply and to its first sound that pass in talk."""
WORDS_GOOD, WORDS_BAD = 0.8, 0.5
"""Shares of the words that are understood."""

Grade = Literal["good", "fair", "bad", "skipped"]
Precision = Literal["bf16", "int8", "int4"]


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    title: str
    grade: Grade
    text: str
    """The verdict: what was found, and what to do where something is wrong."""
    seconds: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    """Measured, by name with its unit."""


@dataclass(frozen=True, slots=True)
class Begun:
    check: str
    title: str


@dataclass(slots=True)
class _Patient:
    """What the checks share."""

    engines: Engines
    settings: Settings
    data: Path
    clock: Clock
    spoken: Samples | None = None
    """What the voice said, 16 kHz."""


Check = Callable[[_Patient], Awaitable[Finding]]


async def examine(
    engines: Engines, settings: Settings, data: Path, clock: Clock = time.monotonic
) -> AsyncGenerator[Begun | Finding, None]:
    """Each check as it begins, and what it found. The engines have been started; one that failed is a finding."""
    patient = _Patient(engines, settings, data, clock)
    for name, title, check in CHECKS:
        yield Begun(name, title)
        yield await _run(name, title, check, patient)
    if settings.voice.engine == "csm":
        yield Begun("precisions", "The voice in each precision")
        yield await _run("precisions", "The voice in each precision", _precisions, patient)


async def loading(engines: Engines) -> AsyncIterator[Finding]:
    """Start them, and tell of each part how long it took."""
    began = time.monotonic()
    starting = asyncio.create_task(engines.start())
    told: set[str] = set()
    try:
        async with aclosing(engines.changes()) as changes:  # type: ignore[type-var]  # an async generator
            async for health in changes:
                for part, status in health.items():
                    if part in told or status.state not in ("ready", "failed"):
                        continue
                    told.add(part)
                    seconds = time.monotonic() - began
                    title = f"Loading {TITLES[part]} ({status.engine})"
                    if status.state == "ready":
                        yield Finding(f"load-{part}", title, "good", "good: loaded.", seconds)
                    else:
                        yield _bad(f"load-{part}", title, status.last_error or "It did not start.")
                if len(told) == len(health):
                    break
    finally:
        await starting


async def _run(name: str, title: str, check: Check, patient: _Patient) -> Finding:
    try:
        async with asyncio.timeout(LIMIT_S):
            return await check(patient)
    except (EngineError, AudioFileError, SoundCardError) as error:
        return _bad(name, title, str(error))
    except TimeoutError:
        return _bad(name, title, f"Nothing came within {LIMIT_S:.0f} s: choose a smaller model, or restart Parley.")


def _bad(name: str, title: str, why: str) -> Finding:
    return Finding(name, title, "bad", f"does not work: {why}")


async def _microphone(patient: _Patient) -> Finding:
    title = "Microphone"
    if patient.settings.audio.place == "browser":
        return Finding(
            "microphone", title, "skipped", "not here: your headset is the browser’s; try it on the setup page."
        )
    peak = 0.0
    async with aclosing(levels(patient.settings.audio.input)) as peaks:
        for _ in range(round(10 * LISTEN_S)):
            peak = max(peak, await anext(peaks))
    if peak < QUIET:
        return _bad("microphone", title, "It is silent: unmute it, or choose another on the setup page.")
    decibels = 20 * np.log10(peak)
    return Finding("microphone", title, "good", f"good: it hears, at most {decibels:.0f} dB of full scale.", None,
                   {"peak_dbfs": round(float(decibels), 1)})  # fmt: skip


async def _speaker(patient: _Patient) -> Finding:
    title = "Headphones"
    if patient.settings.audio.place == "browser":
        return Finding(
            "speaker", title, "skipped", "not here: your headset is the browser’s; try it on the setup page."
        )
    began = patient.clock()
    await play_tone(patient.settings.audio.output)
    return Finding("speaker", title, "good", "good: two notes were played; did you hear them?", patient.clock() - began)


async def _speech_detection(patient: _Patient) -> Finding:
    vad = patient.engines.stages().vad()
    recording = await asyncio.to_thread(read_sound, RECORDING)
    began = patient.clock()
    silence = await asyncio.to_thread(_likelihoods, vad, np.zeros(EAR_RATE // 2, np.float32))
    speech = await asyncio.to_thread(_likelihoods, vad, recording)
    seconds = patient.clock() - began
    each = 1000 * seconds / (len(silence) + len(speech))
    share = float(np.mean(np.array(speech) >= patient.settings.ears.sensitivity))
    figures = {"milliseconds_a_frame": round(each, 2), "speech_share": round(share, 2)}
    title = "Noticing speech"
    if max(silence) >= patient.settings.ears.sensitivity or share < 0.3:
        return Finding("vad", title, "bad", f"does not work: it takes {share:.0%} of a question for speech, and "
                       f"silence for {max(silence):.0%} likely: set the sensitivity to half on the setup page.",
                       seconds, figures)  # fmt: skip
    return Finding("vad", title, "good", f"good: a question is speech, silence is not; {each:.1f} ms for each 32 ms.",
                   seconds, figures)  # fmt: skip


def _likelihoods(vad: VoiceActivityLike, sound: Samples) -> list[float]:
    return [vad.probability(sound[at : at + FRAME]) for at in range(0, len(sound) - FRAME + 1, FRAME)]


async def _transcription(patient: _Patient) -> Finding:
    recording = await asyncio.to_thread(read_sound, RECORDING)
    heard, seconds = await transcribe(patient.engines.stages().ears, recording, patient.clock)
    return _understood("ears", "Understanding", SAID, heard, seconds, seconds / (len(recording) / EAR_RATE))


async def _first_word(patient: _Patient) -> Finding:
    began = patient.clock()
    first: float | None = None
    text = ""
    prompt = Prompt(
        patient.settings.mind.persona, (Message("user", "Hello. How are you?"),), None, datetime.now().astimezone()
    )
    async with aclosing(_mind(patient).reply(prompt)) as pieces:
        async for piece in pieces:
            text += piece
            if first is None and text.strip():
                first = patient.clock() - began
    seconds = patient.clock() - began
    title = "Answering"
    if first is None:
        return Finding("mind", title, "bad", "does not work: the reply was empty: choose another model.", seconds)
    figures = {"first_word_seconds": round(first, 3)}
    said = f"first words after {first:.2f} s: “{_short(text)}”"
    if first > TOKEN_GOOD_S:
        return Finding(
            "mind", title, "fair", f"works, but slow: {said}. A smaller model answers sooner.", seconds, figures
        )
    return Finding("mind", title, "good", f"good: {said}.", seconds, figures)


async def _speaking(patient: _Patient) -> Finding:
    sound, first, seconds = await speak(patient.engines.stages().voice, SENTENCE, patient.clock)
    length = len(sound) / MOUTH_RATE
    if length < 0.3:
        return _bad("voice", "Speaking", f"It spoke for {length:.1f} s only: choose another model or recording.")
    patient.spoken = soxr.resample(sound, MOUTH_RATE, EAR_RATE).astype(np.float32)
    factor = seconds / length
    figures = {"first_sound_seconds": round(first, 3), "real_time_factor": round(factor, 3)}
    said = f"{length:.1f} s of speech took {seconds:.2f} s (factor {factor:.2f}), the first sound {first:.2f} s"
    if factor > VOICE_GOOD or first > SOUND_GOOD_S:
        what = "it cannot keep up with itself, so" if factor > 1 else "so"
        return Finding("voice", "Speaking", "fair", f"works, but slow: {said}; {what} choose a lower precision or "
                       "another voice.", seconds, figures)  # fmt: skip
    return Finding("voice", "Speaking", "good", f"good: {said}.", seconds, figures)


async def _heard_back(patient: _Patient) -> Finding:
    title = "Voice, heard back"
    if patient.spoken is None:
        return Finding("round", title, "skipped", "not tried: there is no speech to listen to.")
    quiet = np.zeros(EAR_RATE // 3, np.float32)
    heard, seconds = await transcribe(
        patient.engines.stages().ears, np.concatenate([quiet, patient.spoken, quiet]), patient.clock
    )
    found = _understood("round", title, SENTENCE, heard, seconds, seconds / (len(patient.spoken) / EAR_RATE))
    if found.grade == "good" or patient.settings.ears.engine in JUDGES:
        return found
    said = (
        f"no verdict: {found.figures['words_right']:.0f} of {found.figures['words']:.0f} words right. These ears are "
        "made for people’s voices, so that says little about this one; with Whisper it will."
    )
    return replace(found, grade="skipped", text=said)


async def _remembering(patient: _Patient) -> Finding:
    """A question only: nothing is written into the user's memory."""
    began = patient.clock()
    found = await patient.engines.memory().recall("What did we talk about?", budget_chars=500)
    seconds = patient.clock() - began
    return Finding("memory", "Remembering", "good", f"good: {len(found.items)} memories came to a question.", seconds)


async def _room(patient: _Patient) -> Finding:
    """What Parley's processes hold together."""
    used = await asyncio.to_thread(_resident)
    free = psutil.virtual_memory().available
    cards = await asyncio.to_thread(ask_nvidia)
    text = f"Parley holds {used / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
    text += "".join(f"; {card.free_bytes / 1e9:.1f} GB free on the {card.name}" for card in cards)
    figures = {"memory_gb": round(used / 1e9, 2), "free_gb": round(free / 1e9, 2)}
    if free < 500_000_000:
        return Finding("room", "Memory of the machine", "fair", f"works, but slow: {text}: end other programs, or "
                       "choose smaller models.", None, figures)  # fmt: skip
    return Finding("room", "Memory of the machine", "good", f"good: {text}.", None, figures)


def _resident() -> int:
    """Bytes of this process and those it started; memory that several share is counted for each."""
    own = psutil.Process()
    total = 0
    for process in (own, *own.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total


async def _precisions(patient: _Patient) -> Finding:
    """Load the speech model in each precision that suits the machine, one after the other."""
    title = "The voice in each precision"
    factors: dict[str, float] = {}
    told = []
    precisions: tuple[Precision, ...] = ("bf16",) if await asyncio.to_thread(ask_nvidia) else ("int8", "int4")
    for precision in precisions:
        settings = patient.settings.model_copy(deep=True)
        settings.voice.precision = precision
        try:
            factors[precision] = await _factor(settings, patient)
            told.append(f"{precision} {factors[precision]:.2f}")
        except EngineError as error:
            told.append(f"{precision}: {error}")
    if not factors:
        return _bad("precisions", title, "; ".join(told))
    fine = [precision for precision, factor in factors.items() if factor <= VOICE_GOOD]
    best = fine[0] if fine else min(factors, key=lambda precision: factors[precision])
    advice = (
        f"choose {best}"
        if fine
        else f"none keeps up; {best} comes closest, so choose eSpeak NG for talk without pauses"
    )
    return Finding("precisions", title, "good" if fine else "fair",
                   f"{'good' if fine else 'works, but slow'}: real-time factors {', '.join(told)}; {advice}.",
                   None, factors)  # fmt: skip


async def _factor(settings: Settings, patient: _Patient) -> float:
    """The real-time factor of a voice that is loaded for this alone. Raises EngineError."""
    voice = cast(TextToSpeech, CATALOGUE["voice", settings.voice.engine].create(settings, patient.data))
    try:
        await voice.start(lambda progress: None)
        sound, _, seconds = await speak(voice, SENTENCE, patient.clock)
    finally:
        await voice.stop()
    return round(seconds / max(1e-9, len(sound) / MOUTH_RATE), 3)


CHECKS: tuple[tuple[str, str, Check], ...] = (
    ("microphone", "Microphone", _microphone),
    ("speaker", "Headphones", _speaker),
    ("vad", "Noticing speech", _speech_detection),
    ("ears", "Understanding", _transcription),
    ("mind", "Answering", _first_word),
    ("voice", "Speaking", _speaking),
    ("round", "Voice, heard back", _heard_back),
    ("memory", "Remembering", _remembering),
    ("room", "Memory of the machine", _room),
)

TITLES = {"vad": "the voice detection", "turns": "the turn model", "ears": "the ears", "mind": "the mind",
          "voice": "the voice", "memory": "the memory"}  # fmt: skip


def _understood(name: str, title: str, said: str, heard: str, seconds: float, factor: float) -> Finding:
    right, of = words_right(said, heard)
    figures = {"words_right": float(right), "words": float(of), "real_time_factor": round(factor, 3)}
    told = f"{right} of {of} words right (“{_short(heard)}”), factor {factor:.2f}"
    if right < WORDS_BAD * of:
        return Finding(
            name, title, "bad", f"does not work: {told}; choose other ears or another language.", seconds, figures
        )
    if factor > EARS_GOOD:
        return Finding(
            name, title, "fair", f"works, but slow: {told}. A smaller model answers sooner.", seconds, figures
        )
    if right < WORDS_GOOD * of:
        return Finding(
            name, title, "fair", f"works, but poorly: {told}. A larger model understands more.", seconds, figures
        )
    return Finding(name, title, "good", f"good: {told}.", seconds, figures)


def _mind(patient: _Patient) -> LanguageModel:
    return patient.engines.stages().mind


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:79].rstrip() + "…"
