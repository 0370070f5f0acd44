"""What many talks would need, by a discrete-event model that is fed with service times.

    python benchmarks/load.py --talks 1,2,4,8 --json load.json
    python benchmarks/simulation.py --measured load.json         the model beside the measurement, on this machine
    python benchmarks/simulation.py --talks 10,1000,100000       a cluster: replicas, cards, cost, and a lost replica

A talk repeats a cycle: the user thinks and speaks, then is understood and answered. From the end of speech two things
run in parallel: the decision that the turn is over, and the reply, made by ears, mind and voice in sequence. A server
divides its capacity: the more work at once, the slower each piece (`Server`). The first word is heard when both are
done.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import statistics
import sys
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import simpy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.capacity import quantile

STAGES = ("ears", "mind", "voice")
Process = Generator[simpy.Event, Any, None]
Rate = Callable[[int], float]
"""The speed of each of that many pieces of work, relative to one alone."""


class Server:
    """A replica, or a machine: a number of pieces of work at once, each slower the more there are; the rest waits."""

    def __init__(self, env: simpy.Environment, rate: Rate, slots: float = math.inf) -> None:
        self._env, self._rate, self._slots = env, rate, slots
        self._inside: list[tuple[float, int, float, simpy.Event]] = []
        """Ordered by the progress at which each is done: (progress, number, work, event)."""
        self._waiting: deque[tuple[float, simpy.Event]] = deque()
        self._numbers = count()
        self._progress = 0.0
        """Seconds of work that a piece present since the beginning would have received."""
        self._since = env.now
        self._version = 0
        self.gone = False

    @property
    def load(self) -> int:
        return len(self._inside) + len(self._waiting)

    def serve(self, work: float) -> simpy.Event:
        """Return an event that fires with True once the work is done, or with False if this server is lost before."""
        done = self._env.event()
        self._advance()
        if len(self._inside) < self._slots:
            self._enter(work, done)
        else:
            self._waiting.append((work, done))
        self._plan()
        return done

    def lose(self) -> None:
        """Lose the server and all its work."""
        self.gone = True
        self._version += 1
        events = [event for *_, event in self._inside] + [event for _, event in self._waiting]
        self._inside.clear()
        self._waiting.clear()
        for event in events:
            event.succeed(False)

    def _enter(self, work: float, done: simpy.Event) -> None:
        heapq.heappush(self._inside, (self._progress + work, next(self._numbers), work, done))

    def _advance(self) -> None:
        if self._inside:
            self._progress += self._rate(len(self._inside)) * (self._env.now - self._since)
        self._since = self._env.now

    def _plan(self) -> None:
        """Schedule a return for when the next piece will be done, unless something changes before."""
        self._version += 1
        if not self._inside:
            return
        left = max(0.0, self._inside[0][0] - self._progress) / self._rate(len(self._inside))
        version = self._version
        self._env.timeout(left).callbacks.append(lambda _: self._reached(version))

    def _reached(self, version: int) -> None:
        if version != self._version:
            return
        self._advance()
        *_, done = heapq.heappop(self._inside)
        done.succeed(True)
        if self._waiting:
            self._enter(*self._waiting.popleft())
        self._plan()


class Stage:
    """Replicas of one kind. A request looks at two of them and takes the emptier one, as Ray Serve does."""

    def __init__(self, servers: Sequence[Server], chance: random.Random) -> None:
        self.servers = list(servers)
        self._chance = chance

    def take(self) -> Server:
        some = self._chance.choices(self.servers, k=2)
        return min(some, key=lambda server: server.load)

    def work(self, work: float) -> Process:
        """Work until it is done; start again if a replica is lost on the way."""
        while not (yield self.take().serve(work)):
            pass


@dataclass(frozen=True, slots=True)
class Service:
    """One stage: what a turn costs there, and what a replica can do and needs."""

    work_s: Sequence[float]
    """Seconds to the first result of a turn that is alone there; one of these values is drawn."""
    rest: float = 0.0
    """Seconds of work for each second of the reply, after the first sound."""
    slots: int = 1
    slowdown: float = 1.0
    """How much slower each piece gets with one more beside it, as a share of its time alone; 1 means taking turns."""
    cards: float = 0.0
    cores: float = 0.0

    def rate(self, pieces: int) -> float:
        return 1.0 / (1.0 + self.slowdown * (pieces - 1))

    def busy_s(self, reply_s: float) -> float:
        """Seconds of work for one turn."""
        return statistics.mean(self.work_s) + self.rest * reply_s

    def replicas(self, work_a_second: float, full: float) -> int:
        """The number of replicas with which each has at most that share of its slots at work."""
        at_once = max(1, math.floor(self.slots * full))
        return max(1, math.ceil(work_a_second / (at_once * self.rate(at_once))))


@dataclass(frozen=True, slots=True)
class Talking:
    """How people talk, and the parts of an answer that do not depend on load."""

    think_s: tuple[float, float]
    speech_s: Sequence[float]
    reply_s: Sequence[float]
    decided_s: Sequence[float]
    """Seconds from the end of speech until the turn is taken to be over."""
    way_s: float
    """Seconds from the first sound to the user's ear, in addition."""

    @property
    def cycle_s(self) -> float:
        """Seconds from one question to the next if every answer came at once."""
        return statistics.mean(self.think_s) + sum(map(statistics.mean, (self.speech_s, self.reply_s, self.decided_s)))


