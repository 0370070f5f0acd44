"""Time from the last sample of speech to the first of the reply, on the audio: `python benchmarks/voice_to_voice.py`.

Plays recordings in real time into a running Parley over its WebSocket, as a headset would, and measures on the two
tracks. The product's own records only break the time down.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.simulated_user import Tracks, headset, load, machine, parley

QUESTIONS = ["weather_question.wav", "bear_or_shark.mp3", "austen_0890.wav", "austen_0870.wav"]
PARTS = [
    "soft_end",
    "transcript_final",
    "recalled",
    "first_token",
    "first_clause",
    "first_sample",
    "decided",
    "first_sent",
]


async def ask(port: int, rounds: int) -> tuple[list[float], Tracks]:
    """Ask every question `rounds` times; return the seconds from speech to reply."""
    delays: list[float] = []
    async with headset(port) as user:
        await asyncio.sleep(1.0)
        for number in range(rounds * len(QUESTIONS)):
            user.turn_done.clear()
            before = user.tracks.seconds
            user.say(load(QUESTIONS[number % len(QUESTIONS)]))
            try:
                await asyncio.wait_for(user.turn_done.wait(), 30)
            except TimeoutError:
                print(f"no answer to {QUESTIONS[number % len(QUESTIONS)]}", flush=True)
                continue
            await asyncio.sleep(0.5)
            spoken = [end for _, end in user.tracks.stretches(user.tracks.user, joined=1.5) if end > before]
            heard = [start for start, _ in user.tracks.stretches(user.tracks.reply) if start > before]
            if spoken and heard:
                delays.append(heard[0] - spoken[0])
        return delays, user.tracks


def table(delays: list[float], tracks: Tracks) -> str:
    ordered = sorted(delays)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    lines = [
        f"{machine()}; {len(delays)} turns",
        "",
        "| from the last sample of speech to … | median ms | p95 ms |",
        "|---|---|---|",
        f"| **the first sample heard (audio alone)** | **{1000 * statistics.median(delays):.0f}** "
        f"| **{1000 * p95:.0f}** |",
    ]
    for part in PARTS:
        times = sorted(
            record["marks"][part] - record["marks"]["speech_ended"]
            for record in tracks.records
            if part in record["marks"] and "speech_ended" in record["marks"]
        )
        if times:
            high = times[min(len(times) - 1, round(0.95 * (len(times) - 1)))]
            lines.append(f"| {part.replace('_', ' ')} | {1000 * statistics.median(times):.0f} | {1000 * high:.0f} |")
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5, help="how often each of the four recordings is asked")
    options.add_argument("--profile", default="offline")
    chosen = options.parse_args()
    with parley("--profile", chosen.profile) as port:
        print(table(*asyncio.run(ask(port, chosen.rounds))))


if __name__ == "__main__":
    main()
