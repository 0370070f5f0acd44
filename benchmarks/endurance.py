"""Does Parley stay up, and keep what was said? `python benchmarks/endurance.py` stresses it for two hours.

A Parley in its own process, with the real engines of the profile `small`, is talked to in real time. In between, events
chosen at random from a seed happen: the user hangs up anywhere in a turn, a worker is killed, a worker hangs (SIGSTOP),
the machine sleeps (every process is stopped), settings are changed, some of them to values that must be refused. After
each event, the profile's engines must answer the next question without help. At the end Parley is restarted on the same
data, and every turn that was ever reported as finished must be in its log and, word for word, in its memory.

POSIX only, because of the signals.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.simulated_user import Headset, Tracks, load, machine, wait_for
from benchmarks.voice_to_voice import QUESTIONS
from tests.support.product import Product, started

ANSWER_S = 120.0
"""Seconds within which a question must be answered; generous, because others may use the machine."""
NOTICED_S = 30.0
"""Seconds within which a hanging worker must be gone, after the turn in which it hung; 5 s on an idle machine."""
WHOLE_S = 120.0
"""Seconds within which Parley must be fully working again after an event."""
LOOK_EVERY_S = 60.0
SETTLED, LATE = (0.15, 0.4), (0.75, 1.0)
"""The parts of the run whose median memory is compared: once everything has been used, and at the end."""

CHANGES: tuple[dict[str, Any], ...] = (
    {"voice": {"engine": "espeak", "model": ""}},
    {"ears": {"engine": "pocketsphinx", "model": ""}},
    {"mind": {"engine": "builtin", "model": ""}},
    {"mind": {"temperature": 0.3}},
    {"turns": {"meaning": False}},
    {"recording": {"enabled": True}},
    {"log": {"level": "DEBUG"}},
)
REFUSED: tuple[dict[str, Any], ...] = (
    {"mind": {"engine": "openai", "model": "m", "url": "http://[::1"}},
    {"mind": {"engine": "openai", "model": "m", "url": "http://127.0.0.1:9/v1"}},
    {"ears": {"engine": "whisper", "model": "no/such-model"}},
    {"turns": {"shortest_ms": -1}},
)


@dataclass(frozen=True, slots=True)
class Look:
    """The resources at rest, with the engines of the profile."""

    at: float
    all_mb: float
    """Memory of all processes; shared memory counts once if the system reports it (PSS)."""
    server_mb: float
    processes: int
    threads: int
    """Threads of the server."""
    files: int
    """Files that the server has open."""

    def row(self) -> str:
        figures = f"{self.all_mb:.0f} | {self.server_mb:.0f} | {self.processes} | {self.threads} | {self.files}"
        return f"| {self.at / 60:.0f} | {figures} |"


HEAD = ("| minutes | MB, all | MB, server | processes | threads | files |", "|---|---|---|---|---|---|")


def megabytes(process: psutil.Process) -> float:
    memory = process.memory_full_info()
    return float(getattr(memory, "pss", memory.rss)) / 1e6


@dataclass(slots=True)
class Account:
    """What was done, its results, and what went wrong."""

    done: Counter[str] = field(default_factory=Counter)
    finished: list[dict[str, Any]] = field(default_factory=list)
    """Every record that Parley has reported."""
    faults: list[str] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)

    def fault(self, at: float, what: str) -> None:
        self.faults.append(f"{at / 60:.1f} min: {what}")
        print(f"FAULT at {self.faults[-1]}", flush=True)

    def growth(self, length: float, of: Callable[[Look], float]) -> float | None:
        """Growth in percent, from when everything had been used to the end; None if the run was too short to tell."""
        parts = [
            [of(look) for look in self.looks if begin * length <= look.at <= end * length]
            for begin, end in (SETTLED, LATE)
        ]
        if not all(parts):
            return None
        before, after = (statistics.median(part) for part in parts)
        return 100 * (after - before) / before


class Endurance:
    def __init__(self, product: Product, length: float, chance: random.Random, account: Account) -> None:
        self.product, self.length, self.chance, self.account = product, length, chance, account
        self.began = time.monotonic()
        self.api = httpx.AsyncClient(base_url=f"http://127.0.0.1:{product.port}", timeout=WHOLE_S)
        self.settings: dict[str, Any] = {}
        self.looked = 0.0
        self.steps: dict[str, tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = {
            "turn in peace": (3, self.talk),
            "hang-up": (4, self.hang_up),
            "kill": (2, self.kill),
            "hang": (2, self.hang),
            "sleep": (1, self.sleep),
            "change of settings": (2, self.change),
            "refused settings": (1, self.refused),
        }

    @property
    def at(self) -> float:
        """Seconds of the run so far."""
        return time.monotonic() - self.began

    async def run(self) -> None:
        self.settings = (await self.api.get("/api/settings")).json()["settings"]
        names = list(self.steps)
        weights = [weight for weight, _ in self.steps.values()]
        while self.at < self.length:
            (name,) = self.chance.choices(names, weights)
            self.account.done[name] += 1
            print(f"{self.at / 60:.1f} min: {name}", flush=True)
            try:
                await self.steps[name][1]()
                await self.whole_again(name)
            except (OSError, httpx.HTTPError, ConnectionClosed) as error:
                self.account.fault(self.at, f"{name}: {type(error).__name__}: {error}")
                if self.product.process.poll() is not None:
                    self.account.fault(self.at, f"Parley ended with {self.product.process.returncode}")
                    break
        await self.api.aclose()

    # -- what users do ------------------------------------------------------------------------------------------------

    async def connected(self, until: Callable[[Headset], Coroutine[Any, Any, None]]) -> None:
        """Talk until the given work is done, then hang up; finished turns are recorded."""
        address = f"ws://127.0.0.1:{self.product.port}/v1/realtime?parley=1"
        async with connect(address, max_size=None, open_timeout=WHOLE_S, ping_timeout=None) as socket:
            await asyncio.wait_for(wait_for(socket, "session.created"), WHOLE_S)
            user = Headset(socket, Tracks())
            running = [asyncio.create_task(work) for work in (user.run(), user.listen())]
            try:
                await until(user)
            finally:
                for task in running:
                    task.cancel()
                for ended in await asyncio.gather(*running, return_exceptions=True):
                    if isinstance(ended, ConnectionClosed):
                        print(f"{self.at / 60:.1f} min: Parley hung up: {ended}", flush=True)
                    elif isinstance(ended, Exception):
                        self.account.fault(self.at, f"{type(ended).__name__}: {ended}")
                self.take_down(user)

    def take_down(self, user: Headset) -> None:
        self.account.finished += user.tracks.records
        user.tracks.forget()

    def question(self) -> str:
        return self.chance.choice(QUESTIONS)

    async def answered(self, user: Headset, say: str) -> dict[str, Any] | None:
        """Ask one question and hear its whole reply; return its record, or None if there is none in time."""
        self.take_down(user)
        user.turn_done.clear()
        user.say(load(say))
        with suppress(TimeoutError):
            await asyncio.wait_for(user.turn_done.wait(), ANSWER_S)
        return user.tracks.records[-1] if user.tracks.records else None

    async def talk(self) -> None:
        turns = self.chance.randint(1, 3)

        async def ask(user: Headset) -> None:
            for _ in range(turns):
                if await self.answered(user, self.question()) is None:
                    self.account.fault(self.at, f"no answer in peace within {ANSWER_S:.0f} s")

        await self.connected(ask)

    async def hang_up(self) -> None:
        """Hang up anywhere in a turn, a few times."""

        async def speak(user: Headset) -> None:
            user.say(load(self.question()))
            await asyncio.sleep(self.chance.uniform(0.0, 9.0))

        for _ in range(self.chance.randint(1, 4)):
            await self.connected(speak)

    # -- what happens to processes ------------------------------------------------------------------------------------

    def workers(self) -> list[psutil.Process]:
        return sorted(self.product.workers(), key=lambda worker: worker.pid)

    async def during_a_turn(self, happens: Callable[[], None]) -> None:
        async def speak(user: Headset) -> None:
            user.say(load(self.question()))
            await asyncio.sleep(self.chance.uniform(0.0, 7.0))
            happens()
            with suppress(TimeoutError):  # that turn may be lost, because it is not finished
                await asyncio.wait_for(user.turn_done.wait(), 20)

        await self.connected(speak)

    async def kill(self) -> None:
        await self.during_a_turn(lambda: self.chance.choice(self.workers()).send_signal(signal.SIGKILL))

    async def hang(self) -> None:
        """Stop a worker for good: one that hangs must be replaced."""
        worker = self.chance.choice(self.workers())
        await self.during_a_turn(lambda: worker.send_signal(signal.SIGSTOP))
        until = time.monotonic() + NOTICED_S
        while worker.is_running():
            if time.monotonic() > until:
                self.account.fault(self.at, "a worker that hangs was not noticed")
                return
            await asyncio.sleep(0.1)

    async def sleep(self) -> None:
        """Close the lid: nothing runs, not even this user, but the clocks do."""
        length = self.chance.uniform(5.0, 40.0)

        def close_the_lid() -> None:
            server = psutil.Process(self.product.process.pid)
            everything = [server, *server.children(recursive=True)]
            for process in everything:
                process.send_signal(signal.SIGSTOP)
            time.sleep(length)
            for process in reversed(everything):
                process.send_signal(signal.SIGCONT)

        await self.during_a_turn(close_the_lid)

    # -- settings -----------------------------------------------------------------------------------------------------

    async def put(self, changes: dict[str, Any]) -> int:
        return (await self.api.put("/api/settings", json=changes)).status_code

    async def change(self) -> None:
        """Change settings in the middle of a turn, have one more turn with them, and change them back."""
        changes = self.chance.choice(CHANGES)
        back = {part: {name: self.settings[part][name] for name in names} for part, names in changes.items()}

        async def speak(user: Headset) -> None:
            user.say(load(self.question()))
            await asyncio.sleep(self.chance.uniform(0.0, 4.0))
            if (status := await self.put(changes)) != 200:
                self.account.fault(self.at, f"{json.dumps(changes)} was answered by {status}")
            with suppress(TimeoutError):
                await asyncio.wait_for(user.turn_done.wait(), ANSWER_S)
            if await self.answered(user, self.question()) is None:
                self.account.fault(self.at, f"no answer with {json.dumps(changes)}")

        await self.connected(speak)
        if (status := await self.put(back)) != 200:
            self.account.fault(self.at, f"{json.dumps(back)} was answered by {status}")

    async def refused(self) -> None:
        changes = self.chance.choice(REFUSED)
        if (status := await self.put(changes)) not in (409, 422):
            self.account.fault(self.at, f"{json.dumps(changes)} was answered by {status}")

    # -- and then -----------------------------------------------------------------------------------------------------

    async def whole_again(self, after: str) -> None:
        """Check that, without help, every engine runs, the settings are the profile's, and a question is answered."""
        until = time.monotonic() + WHOLE_S
        while not (health := (await self.api.get("/health")).json())["ok"]:
            if time.monotonic() > until:
                self.account.fault(self.at, f"not whole {WHOLE_S:.0f} s after {after}: {health['engines']}")
                return
            await asyncio.sleep(0.5)
        settings = (await self.api.get("/api/settings")).json()["settings"]
        if settings != self.settings:
            self.account.fault(self.at, f"after {after} the settings are others: {settings}")
        running = {stage: health["engines"][stage]["engine"] for stage in ("ears", "mind", "voice")}
        if running != {stage: self.settings[stage]["engine"] for stage in running}:
            self.account.fault(self.at, f"after {after} other engines run: {running}")

        async def ask(user: Headset) -> None:
            record = await self.answered(user, self.question())
            if record is None or record["outcome"] != "completed" or not record["heard"]:
                self.account.fault(self.at, f"after {after} a question was not answered: {record}")

        await self.connected(ask)
        if self.at - self.looked >= LOOK_EVERY_S:
            self.looked = self.at
            self.account.looks.append(look := self.look())
            print(look.row(), flush=True)

    def look(self) -> Look:
        server = psutil.Process(self.product.process.pid)
        everything = [server, *server.children(recursive=True)]
        figures = [megabytes(process) for process in everything]
        return Look(self.at, sum(figures), figures[0], len(everything), server.num_threads(), server.num_fds())


