"""How many conversations a Parley holds, and where it degrades.

    python benchmarks/load.py --talks 1,2,4,8           these numbers of talks with `main.py`, one after the other
    python benchmarks/load.py --gateway --find          a gateway with a user for each talk: the most that it holds
    python benchmarks/load.py --gateways 2 --ray PYTHON  gateways whose engines are in a Ray cluster on this machine

Simulated users speak real recordings in real time over the wire. At each number of talks they join one after another,
then talk for a while: they listen, think, ask again, and sometimes interrupt a reply. Everything is measured on their
two tracks. With `--at` the users talk with a server elsewhere; `--json` saves the input of benchmarks/simulation.py. A
file that exists is continued, so a long measurement can be made in pieces: the same number of talks twice is one more
sample of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.capacity import quantile, serving
from benchmarks.loaded import ELSEWHERE, USERS, gateways, in_ray, local_work, own_work
from benchmarks.simulated_user import Headset, Refused, Tracks, headset, load, machine, parley
from benchmarks.voice_to_voice import QUESTIONS

PATIENCE_S = 30.0
GOAL_S = 1.0
"""Seconds within which 95 of 100 turns should be answered."""
INTO_REPLY_S = 0.8
"""Seconds of a reply that are heard before it is interrupted."""
STEPS = {
    "noticed": "soft_end",
    "understood": "transcript_final",
    "decided": "decided",
    "first_clause": "first_clause",
    "first_sound": "first_sample",
}
"""Marks of the product's own records, for the breakdown."""


@dataclass(frozen=True, slots=True)
class Habits:
    """The users' habits."""

    think_s: tuple[float, float] = (1.0, 4.0)
    """The shortest and the longest silence before the next question."""
    interrupts: float = 0.1
    """The share of replies that the next question interrupts."""
    ramp_s: float = 0.5
    """Seconds between the arrivals of two users."""


@dataclass(slots=True)
class Findings:
    """The results at one number of talks."""

    talks: int
    delays: list[float] = field(default_factory=list)
    """Seconds from the last sample of a question to the first of its reply."""
    steps: list[dict[str, float]] = field(default_factory=list)
    """For each turn, the seconds from the end of speech until a step was done; `heard` is its delay."""
    speech_s: list[float] = field(default_factory=list)
    reply_s: list[float] = field(default_factory=list)
    interrupted: int = 0
    unanswered: int = 0
    refused: int = 0
    lost: int = 0
    """Talks that were cut off."""
    seconds: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)
    """Processor seconds in that time: of the server, of each engine's workers, and of a cluster's own processes."""
    users_busy: float = 0.0
    """Processor seconds of the users."""
    elsewhere: float = 0.0
    """Processor seconds of everything else on this machine."""

    @property
    def p95(self) -> float:
        return quantile(self.delays, 0.95) if self.delays else float("inf")

    @property
    def holds(self) -> bool:
        """Whether all these talks were served as they should be."""
        return self.p95 <= GOAL_S and not (self.unanswered or self.refused or self.lost)

    @property
    def cores(self) -> float:
        """Cores that the server and its workers kept busy."""
        return sum(self.busy.values()) / self.seconds if self.seconds else 0.0

    def median(self, step: str) -> float | None:
        took = [steps[step] for steps in self.steps if step in steps]
        return statistics.median(took) if took else None

    def take(self, record: dict[str, Any], heard: float | None) -> None:
        """Note when the steps of a turn were done, and when its reply was heard if that is known."""
        marks = record["marks"]
        if "speech_ended" in marks:
            took = {
                step: max(0.0, marks[mark] - marks["speech_ended"]) for step, mark in STEPS.items() if mark in marks
            }
            self.steps.append(took if heard is None else {**took, "heard": heard})
        if {"first_heard", "reply_done"} <= marks.keys():
            self.reply_s.append(marks["reply_done"] - marks["first_heard"])


def delay(tracks: Tracks, before: float) -> float | None:
    """Seconds from the end of what was said after `before` to the reply; None if there is none."""
    spoken = [end for _, end in tracks.stretches(tracks.user, joined=1.5) if end > before]
    if not spoken:
        return None
    # the end of an interrupted reply may still sound while the question continues
    heard = [start for start, _ in tracks.stretches(tracks.reply) if start > spoken[0] - 0.1]
    return max(0.0, heard[0] - spoken[0]) if heard else None


