"""How often people are told apart correctly by their voices: households of three, with guests, at one microphone.

    python3 -m benchmarks.speakers                     (Kokoro's voices speak first: some minutes)
    python3 -m benchmarks.speakers --sounds FOLDER     (keeps what they said, for the next time)

Each household is three of all voices, each learnt from two sentences; a member or a fourth voice then says another
sentence. The right answer is the member's name, or that it is a guest. Every recording gets its own level, and noise at
25 dB.

Synthetic voices make the task both easier and harder. Each is steadier than a person on another day with another
microphone, but some of Kokoro's differ less than two people do (their embeddings reach a cosine of 0.86; those of
strangers' recordings here 0.61). There are few real recordings: two readers with several, three people with one.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import soundfile
import soxr

from config.packages import RESEMBLYZER
from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.models.fetching import fetched
from pipeline.speakers.encoder import VoiceEncoder, read_weights
from pipeline.speakers.people import LONG_S, Heard, Person, joined, who
from pipeline.tts.kokoro import Kokoro
from tests.support.recordings import recording

VOICES = (
    "am_michael", "bf_emma", "bm_george", "af_bella", "am_adam", "bm_daniel", "af_nicole", "am_onyx", "bf_isabella",
    "am_echo", "bm_lewis", "af_heart", "af_alloy", "af_aoede", "am_puck", "bf_lily",
)  # fmt: skip
SENTENCES = (
    "My dog Rufus ate my left shoe this morning, and then he slept all day.",
    "I am going to Paris with my sister in May, if the trains are running.",
    "The meeting was moved to Thursday because my boss has the flu again.",
    "Could you remind me to buy bread, some cheese and a bottle of red wine?",
    "Last summer we rented a small house by the lake and went swimming every day.",
    "What is my dog called?",
    "I live in Oslo now.",
    "Yes, that is right.",
)
LEARNT = 2
"""Sentences from which a voice is learnt, the first ones."""
NOISE_DB = -25.0
TRIALS = 5_000


@dataclass(frozen=True, slots=True)
class Said:
    """`sentence`: the index of the sentence."""

    voice: str
    sentence: int
    heard: Heard


async def speak(folder: Path) -> None:
    """Record the sentences that are missing."""
    kokoro = Kokoro()
    await kokoro.start(lambda _: None)
    for voice in VOICES:
        for number, text in enumerate(SENTENCES):
            file = folder / f"{voice}_{number}.wav"
            if not file.exists():
                parts = [spoken.samples async for spoken in kokoro.speaker_of(voice).speak(text)]
                soundfile.write(file, np.concatenate(parts), MOUTH_RATE)
    await kokoro.stop()


def at_the_microphone(file: Path, dice: np.random.Generator) -> Samples:
    sound, rate = soundfile.read(file, dtype="float32", always_2d=True)
    sound = soxr.resample(sound[:, 0], rate, EAR_RATE) * dice.uniform(0.3, 1.0)
    noise = 10 ** (NOISE_DB / 20) * np.sqrt(np.mean(np.square(sound)))
    heard: Samples = (sound + dice.normal(0, noise, len(sound))).astype(np.float32)
    return heard


def households(said: dict[str, list[Said]]) -> dict[tuple[str, str], list[bool]]:
    """Whether each turn was attributed correctly, by its length and by who spoke."""
    dice = random.Random(0)
    right: dict[tuple[str, str], list[bool]] = defaultdict(list)
    learnt = {
        voice: Person(voice, voice, joined([each.heard for each in turns[:LEARNT]]), 9.0, date.min)
        for voice, turns in said.items()
    }
    for _ in range(TRIALS):
        *members, guest = dice.sample([*said], 4)
        people = [learnt[member] for member in members]
        for kind, voice in (("members", dice.choice(members)), ("guests", guest)):
            turn = dice.choice(said[voice][LEARNT:])
            person = who(turn.heard, people, None)
            length = "long" if turn.heard.seconds >= LONG_S else "short"
            right[length, kind].append((person.name if person else guest) == (voice if kind == "members" else guest))
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sounds", type=Path, help="where to keep what Kokoro's voices say")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.sounds or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        asyncio.run(speak(folder))
        encoder = VoiceEncoder(read_weights(fetched(RESEMBLYZER, lambda _: None) / RESEMBLYZER.files[0].name))
        dice = np.random.default_rng(0)
        said: dict[str, list[Said]] = defaultdict(list)
        began, seconds = time.perf_counter(), 0.0
        for voice in VOICES:
            for number in range(len(SENTENCES)):
                sound = at_the_microphone(folder / f"{voice}_{number}.wav", dice)
                direction = encoder.direction(sound)
                assert direction is not None
                seconds += len(sound) / EAR_RATE
                said[voice].append(Said(voice, number, Heard(direction, len(sound) / EAR_RATE)))
        took = time.perf_counter() - began
    print(f"{len(said)} synthetic voices, {seconds:.0f} s of speech, {1000 * took / seconds:.0f} ms for a second of it")
    right = households(said)
    for length, title in (("long", f"turns over {LONG_S:.0f} s"), ("short", "shorter ones, the first of a talk")):
        members, guests = right[length, "members"], right[length, "guests"]
        both = (sum(members) + sum(guests)) / (len(members) + len(guests))
        shares = f"members {np.mean(members):.1%}, guests {np.mean(guests):.1%}"
        print(f"{title:<34} right {both:.1%} ({shares}; {len(members) + len(guests)} turns)")
    real(encoder)


def real(encoder: VoiceEncoder) -> None:
    """Test the recordings of people in the repository: voices with several parts are learnt from the first, and all
    other parts are identified."""
    sounds: dict[str, list[Samples]] = defaultdict(list)
    for name in sorted({*RECORDINGS}):
        file = recording(name)
        sound, rate = soundfile.read(file, dtype="float32", always_2d=True)
        voice = re.split(r"[_.]", name)[0]
        heard = soxr.resample(sound[:, 0], rate, EAR_RATE).astype(np.float32)
        half = len(heard) // 2
        sounds[voice] += [heard[:half], heard[half:]] if name == "jfk.flac" else [heard]
    directions = {voice: [encoder.direction(sound) for sound in parts] for voice, parts in sounds.items()}
    people = [
        Person(voice, voice, parts[0], len(sounds[voice][0]) / EAR_RATE, date.min)
        for voice, parts in directions.items()
        if len(parts) > 1 and parts[0] is not None
    ]
    for voice, parts in directions.items():
        member = any(each.name == voice for each in people)
        for number, direction in enumerate(parts):
            if direction is None or (member and not number):
                continue
            length = len(sounds[voice][number]) / EAR_RATE
            person = who(Heard(direction, length), people, None)
            nearest = max((float(direction @ each.direction), each.name) for each in people)
            told = person.name if person else "a guest"
            verdict = "right" if told == (voice if member else "a guest") else "WRONG"
            print(f"real: {voice}, {length:.1f} s: {told} ({verdict}; nearest {nearest[1]}, {nearest[0]:.2f})")


RECORDINGS = (
    "austen_0870.wav", "austen_0880.wav", "austen_0890.wav", "bear_or_shark.mp3", "jfk.flac", "weather_question.wav",
)  # fmt: skip

if __name__ == "__main__":
    main()