@dataclass(slots=True)
class Answered:
    """The result of a simulation: when each answer began, and after how many seconds."""

    turns: list[tuple[float, float]] = field(default_factory=list)

    def within(self, begin: float, end: float) -> list[float]:
        return [seconds for at, seconds in self.turns if begin <= at < end]


def talk(
    env: simpy.Environment,
    talking: Talking,
    services: Mapping[str, Service],
    stages: Mapping[str, Stage],
    chance: random.Random,
    answered: Answered,
) -> Process:
    """Simulate one user, forever."""

    def reply() -> Process:
        for name in STAGES:
            yield from stages[name].work(chance.choice(services[name].work_s))

    yield env.timeout(chance.uniform(0, talking.cycle_s))
    while True:
        yield env.timeout(chance.uniform(*talking.think_s))
        yield env.timeout(chance.choice(talking.speech_s))
        ended = env.now
        yield env.process(reply()) & env.timeout(chance.choice(talking.decided_s))
        yield env.timeout(talking.way_s)
        answered.turns.append((env.now, env.now - ended))
        said_s = chance.choice(talking.reply_s)
        for name in STAGES:
            if services[name].rest:
                env.process(stages[name].work(services[name].rest * said_s))
        yield env.timeout(said_s)


# --- one machine, as it was measured ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine whose cores are shared by all stages, and by what every talk needs all the time."""

    cores: int
    talking: Talking
    services: Mapping[str, Service]
    aside: float
    """Cores that a talk keeps busy besides the making of replies: for listening and for the wire."""

    def simulated(self, talks: int, seconds: float, seed: int = 1) -> Answered:
        env, chance, answered = simpy.Environment(), random.Random(seed), Answered()
        free = max(0.05 * self.cores, self.cores - self.aside * talks)
        cores = Server(env, lambda pieces: min(1.0, free / pieces))
        stages = dict.fromkeys(STAGES, Stage([cores], chance))
        for _ in range(talks):
            env.process(talk(env, self.talking, self.services, stages, chance, answered))
        env.run(until=seconds)
        return answered


def machine_of(told: Mapping[str, Any]) -> Machine:
    """Read load.py's file: its smallest number of talks gives the service times, and the rest of a talk's work."""
    alone = min(told["levels"], key=lambda level: level["talks"])
    steps = {name: sorted(values) for name, values in alone["steps"].items()}
    middle = {name: statistics.median(values) for name, values in steps.items()}
    # The steps of a turn are stored separately, so a stage's time is the difference between two steps' quantiles.
    ends = [steps["understood"], steps["first_clause"], steps["first_sound"]]
    begins = [[0.0], *ends[:-1]]
    services = {
        name: Service([max(0.0, _at(end, share) - _at(begin, share)) for share in SHARES])
        for name, begin, end in zip(STAGES, begins, ends, strict=True)
    }
    way_s = max(0.0, statistics.median(alone["delays"]) - max(middle["decided"], middle["first_sound"]))
    think = tuple(told["habits"]["think_s"])
    talking = Talking(think, alone["speech_s"], alone["reply_s"], steps["decided"], way_s)
    made = len(alone["delays"]) * sum(statistics.mean(service.work_s) for service in services.values())
    aside = max(0.0, sum(alone["busy"]) - made) / alone["seconds"] / alone["talks"]
    return Machine(told["cores"], talking, services, aside)