async def until(true: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    """Wait like a person who listens: check at every block."""
    try:
        async with asyncio.timeout(patience_s):
            while not true():  # noqa: ASYNC110  the headset's clock sends no events
                await asyncio.sleep(0.02)
    except TimeoutError:
        return False
    return True


async def turn(user: Headset, question: str, found: Findings, *, over: bool, interrupts: bool) -> None:
    """Ask one question, and listen to as much of its reply as wanted.

    Args:
        over: whether it interrupts the last reply, whose record comes first.
        interrupts: whether its own reply is left for the next question to interrupt.
    """
    user.turn_done.clear()
    before, sound = user.tracks.seconds, load(question)
    found.speech_s.append(len(sound) / 24_000)
    earlier = len(user.tracks.records)
    await user.speak(sound)
    if over:  # the record may have come while the question was spoken, or comes soon
        await until(lambda: len(user.tracks.records) > earlier, 5.0)
        user.turn_done.clear()
        earlier = len(user.tracks.records)
    if interrupts:
        came = await until(lambda: not user.silent or len(user.tracks.records) > earlier)
        await asyncio.sleep(INTO_REPLY_S)
        found.interrupted += 1
    else:
        came = await until(lambda: len(user.tracks.records) > earlier)
    tracks, records = Tracks(list(user.tracks.user), list(user.tracks.reply)), list(user.tracks.records)
    user.tracks.forget()
    measured = await asyncio.to_thread(delay, tracks, before) if came else None
    for record in records:  # the delay belongs to the last one, unless that is of the reply that was spoken over
        found.take(record, measured if record is records[-1] and not interrupts else None)
    if measured is None:
        found.unanswered += 1
    else:
        found.delays.append(measured)


Join = Callable[[int], Any]
"""Makes the connected headset of the user with that number."""


async def talk(join: Join, number: int, until_s: float, habits: Habits, found: Findings) -> None:
    """Simulate one user, until the loop's clock shows `until_s`."""
    clock, chance = asyncio.get_running_loop().time, random.Random(number)
    try:
        async with join(number) as user:
            await asyncio.sleep(chance.uniform(0.5, 2.0))
            asked, over = number, False
            while clock() < until_s:
                interrupts = chance.random() < habits.interrupts
                await turn(user, QUESTIONS[asked % len(QUESTIONS)], found, over=over, interrupts=interrupts)
                asked, over = asked + 1, interrupts
                if not interrupts:
                    await asyncio.sleep(chance.uniform(*habits.think_s))
    except* Refused:
        found.refused += 1
    except* (ConnectionClosed, OSError, RuntimeError):  # the last is an error that the server reported
        found.lost += 1


async def level(join: Join, talks: int, seconds: float, habits: Habits, busy: Callable[[], Counter[str]]) -> Findings:
    """Run that many talks at once. Results from while they join and engines warm up are left out."""
    found, clock = Findings(talks), asyncio.get_running_loop().time
    warm = max(habits.ramp_s * talks, min(15.0, seconds / 3))
    until_s = clock() + warm + seconds
    users: list[asyncio.Task[None]] = []
    for number in range(talks):
        users.append(asyncio.create_task(talk(join, number, until_s, habits, found)))
        await asyncio.sleep(habits.ramp_s)
    await asyncio.sleep(max(0.0, until_s - seconds - clock()))
    for name in ("delays", "steps", "speech_s", "reply_s"):
        getattr(found, name).clear()
    found.unanswered = found.interrupted = 0
    began, then = clock(), busy()
    await asyncio.wait(users)
    for user in users:
        user.result()
    found.seconds = clock() - began
    found.busy = {name: now - then[name] for name, now in busy().items()}
    found.users_busy, found.elsewhere = found.busy.pop(USERS), found.busy.pop(ELSEWHERE, 0.0)
    return found


def ms(seconds: float) -> str:
    return "–" if seconds == float("inf") else f"{1000 * seconds:.0f}"


def table(levels: Sequence[Findings], cores: int | None) -> str:
    lines = [
        machine(),
        "",
        "| talks | median | p95 | p99 ms | noticed / understood / decided / clause / sound, medians | turns "
        "| interrupted | unanswered | refused | lost | cores busy | users' | elsewhere |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in levels:
        steps = " / ".join("–" if (took := each.median(step)) is None else ms(took) for step in STEPS)
        quantiles = [ms(quantile(each.delays, share)) if each.delays else "–" for share in (0.5, 0.95, 0.99)]
        lines.append(
            f"| {each.talks} | {' | '.join(quantiles)} | {steps} | {len(each.delays)} | {each.interrupted} "
            f"| {each.unanswered} | {each.refused} | {each.lost} | {each.cores:.2f} "
            f"| {each.users_busy / max(each.seconds, 1e-9):.2f} | {each.elsewhere / max(each.seconds, 1e-9):.2f} |"
        )
    held = max((each.talks for each in levels if each.holds), default=0)
    lines += ["", f"Held, p95 within {GOAL_S:.0f} s and nobody lost: {held} talks."]
    if cores and held:
        busy = next(each.cores for each in levels if each.talks == held)
        lines[-1] += f" {held / cores:.1f} a core of this machine, {held / max(busy, 1e-9):.1f} a core kept busy."
    return "\n".join(lines)


Run = Callable[[int], Awaitable[Findings]]
"""Measures that many talks at once."""


async def each_of(levels: Sequence[int], run: Run) -> list[Findings]:
    """Measure each number of talks, one after the other."""
    return [await run(talks) for talks in levels]


async def most(first: int, run: Run) -> list[Findings]:
    """Measure twice as many each time until they do not hold, then halve the gap down to an eighth of what holds."""
    found, held, failed = list[Findings](), 0, 0
    while not failed or failed - held > max(1, held // 8):
        talks = (held + failed) // 2 if failed else 2 * held or first
        found.append(await run(talks))
        if found[-1].holds:
            held = talks
        else:
            failed = talks
    return found


def kept(file: Path, told: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the levels of an earlier piece of this measurement. Raises ValueError if it measured something else."""
    if not file.exists():
        return []
    earlier: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    differing = [
        name for name in ("cores", "profile", "habits") if earlier.get(name) != json.loads(json.dumps(told[name]))
    ]
    if differing:
        raise ValueError(f"{file} was measured with another {differing[0]}: choose another file.")
    levels: list[dict[str, Any]] = earlier["levels"]
    return levels


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--profile", default="offline")
    options.add_argument("--talks", default="1,2,4,8", help="how many at once, one after the other")
    options.add_argument("--find", action="store_true", help="from the first of them, find the most that holds")
    options.add_argument("--seconds", type=float, default=60.0, help="for each number")
    options.add_argument("--think", type=float, nargs=2, default=(1.0, 4.0), metavar="S")
    options.add_argument("--interrupts", type=float, default=0.1, help="share of replies that are spoken over")
    options.add_argument("--ramp", type=float, default=0.5, help="seconds between one user's coming and the next")
    options.add_argument("--gateway", dest="gateways", action="store_const", const=1, help="load a gateway")
    options.add_argument("--gateways", type=int, default=0, help="load so many gateways instead of main.py")
    options.add_argument("--ray", type=Path, metavar="PYTHON", help="their engines in a Ray cluster of this Python's")
    options.add_argument("--at", default="", help="a server elsewhere, like wss://parley.example")
    options.add_argument("--token", default="", help="what opens that")
    options.add_argument("--json", type=Path, help="keep the figures for benchmarks/simulation.py")
    chosen = options.parse_args()
    talks = [int(each) for each in chosen.talks.split(",")]
    habits = Habits(tuple(chosen.think), chosen.interrupts, chosen.ramp)
    told = {"machine": machine(), "cores": os.cpu_count(), "profile": chosen.profile, "habits": asdict(habits)}
    done: list[Findings] = []
    earlier = kept(chosen.json, told) if chosen.json else []

    def take(join: Join, busy: Callable[[], Counter[str]]) -> None:
        async def run(number: int) -> Findings:
            done.append(await level(join, number, chosen.seconds, habits, busy))
            print(f"{number} talks: p95 {ms(done[-1].p95)} ms, {len(done[-1].delays)} turns", flush=True)
            if chosen.json:  # after each, so that a run that is stopped has not been in vain
                levels = [*earlier, *(asdict(each) for each in done)]
                chosen.json.write_text(json.dumps({**told, "levels": levels}, indent=1) + "\n")
            return done[-1]

        asyncio.run(most(talks[0], run) if chosen.find else each_of(talks, run))

    try:
        if chosen.at:
            take(lambda _: headset(0, at=chosen.at, token=chosen.token), own_work)
        elif chosen.gateways:
            with ExitStack() as opened:
                cluster, head = opened.enter_context(in_ray(chosen.ray)) if chosen.ray else (None, None)
                products, tokens = opened.enter_context(gateways(chosen.gateways, chosen.profile, cluster))
                take(
                    lambda number: headset(products[number % len(products)].port, token=tokens[number]),
                    local_work([product.process.pid for product in products], head),
                )
        else:
            with parley("--profile", chosen.profile) as port:
                take(lambda _: headset(port), local_work([serving(port)]))
    finally:
        if done:
            print(table(done, None if chosen.at else os.cpu_count()))


if __name__ == "__main__":
    main()
