from __future__ import annotations

from pipeline.audio import MOUTH_RATE
from web.realtime.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_played_before_it_was_sent_or_faster_than_time() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin("one")
    clock.now += 5
    assert pace.played == 0
    pace.sent(2 * MOUTH_RATE)
    assert pace.played == 0
    clock.now += 0.5
    assert (pace.played, pace.left) == (MOUTH_RATE // 2, 1.5)
    clock.now += 10
    assert (pace.played, pace.left) == (2 * MOUTH_RATE, 0)


def test_a_gap_in_the_sending_is_a_gap_in_the_playing() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin("one")
    pace.sent(MOUTH_RATE)
    clock.now += 3
    pace.sent(MOUTH_RATE)
    clock.now += 0.25
    assert pace.played == MOUTH_RATE + MOUTH_RATE // 4


def test_a_pause_holds_and_a_new_reply_begins_at_nothing() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin("one")
    pace.sent(MOUTH_RATE)
    clock.now += 0.25
    pace.pause()
    clock.now += 5
    assert (pace.played, pace.left) == (MOUTH_RATE // 4, 0)
    pace.resume()
    clock.now += 0.25
    assert pace.played == MOUTH_RATE // 2
    pace.begin("another")
    assert pace.played == 0


def test_a_reply_that_follows_another_is_played_after_it() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin("one")
    pace.sent(MOUTH_RATE)
    clock.now += 0.25
    pace.begin("another")
    pace.sent(MOUTH_RATE)
    clock.now += 0.5
    assert (pace.played, pace.left) == (0, 1.25)
    clock.now += 0.5
    assert pace.played == MOUTH_RATE // 4


def test_what_is_dropped_holds_nothing_up() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin("one")
    pace.sent(MOUTH_RATE)
    pace.drop("one")
    pace.begin("another")
    pace.sent(MOUTH_RATE)
    clock.now += 0.25
    assert pace.played == MOUTH_RATE // 4
