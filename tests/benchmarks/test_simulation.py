"""The model of many machines: its servers by theory, its sizes by hand, and that it finds what it was made of."""

from __future__ import annotations

import json
import random
import statistics
from typing import Any

import pytest
import simpy

from benchmarks.queues import Line, Process, Server
from benchmarks.simulation import TIMES, Service, Stage, cluster_of, sizes


def turns_taken(pieces: int) -> float:
    return 1.0 / pieces


def finished(server: Server, env: simpy.Environment, *work: float) -> list[float]:
    """When each was done, all begun at once."""
    ends: list[float] = []
    for each in work:
        server.serve(each).callbacks.append(lambda _: ends.append(env.now))
    env.run()
    return ends


def test_work_that_is_alone_takes_its_time_and_what_is_beside_it_slows_it_down() -> None:
    env = simpy.Environment()
    assert finished(Server(env, turns_taken), env, 2.0) == [2.0]
    env = simpy.Environment()
    assert finished(Server(env, turns_taken), env, 1.0, 2.0) == [2.0, 3.0]
    env = simpy.Environment()
    assert finished(Server(env, lambda pieces: 1.0), env, 1.0, 2.0) == [1.0, 2.0]


def test_what_has_no_slot_waits_for_one() -> None:
    env = simpy.Environment()
    assert finished(Server(env, turns_taken, slots=1), env, 1.0, 2.0) == [1.0, 3.0]


def test_a_process_does_one_thing_after_the_other_and_shares_the_cores_with_others() -> None:
    env, ends = simpy.Environment(), list[tuple[str, float]]()
    cores = Server(env, turns_taken)
    lines = {"one": Line(env, cores), "other": Line(env, cores)}

    def piece(name: str) -> Process:
        yield from lines[name].work(1.0)
        ends.append((name, env.now))

    for name in ("one", "one", "other"):
        env.process(piece(name))
    env.run()
    assert ends == [("one", 2.0), ("other", 2.0), ("one", 3.0)]


def test_a_server_that_is_shared_out_is_as_slow_as_theory_says() -> None:
    """M/M/1 with processor sharing: 1 / (1 / work - arrivals) on average."""
    env, chance, took = simpy.Environment(), random.Random(3), list[float]()
    server = Server(env, turns_taken)

    def piece() -> Process:
        began = env.now
        yield server.serve(chance.expovariate(1.0))
        took.append(env.now - began)

    def arrivals() -> Process:
        for _ in range(20_000):
            yield env.timeout(chance.expovariate(0.5))
            env.process(piece())

    env.process(arrivals())
    env.run()
    assert statistics.mean(took) == pytest.approx(2.0, rel=0.05)


def test_work_on_a_replica_that_is_lost_is_begun_again_elsewhere() -> None:
    env, chance = simpy.Environment(), random.Random(1)
    one, other = Server(env, turns_taken), Server(env, turns_taken)
    stage = Stage([one], chance)
    done = env.process(stage.work(2.0))

    def lose() -> Process:
        yield env.timeout(1.5)
        stage.servers.remove(one)
        stage.servers.append(other)
        one.lose()

    env.process(lose())
    env.run(until=done)
    assert env.now == 3.5, "half a second before its end it was lost, and took its two seconds once more"


def test_replicas_are_as_many_as_keep_some_slots_free() -> None:
    service = Service([1.0], slots=8, slowdown=0.0)
    assert [service.replicas(work, full=0.75) for work in (0.1, 6.0, 6.1, 60.0)] == [1, 1, 2, 10]
    assert Service([1.0], slots=8, slowdown=1.0).replicas(6.0, full=0.75) == 6, "six at once are no faster than one"


def a_cluster() -> dict[str, Any]:
    return json.loads(TIMES.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_a_cluster_that_is_sized_so_answers_all_and_a_lost_replica_ends_no_talk() -> None:
    cluster = cluster_of(a_cluster())
    replicas = cluster.replicas(400)
    assert replicas["gateway"] == 4 and replicas["voice"] > 1
    calm = cluster.simulated(400, 30.0)
    lost = cluster.simulated(400, 30.0, lost="voice", lost_at=15.0)
    assert calm.within(0, 15) == lost.within(0, 15), "the same until then"
    assert max(lost.within(15, 25)) > max(calm.within(15, 25))
    assert len(lost.turns) == pytest.approx(len(calm.turns), rel=0.05)


def test_every_stage_has_another_replica_however_few_talk() -> None:
    """As in deploy/serve.yaml: so a few talks go on as well when one is lost."""
    cluster = cluster_of(a_cluster())
    assert cluster.replicas(1) == {"gateway": 2, "ears": 2, "mind": 2, "voice": 2}
    row = sizes(cluster, [200], "voice").splitlines()[-1].split(" | ")
    assert row[:6] == ["| 200", "2", "2", "2", "3", "6"]
    calm_ms, after_ms, longest_s = (float(cell.split()[0]) for cell in row[-3:])
    assert 300 < calm_ms < 1000 and 300 < after_ms <= 1000 * (longest_s + 0.05)


def test_cost_is_what_its_parts_cost() -> None:
    cluster = cluster_of(a_cluster())
    replicas = {"gateway": 2, "ears": 5, "mind": 1, "voice": 3}
    assert cluster.cards(replicas) == 2 + 1 + 3, "shares of a card are put together"
    assert cluster.cost_hour(replicas) == pytest.approx(6 * 2.5 + (2 * 2 + 5 * 1 + 1 * 4 + 3 * 2) * 0.04)