SHARES = tuple((number + 0.5) / 20 for number in range(20))


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def beside(told: Mapping[str, Any], seconds: float = 1800.0) -> str:
    """The prediction for every measured number of talks."""
    machine = machine_of(told)
    lines = [
        told["machine"],
        "",
        "| talks | median: measured | predicted ms | | p95: measured | predicted ms | |",
        "|---|---|---|---|---|---|---|",
    ]
    for level in told["levels"]:
        if not level["delays"]:
            continue
        predicted = machine.simulated(level["talks"], seconds).within(30.0, seconds)
        cells = [str(level["talks"])]
        for share in (0.5, 0.95):
            there, here = quantile(level["delays"], share), quantile(predicted, share)
            cells += [f"{1000 * there:.0f}", f"{1000 * here:.0f}", f"{round(100 * (here / there - 1)):+d} %"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# --- a cluster -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cluster:
    talking: Talking
    services: Mapping[str, Service]
    gateway_talks: int
    """Conversations that a gateway holds."""
    gateway_cores: float
    card_hour: float
    core_hour: float
    """Prices, in the same currency."""
    full: float = 0.65
    """The share of slots that should be at work, so that some are free for newcomers: with 0.75, p95 is above 1 s."""
    back_s: float = 60.0
    """Seconds until a lost replica has been replaced."""
    least: int = 2
    """Replicas of each stage, and gateways, whatever the load: with one, its loss would silence every talk."""

    def replicas(self, talks: int) -> dict[str, int]:
        turns_a_second, reply_s = talks / self.talking.cycle_s, statistics.mean(self.talking.reply_s)
        sized = {
            name: service.replicas(turns_a_second * service.busy_s(reply_s), self.full)
            for name, service in self.services.items()
        }
        needed = {"gateway": math.ceil(talks / self.gateway_talks), **sized}
        return {name: max(self.least, number) for name, number in needed.items()}

    def cards(self, replicas: Mapping[str, int]) -> int:
        """Number of cards; replicas of a stage that need only a share of a card are put together."""
        return sum(math.ceil(replicas[name] * service.cards) for name, service in self.services.items())

    def cost_hour(self, replicas: Mapping[str, int]) -> float:
        cores = replicas["gateway"] * self.gateway_cores
        cores += sum(replicas[name] * service.cores for name, service in self.services.items())
        return self.cards(replicas) * self.card_hour + cores * self.core_hour

    def simulated(
        self, talks: int, seconds: float, *, lost: str = "", lost_at: float = math.inf, seed: int = 1
    ) -> Answered:
        """Args:
        lost: the stage that loses a replica at `lost_at` seconds; it has at least two.
        """
        env, chance, answered = simpy.Environment(), random.Random(seed), Answered()
        replicas = self.replicas(talks)

        def server(service: Service) -> Server:
            return Server(env, service.rate, service.slots)

        stages = {
            name: Stage([server(service) for _ in range(replicas[name])], chance)
            for name, service in self.services.items()
        }

        def lose() -> Process:
            yield env.timeout(lost_at)
            servers = stages[lost].servers
            servers.pop().lose()
            yield env.timeout(self.back_s)
            servers.append(server(self.services[lost]))

        if lost:
            env.process(lose())
        for _ in range(talks):
            env.process(talk(env, self.talking, self.services, stages, chance, answered))
        env.run(until=seconds)
        return answered


def cluster_of(told: Mapping[str, Any]) -> Cluster:
    """Read a file of service times."""
    talking = Talking(**{**told["talking"], "think_s": tuple(told["talking"]["think_s"])})
    services = {name: Service(**told["stages"][name]) for name in STAGES}
    return Cluster(talking, services, **told["cluster"])


def sizes(cluster: Cluster, sizes: Sequence[int], lost: str, warm_s: float = 20.0, calm_s: float = 20.0) -> str:
    """Return a table with a row for each number of talks.

    A replica of the stage `lost` is lost after `warm_s`, which is left out, and `calm_s`. A few talks are simulated
    several times, so that a quantile has at least a thousand talks behind it.
    """
    lines = [
        "| talks | gateways | ears | mind | voice | cards | an hour | a talk and hour | p95 "
        f"| p95 in the {AFTER_S:.0f} s after a lost replica ({lost}) | the longest |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lost_at = warm_s + calm_s
    for talks in sizes:
        replicas, calm, after = cluster.replicas(talks), list[float](), list[float]()
        for seed in range(math.ceil(1000 / talks)):
            answered = cluster.simulated(talks, lost_at + AFTER_S, lost=lost, lost_at=lost_at, seed=seed)
            calm += answered.within(warm_s, lost_at)
            after += answered.within(lost_at, lost_at + AFTER_S)
        cost = cluster.cost_hour(replicas)
        cells = [
            f"{talks:,}", *(f"{replicas[name]:,}" for name in ("gateway", *STAGES)), f"{cluster.cards(replicas):,}",
            f"{cost:,.2f}", f"{cost / talks:.3f}", f"{1000 * quantile(calm, 0.95):.0f} ms",
            f"{1000 * quantile(after, 0.95):.0f} ms", f"{max(after):.1f} s",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


AFTER_S = 10.0
"""Seconds after the loss of a replica that are looked at."""
TIMES = Path(__file__).resolve().parent / "service_times.json"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--measured", type=Path, help="what load.py has kept: the model beside it")
    options.add_argument("--talks", default="10,1000,100000")
    options.add_argument("--times", type=Path, default=TIMES, help="service times of a cluster (service_times.json)")
    options.add_argument("--lost", choices=STAGES, default="voice", help="of which a replica is lost")
    chosen = options.parse_args()
    if chosen.measured:
        print(beside(json.loads(chosen.measured.read_text(encoding="utf-8"))))
        return
    told = json.loads(chosen.times.read_text(encoding="utf-8"))
    print(told["source"], end="\n\n")
    print(sizes(cluster_of(told), [int(each) for each in chosen.talks.split(",")], chosen.lost))


if __name__ == "__main__":
    main()
