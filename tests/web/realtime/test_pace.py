from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio import MOUTH_RATE
from web.realtime.pace import Pace
from web.realtime.pcm import BLOCK, WIRE_RATE, SoundError, ToEar, decoded, encoded, samples_of


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_played_before_it_was_sent_or_faster_than_time() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin()
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
    pace.begin()
    pace.sent(MOUTH_RATE)
    clock.now += 3
    pace.sent(MOUTH_RATE)
    clock.now += 0.25
    assert pace.played == MOUTH_RATE + MOUTH_RATE // 4


def test_a_pause_holds_and_a_new_reply_begins_at_nothing() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin()
    pace.sent(MOUTH_RATE)
    clock.now += 0.25
    pace.pause()
    clock.now += 5
    assert (pace.played, pace.left) == (MOUTH_RATE // 4, 0)
    pace.resume()
    clock.now += 0.25
    assert pace.played == MOUTH_RATE // 2
    pace.begin()
    assert pace.played == 0


@given(st.integers(0, 3 * BLOCK))
def test_samples_survive_the_wire(count: int) -> None:
    samples = np.linspace(-1, 1, count, dtype=np.float32)
    payloads = list(encoded(samples))
    assert sum(samples_of(payload) for payload in payloads) == count
    back = np.concatenate([decoded(payload) for payload in payloads]) if payloads else np.zeros(0, np.float32)
    assert np.allclose(back, samples, atol=1e-4)


def test_loud_samples_are_clipped_and_not_wrapped() -> None:
    (payload,) = encoded(np.array([2.0, -2.0], np.float32))
    assert np.allclose(decoded(payload), [1, -1], atol=1e-4)


@pytest.mark.parametrize("payload", ["%%%", "AAA", "AAAA", "ä"])
def test_what_is_no_sound_is_refused(payload: str) -> None:
    with pytest.raises(SoundError):
        decoded(payload)


def test_the_ear_gets_every_sample_at_its_own_rate() -> None:
    """A tone cut into odd pieces: the resampler keeps its state, so no seam is heard."""
    seconds = 2
    tone = np.sin(2 * np.pi * 440 * np.arange(seconds * WIRE_RATE) / WIRE_RATE).astype(np.float32)
    ear = ToEar()
    parts = [ear.feed(tone[start : start + 777]) for start in range(0, len(tone), 777)]
    heard = np.concatenate([*parts, ear.flush()])
    assert len(heard) == seconds * 16_000
    expected = np.sin(2 * np.pi * 440 * np.arange(len(heard)) / 16_000)
    assert np.abs(heard - expected)[200:-200].max() < 0.01
