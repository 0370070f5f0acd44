"""Compare Piper, Kokoro and eSpeak: how soon, how fast, how large, and how well they are understood.

    python benchmarks/voices.py                              all three, with 200 sentences transcribed by Whisper base
    python benchmarks/voices.py --only piper --sentences 50
    python benchmarks/voices.py --sentences 0                times only

The sentences are in voices.txt. They are processed like a reply: through speakable() to the engine, and its sound
through the real Whisper base. Its transcript goes through speakable(), too, so that a number in figures equals the same
number in words. A wrong word is one that was substituted, deleted or inserted (Levenshtein), relative to all words.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.simulated_user import machine
from pipeline.engines.trial import Said, speak
from pipeline.tts import TextToSpeech
from pipeline.tts.clauses import ClauseSplitter
from pipeline.tts.espeak import Espeak
from pipeline.tts.kokoro import Kokoro
from pipeline.tts.piper import Piper
from pipeline.tts.speakable import speakable
from tests.support.real_models import heard

SENTENCES = (Path(__file__).parent / "voices.txt").read_text(encoding="utf-8").splitlines()

REPLIES = (
    "Sure, I can tell you about that.",
    "Well, it depends on what you would like to do with it.",
    "The museum is open until six, and on Thursdays until nine.",
    "I think that you should ask your doctor about that before you travel.",
    "Vienna is the capital of Austria. About two million people live there.",
    "That is a good question, and I am not sure that there is one answer to it.",
)
"""Texts whose first clause is timed."""

ALIKE = {"ok": "okay", "colour": "color", "favourite": "favorite", "kilometres": "kilometers", "metres": "meters",
         "aluminium": "aluminum", "hum": "hmm", "mister": "mr", "doctor": "dr"}  # fmt: skip
"""Other spellings of the same word."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=["piper", "kokoro", "espeak"], metavar="VOICE",
                        help="piper, kokoro, espeak")  # fmt: skip
    parser.add_argument("--sentences", type=int, default=len(SENTENCES), help="how many are heard back")
    parser.add_argument("--wrong", action="store_true", help="show what was heard otherwise")
    options = parser.parse_args()
    engines: dict[str, TextToSpeech] = {"piper": Piper(), "kokoro": Kokoro(), "espeak": Espeak()}
    print(machine(), end="\n\n")
    print("| voice | load, s | memory, MB | first sound, ms: median, longest | real-time factor | words heard wrong |")
    print("|---|---|---|---|---|---|", flush=True)
    picked = SENTENCES[:: max(1, len(SENTENCES) // options.sentences)] if options.sentences else []
    for name in options.only or engines:
        asyncio.run(measure(name, engines[name], picked[: options.sentences], options.wrong))


async def measure(name: str, engine: TextToSpeech, sentences: list[str], show: bool) -> None:
    began = time.perf_counter()
    await engine.start(lambda progress: None)
    load = time.perf_counter() - began
    try:
        firsts, replies = [], []
        for reply in REPLIES * 2:
            splitter = ClauseSplitter()
            clauses = [*splitter.feed(reply), *splitter.finish()]
            firsts.append((await speak(engine, speakable(clauses[0]), time.perf_counter)).first_s)
            replies.append(await speak(engine, speakable(reply), time.perf_counter))
        factor = sum(said.seconds for said in replies) / sum(said.sound_s for said in replies)
        memory = (engine.status.memory_bytes or 0) / 1e6
        spoken = [await speak(engine, speakable(sentence), time.perf_counter) for sentence in sentences]
    finally:
        await engine.stop()
    print(f"| {name} | {load:.1f} | {memory:.0f} | {1000 * statistics.median(firsts):.0f}, {1000 * max(firsts):.0f} | "
          f"{factor:.2f} | {understood(sentences, spoken, show)} |", flush=True)  # fmt: skip


def understood(sentences: list[str], spoken: list[Said], show: bool) -> str:
    wrong = total = 0
    for sentence, said in zip(sentences, spoken, strict=True):
        words, got = normal(sentence), normal(heard(said.sound.astype(np.float32)))
        if (distance := edits(words, got)) and show:
            print(f"  {' '.join(words)}  →  {' '.join(got)}", file=sys.stderr)
        wrong, total = wrong + distance, total + len(words)
    return f"{wrong} of {total} ({100 * wrong / total:.1f} %)" if total else "not asked"


def normal(text: str) -> list[str]:
    words = re.findall(r"[a-z']+", speakable(text).lower().replace("’", "'").replace("-", " "))
    return [ALIKE.get(word, word) for word in words]


def edits(one: list[str], other: list[str]) -> int:
    """Words substituted, deleted or inserted (Levenshtein)."""
    row = list(range(len(other) + 1))
    for number, word in enumerate(one, 1):
        before, row[0] = row[0], number
        for place, got in enumerate(other, 1):
            before, row[place] = row[place], min(before + (word != got), row[place] + 1, row[place - 1] + 1)
    return row[-1]


if __name__ == "__main__":
    main()