def kept(data: Path, exported: str) -> Callable[[dict[str, Any]], list[str]]:
    """Return a function that lists what of a finished turn a restarted Parley lacks in its log or its memory."""
    logged = set()
    for line in (data / "turns.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        logged.add((record["conversation"], record["turn"]))
    turns = [json.loads(line) for line in exported.splitlines()]
    remembered = {(turn.get("conversation"), turn.get("text")) for turn in turns}

    def lacking(record: dict[str, Any]) -> list[str]:
        said = [record[who] for who in ("user", "heard") if record[who]]
        lost = [text for text in said if (record["conversation"], text) not in remembered]
        if (record["conversation"], record["turn"]) not in logged:
            lost.append("its record")
        return lost

    return lacking


def talk(length: float, seed: int) -> tuple[str, bool]:
    """Return the report, and whether every promise was kept."""
    account = Account()
    with tempfile.TemporaryDirectory(prefix="parley-endurance-") as folder:
        data = Path(folder)
        with started(data, "--profile", "small") as product:
            product.wait_until()
            endurance = Endurance(product, length, random.Random(seed), account)
            asyncio.run(endurance.run())
        with started(data, "--profile", "small") as product:
            product.wait_until()
            exported = product.get("/api/memory/export")
        lacking = kept(data, exported)
        for record in account.finished:
            if lost := lacking(record):
                account.fault(length, f"lost of turn {record['turn']} of {record['conversation']}: {lost}")
    growths = {
        "all": account.growth(length, lambda look: look.all_mb),
        "server": account.growth(length, lambda look: look.server_mb),
    }
    grown = ", ".join(f"{name} {'too short to tell' if it is None else f'{it:+.1f} %'}" for name, it in growths.items())
    done = ", ".join(f"{count} × {name}" for name, count in sorted(account.done.items()))
    lines = [
        f"{machine()}; {length / 60:.0f} minutes, seed {seed}", "", *HEAD, *(look.row() for look in account.looks), "",
        f"Done: {done}.",
        f"{len(account.finished)} finished turns, each looked for after a restart.",
        f"Memory: {grown} (goal: < 5 %).",
        f"{len(account.faults)} faults" + "".join(f"\n- {fault}" for fault in account.faults),
    ]  # fmt: skip
    steady = all(growth is None or growth < 5 for growth in growths.values())
    return "\n".join(lines), steady and not account.faults


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=120.0, help="how long, in real time (120)")
    options.add_argument("--seed", type=int, default=13, help="what happens, and when (13)")
    chosen = options.parse_args()
    report, kept_all = talk(60 * chosen.minutes, chosen.seed)
    print(report)
    return 0 if kept_all else 1


if __name__ == "__main__":
    sys.exit(main())
