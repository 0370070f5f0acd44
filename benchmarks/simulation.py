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
import json
import math
import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import simpy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.capacity import quantile
from benchmarks.one_machine import beside
from benchmarks.queues import Answered, Process, Server

STAGES = ("ears", "mind", "voice")


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
