"""How many conversations one Parley process holds, and whether it leaks: `python benchmarks/capacity.py`.

Simulated users with real recordings talk with one process at the same time, in real time. Each waits for the answer,
thinks for a moment and asks again. One conversation more than the capacity is tried, and must be refused. With
`--hours` one of them continues, to measure the growth of memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from websockets.asyncio.client import connect

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.simulated_user import Headset, Tracks, headset, load, machine, parley
from benchmarks.voice_to_voice import QUESTIONS
from config import Settings
from config.profiles import PROFILES
from web.places import of_this_machine

PATIENCE_S = 30.0
WARM_S = 60.0
"""Time until twenty recognisers exist (each takes a second of work at first use); measuring starts afterwards."""

MARKS = ("transcript_final", "recalled", "decided", "first_sample")

THOUGHT_S = (1.0, 4.0)
"""The shortest and the longest silence before the next question; each user has their own rhythm."""


async def turn(user: Headset, question: str, records: list[dict[str, Any]]) -> float | None:
    """Seconds from the last sample of speech to the first of the reply, on the two tracks; None without an answer."""
    user.turn_done.clear()
    before = user.tracks.seconds
    user.say(load(question))
    try:
        await asyncio.wait_for(user.turn_done.wait(), PATIENCE_S)
    except TimeoutError:
        return None
    records.extend(user.tracks.records)
    tracks = Tracks(list(user.tracks.user), list(user.tracks.reply))
    user.tracks.forget()
    spoken = [end for _, end in await asyncio.to_thread(tracks.stretches, tracks.user, 1.5) if end > before]
    heard = [start for start, _ in await asyncio.to_thread(tracks.stretches, tracks.reply) if start > before]
    return heard[0] - spoken[0] if spoken and heard else None


@dataclass(slots=True)
class Findings:
    delays: list[float] = field(default_factory=list)
    unanswered: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)
    """The product's own records, only for the breakdown."""

    def forget(self) -> None:
        """Discard what was measured before everything was warm."""
        self.delays.clear()
        self.records.clear()

    def median(self, mark: str) -> str:
        """The median time of a mark, in milliseconds from the end of speech."""
        times = [
            record["marks"][mark] - record["marks"]["speech_ended"]
            for record in self.records
            if mark in record["marks"] and "speech_ended" in record["marks"]
        ]
        return f"{1000 * statistics.median(times):.0f}" if times else "–"


async def talk(port: int, number: int, seconds: float, found: Findings) -> None:
    async with headset(port) as user:
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        await asyncio.sleep(0.37 * number % 3.0)
        asked = number
        while clock() < until:
            delay = await turn(user, QUESTIONS[asked % len(QUESTIONS)], found.records)
            if delay is None:
                found.unanswered += 1
            else:
                found.delays.append(delay)
            asked += 1
            shortest, longest = THOUGHT_S
            await asyncio.sleep(shortest + (longest - shortest) * (asked * 0.61 % 1.0))


async def refused(port: int) -> str:
    """Return the message that one user too many gets."""
    async with connect(f"ws://127.0.0.1:{port}/v1/realtime?parley=1") as socket:
        event = json.loads(await asyncio.wait_for(socket.recv(), 10))
        return str(event["error"]["message"]) if event["type"] == "error" else "nothing: it was let in"


def resident(server: int) -> int:
    """Resident bytes of the process and its workers."""
    process = psutil.Process(server)
    sizes: list[int] = [each.memory_info().rss for each in [process, *process.children(recursive=True)]]
    return sum(sizes)


def work(server: int) -> list[float]:
    """Processor seconds so far of the serving process, of the simulated users, and of each worker."""
    process = psutil.Process(server)
    times = [each.cpu_times() for each in [process, psutil.Process(), *process.children(recursive=True)]]
    return [float(each.user + each.system) for each in times]


def serving(port: int) -> int:
    """The process id that listens on a port."""
    listening = (each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN)
    return int(next(each.pid for each in listening if each.laddr.port == port and each.pid is not None))


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))]


async def measure(port: int, conversations: int, seconds: float, capacity: int) -> str:
    found = Findings()
    server = serving(port)
    users = [asyncio.create_task(talk(port, number, seconds, found)) for number in range(conversations)]
    await asyncio.sleep(min(WARM_S, seconds / 2))
    cold = quantile(found.delays, 0.5) if found.delays else float("nan")
    found.forget()
    early = resident(server)
    told = await refused(port) if conversations == capacity else "not tried"
    busy, worked, clock = [psutil.cpu_percent(interval=None)], work(server), asyncio.get_running_loop().time
    began = clock()
    while not all(user.done() for user in users):
        await asyncio.sleep(5)
        busy.append(psutil.cpu_percent(interval=None))
    for user in users:
        user.result()
    late = resident(server)
    shares = [100 * (now - then) / (clock() - began) for then, now in zip(worked, work(server), strict=False)]
    return "\n".join(
        [
            machine(),
            "",
            "| measured on the two tracks | Parley | goal |",
            "|---|---|---|",
            f"| conversations at once | {conversations} | {capacity} |",
            f"| turns answered / not answered | {len(found.delays)} / {found.unanswered} | all |",
            f"| voice to voice, median | {1000 * statistics.median(found.delays):.0f} ms | – |",
            f"| voice to voice, p95 | {1000 * quantile(found.delays, 0.95):.0f} ms | ≤ 1000 ms |",
            f"| … median of the first {WARM_S:.0f} s, while recognisers are made | {1000 * cold:.0f} ms | – |",
            f"| … understood / recalled / turn over / first sound made, medians "
            f"| {' / '.join(found.median(mark) for mark in MARKS)} ms | – |",
            f"| processors busy, everything on the machine included | {statistics.mean(busy[1:]):.0f} % | – |",
            f"| … of the server, the simulated users, each worker | {', '.join(f'{s:.0f} %' for s in shares)} | – |",
            f"| memory of all processes, {seconds:.0f} s apart | {early / 1e6:.0f} → {late / 1e6:.0f} MB "
            f"({100 * (late - early) / early:+.1f} %) | < 5 % |",
            f"| one more is told | “{told}” | a reason |",
        ]
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--conversations", type=int, help="default: as many as this machine holds")
    options.add_argument("--seconds", type=float, default=120.0)
    options.add_argument("--hours", type=float, help="how long, for leaks; instead of --seconds")
    chosen = options.parse_args()
    seconds = chosen.seconds if chosen.hours is None else 3600 * chosen.hours
    with parley("--profile", "offline") as port:
        most = of_this_machine(PROFILES["offline"].applied_to(Settings()))
        print(asyncio.run(measure(port, chosen.conversations or most, seconds, most)))


if __name__ == "__main__":
    main()
