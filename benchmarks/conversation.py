"""How a conversation feels, measured on its two audio tracks: `python benchmarks/conversation.py`.

A simulated user with real recordings talks with a running Parley in real time. Measured are how soon it answers,
whether it cuts in when the user pauses to think, how soon it falls silent when interrupted, and whether a cough or
"mm-hmm" stops it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import intrusions
from benchmarks.simulated_user import RATE, ROOT, Headset, Samples, headset, load, machine, parley, trimmed
from benchmarks.voice_to_voice import ask
from config import Settings
from config.engines import CATALOGUE
from pipeline.engines.catalogue import create
from pipeline.tts import TextToSpeech

JFK = [1.06, 0.99, 0.54]
"""The lengths of its pauses, in seconds."""

FADING_S = 0.25
"""A reply over the last breath of a sentence (jfk.flac fades into room noise) does not count as a cut-in."""

PATIENCE_S = 12.0
"""How long the user waits for an answer."""


@dataclass(slots=True)
class Findings:
    delays: list[float] = field(default_factory=list)
    pauses: int = 0
    """Pauses inside sentences that the user made."""
    cut_ins: list[float] = field(default_factory=list)
    """For each cut-in: seconds from the moment the user continues to silence."""
    jfk: int = 0
    """Cut-ins at the pauses of jfk.flac."""
    split_turns: int | None = None
    """Sentences with pauses that did not become one turn; None if the server does not report turns."""
    silenced: list[float] = field(default_factory=list)
    """Seconds from the start of an interruption to silence."""
    deaf: int = 0
    """Interruptions that did not stop the reply at all."""
    assents: int = 0
    stopped_by_assent: int = 0
    notes: list[str] = field(default_factory=list)
    """What went wrong, case by case."""
    resumed: list[float] = field(default_factory=list)
    """Seconds from the end of a backchannel until the reply continues."""


def quietest(sound: Samples, near_s: float, within_s: float = 0.3) -> int:
    """The quietest sample near a given time, as a place to splice."""
    step = RATE // 50
    first, last = round((near_s - within_s) * RATE), round((near_s + within_s) * RATE)
    return min(range(first, last, step // 2), key=lambda at: float(np.square(sound[at : at + step]).mean()))


def with_pause(sound: Samples, near_s: float, pause_s: float) -> Samples:
    """Insert a pause to think into a recording, at the level of room noise."""
    at = quietest(sound, near_s)
    room = np.random.default_rng(1).normal(0, 2e-4, round(pause_s * RATE)).astype(np.float32)
    return np.concatenate([sound[:at], room, sound[at:]])


def hesitant() -> list[tuple[Samples, list[float]]]:
    """Sentences with pauses inside, and the lengths of the pauses."""
    return [
        (load("jfk.flac"), JFK),
        (with_pause(load("austen_0890.wav"), 2.0, 0.7), [0.7]),
        (with_pause(load("austen_0870.wav"), 2.6, 0.9), [0.9]),
        (with_pause(load("bear_or_shark.mp3"), 0.9, 0.6), [0.6]),
    ]


async def said(text: str) -> Samples:
    """A backchannel spoken by espeak-ng, because no recording of one is available."""
    voice = cast(TextToSpeech, create(CATALOGUE["voice", "espeak"], Settings(), Path("data")))
    await voice.start(lambda progress: None)
    try:
        sound = [spoken.samples async for spoken in voice.speaker().speak(text)]
    finally:
        await voice.stop()
    return 0.5 * trimmed(np.concatenate(sound))


def cough() -> Samples:
    """A burst of decaying noise, 150 ms."""
    count = round(0.15 * RATE)
    noise = np.random.default_rng(2).normal(0, 0.2, count)
    return (noise * np.exp(-np.arange(count) / (0.04 * RATE))).astype(np.float32)


async def answered(user: Headset) -> bool:
    try:
        await asyncio.wait_for(user.turn_done.wait(), PATIENCE_S)
    except TimeoutError:
        return False
    finally:
        await asyncio.sleep(0.4)
    return True


async def reply_begins(user: Headset, after: float) -> float | None:
    """When the reply is first heard after a given time on the tracks; None if it never is."""
    while user.tracks.seconds < after + PATIENCE_S:
        await asyncio.sleep(0.02)
        starts = [start for start, _ in user.tracks.stretches(user.tracks.reply) if start >= after]
        if starts:
            return starts[0]
    return None


async def hesitate(port: int, found: Findings) -> None:
    for sound, pauses in hesitant():
        async with headset(port) as user:
            await asyncio.sleep(0.5)
            begun = user.tracks.seconds
            await user.speak(sound)
            over = user.tracks.seconds
            await answered(user)
            found.pauses += len(pauses)
            speech = user.tracks.stretches(user.tracks.user, joined=0.3)
            for start, end in user.tracks.stretches(user.tracks.reply, joined=0.1):
                if begun < start < over - FADING_S:
                    went_on = [on for on, _ in speech if on >= start]
                    found.cut_ins.append(max(0.0, end - went_on[0]) if went_on else end - start)
                    found.jfk += pauses == JFK
                    found.notes.append(f"cut in at {start - begun:.2f} s of a {len(sound) / RATE:.2f} s sentence")
            if user.tracks.history:
                found.split_turns = found.split_turns or 0
            users = [text for role, text in user.tracks.history if role == "user"]
            if found.cut_ins and len(users) > 1 and len(users[-1]) <= len(users[0]):
                found.split_turns = (found.split_turns or 0) + 1


async def interrupt(port: int, found: Findings, rounds: int) -> None:
    for _ in range(rounds):
        async with headset(port) as user:
            await asyncio.sleep(0.5)
            await user.speak(load("weather_question.wav"))
            begun = await reply_begins(user, user.tracks.seconds)
            if begun is None:
                continue
            await asyncio.sleep(1.5)
            user.turn_done.clear()
            cut = user.tracks.seconds
            user.say(load("bear_or_shark.mp3"))
            await answered(user)
            ends = [end for start, end in user.tracks.stretches(user.tracks.reply, joined=0.2) if start < cut < end]
            if ends and ends[0] - cut < 2.0:
                found.silenced.append(ends[0] - cut)
            elif ends:
                found.deaf += 1


async def assent(port: int, found: Findings) -> None:
    sounds = {word: await said(word) for word in ("mm-hmm", "uh huh", "yeah", "right", "okay")}
    for name, sound in {**sounds, "a cough": cough()}.items():
        async with headset(port) as user:
            await asyncio.sleep(0.5)
            await user.speak(load("weather_question.wav"))
            if await reply_begins(user, user.tracks.seconds) is None:
                continue
            await asyncio.sleep(1.5)
            found.assents += 1
            await user.speak(sound)
            ended = user.tracks.seconds
            await answered(user)
            record = user.tracks.records[0] if user.tracks.records else {}
            if record.get("outcome") != "completed":
                found.stopped_by_assent += 1
                found.notes.append(f"stopped by {name}: {record.get('why', 'no record')}")
                continue
            after = [start for start, _ in user.tracks.stretches(user.tracks.reply, joined=0.1) if start > ended - 0.1]
            if after:
                found.resumed.append(after[0] - ended)


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))]


def table(found: dict[str, Findings]) -> str:
    def milliseconds(values: list[float], share: float = 0.5) -> str:
        return f"{1000 * quantile(values, share):.0f} ms" if values else "–"

    def row(what: str, figure: Callable[[Findings], object], goal: str) -> str:
        return f"| {what} | {' | '.join(str(figure(each)) for each in found.values())} | {goal} |"

    def stopped(each: Findings) -> str:
        return f"{each.stopped_by_assent} of {each.assents}"

    return "\n".join(
        [
            machine(),
            "",
            f"| measured on the two tracks | {' | '.join(found)} | goal |",
            f"|---|{'---|' * len(found)}---|",
            row("answers measured", lambda each: len(each.delays), "–"),
            row("voice to voice, median", lambda each: milliseconds(each.delays), "≤ 300 ms"),
            row("voice to voice, p95", lambda each: milliseconds(each.delays, 0.95), "≤ 600 ms"),
            row("pauses inside sentences / cut-ins", lambda each: f"{each.pauses} / {len(each.cut_ins)}", "–"),
            row("… of them at jfk.flac's three", lambda each: each.jfk, "≤ 1"),
            row("… from going on to silence, longest", lambda each: milliseconds(each.cut_ins, 1.0), "≤ 150 ms"),
            row(
                "… turns not continued as one", lambda each: "–" if each.split_turns is None else each.split_turns, "0"
            ),
            row("interruption to silence, median", lambda each: milliseconds(each.silenced), "≤ 150 ms"),
            row("interruption to silence, longest", lambda each: milliseconds(each.silenced, 1.0), "≤ 150 ms"),
            row("interruptions that did not stop it", lambda each: each.deaf, "0"),
            row("backchannels and coughs that stopped it", stopped, "0"),
            row("end of the backchannel to going on, median", lambda each: milliseconds(each.resumed), "–"),
        ]
    )


async def measure(port: int, rounds: int) -> Findings:
    found = Findings()
    found.delays, _ = await ask(port, rounds)
    await hesitate(port, found)
    await interrupt(port, found, rounds)
    await assent(port, found)
    return found


@contextmanager
def pipecat(python: str, profile: str) -> Iterator[int]:
    """Start pipecat's pipeline with the same engines, in an interpreter that has pipecat's imports; yield its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    server = subprocess.Popen(
        [python, "benchmarks/peer_pipecat.py", str(port), profile],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LOGURU_LEVEL": "ERROR"},
    )
    try:
        until = time.monotonic() + 60
        while server.poll() is None and time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.25)
        else:
            raise RuntimeError("pipecat's pipeline did not start: does --peer-python have what it imports?")
        time.sleep(1.0)  # the check itself was a caller
        yield port
    finally:
        server.terminate()
        server.wait(10)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--profile", default="offline")
    options.add_argument("--peer", choices=("pipecat",), help="the same user talks with this one too")
    options.add_argument("--peer-python", default=sys.executable, help="an interpreter with the peer's dependencies")
    options.add_argument("--intrusions", action="store_true", help="only what is said over a reply, judged as heard")
    options.add_argument("--whisper", default="base", help="the model that hears intrusions")
    chosen = options.parse_args()
    if chosen.intrusions:
        rounds = min(chosen.rounds, len(intrusions.VOICES))
        print(intrusions.table(asyncio.run(intrusions.judged(chosen.whisper, rounds)), chosen.whisper))
        return
    found: dict[str, Findings] = {}
    with parley("--profile", chosen.profile) as port:
        found["Parley"] = asyncio.run(measure(port, chosen.rounds))
    print(table(found), flush=True)
    if chosen.peer:
        with pipecat(chosen.peer_python, chosen.profile) as port:
            found["pipecat"] = asyncio.run(measure(port, chosen.rounds))
        print("\n" + table(found))
    for name, each in found.items():
        print("\n" + "\n".join(f"- {name}: {note}" for note in each.notes))


if __name__ == "__main__":
    main()
