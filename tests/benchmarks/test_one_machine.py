"""The model of one machine: alone it does what was measured, and a crowd is slowed down where it has to wait."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from benchmarks.one_machine import Machine, beside, interval, machine_of, merged

STEPS = {
    "noticed": 0.1,
    "understood": 0.2,
    "decided": 0.3,
    "first_clause": 0.25,
    "first_sound": 0.3,
    "heard": 0.4,
}


def level(**changed: Any) -> dict[str, Any]:
    """Twenty turns of one talk in 200 s, each of 2 s of speech; PocketSphinx takes a tenth of the sound's length."""
    alone = {
        "talks": 1,
        "delays": [0.4] * 20,
        "steps": [STEPS] * 20,
        "speech_s": [2.0] * 20,
        "reply_s": [3.0] * 20,
        "busy": {"server": 10.0, "pocketsphinx": 6.0, "smart-turn": 1.0, "memory": 2.0, "espeak": 2.0},
        "users_busy": 10.0,
        "elsewhere": 0.0,
        "seconds": 200.0,
    }
    return {**alone, **changed}


def told(*levels: dict[str, Any]) -> dict[str, Any]:
    habits = {"think_s": [1.0, 3.0], "interrupts": 0.0, "ramp_s": 0.5}
    return {"machine": "made up", "cores": 2, "habits": habits, "levels": list(levels)}


def median_of(machine: Machine, talks: int, elsewhere: float = 0.0) -> float:
    return statistics.median(machine.simulated(talks, 120.0, elsewhere).within(10.0, 120.0))


def test_work_is_where_the_processes_did_it() -> None:
    machine = machine_of(told(level()))
    assert machine.judging == pytest.approx(0.05)
    assert machine.hearing == pytest.approx((6.0 - 20 * 0.1) / 40), "what was decoded after the speech is apart"
    assert machine.block == pytest.approx({"users": 0.001, "server": 0.001})
    assert machine.after == pytest.approx({"mind": (2.0 - 20 * 0.05) / 20, "voice": (2.0 - 20 * 0.05) / 20})


def test_one_talk_takes_what_it_took_and_a_crowd_longer() -> None:
    machine = machine_of(told(level()))
    alone = median_of(machine, 1)
    assert alone == pytest.approx(0.4, abs=0.02)
    assert alone < median_of(machine, 8) < median_of(machine, 12)
    assert median_of(machine, 1, elsewhere=1.5) > alone + 0.05, "half a core does what one and more did"


def test_waiting_for_silence_is_not_work() -> None:
    """What no load prolongs: the pause until it is noticed, the silence that the turn model wants, the way."""
    waits = dict.fromkeys(STEPS, 0.6) | {"decided": 0.65, "heard": 0.7}
    machine = machine_of(told(level(steps=[waits] * 20)))
    assert median_of(machine, 10) - median_of(machine, 1) < 0.1


def test_what_the_fewest_talks_waited_for_is_not_taken_for_work() -> None:
    crowded = told(level(elsewhere=1.2 * 200))
    assert median_of(machine_of(crowded), 1, elsewhere=1.2) == pytest.approx(0.4, abs=0.05)
    assert all(turn.finish < STEPS["understood"] - STEPS["noticed"] for turn in machine_of(crowded).turns)


def test_what_is_computed_for_nobody_does_not_grow_with_the_talks() -> None:
    one, two = level(busy={"server": 30.0}), level(talks=2, busy={"server": 40.0})
    machine = machine_of(told(one, two))
    assert machine.idle == pytest.approx(0.1)
    assert machine.block["server"] == pytest.approx(0.001), "the 10 s that a talk more takes in 200"
    assert machine_of(told(one)).idle == 0.0


def test_pieces_of_a_measurement_are_put_together() -> None:
    both = merged([level(), level(busy={"server": 1.0}), level(talks=4)])
    assert [*both] == [1, 4]
    assert len(both[1]["steps"]) == 40 and both[1]["seconds"] == 400.0
    assert both[1]["busy"]["server"] == 11.0 and both[4]["busy"]["server"] == 10.0


def test_the_interval_of_a_quantile_holds_it_and_is_narrower_with_more_turns() -> None:
    few, many = [0.1 * number for number in range(20)], [0.001 * number for number in range(2000)]
    (low, high), (least, most) = interval(few, 0.9), interval(many, 0.9)
    assert low < 1.7 < high and least < 1.8 < most
    assert most - least < high - low


def test_the_table_sets_prediction_beside_measurement() -> None:
    rows = beside(told(level(), level(talks=4, delays=[])), 60.0).splitlines()
    assert len(rows) == 5 and rows[-1].startswith("| 1 | 20 | 400 (400 to 400) | 4"), "what has no turns has no row"
    with pytest.raises(ValueError, match="No turn in this file"):
        machine_of(told(level(steps=[])))
