"""The reply's sound in between: nothing lost, nothing repeated, no clicks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio import Samples
from pipeline.conversation.events import ReplyAudio, ReplyDone, ReplyMade, ReplyPaused, ReplyResumed
from pipeline.ends.playback import FADE, Playback

LOUD = 0.5


def sound(count: int) -> Samples:
    return np.full(count, LOUD, np.float32)


def filled(count: int, *, made: bool = True) -> Playback:
    playback = Playback()
    playback.follow(ReplyAudio(1, 0, sound(count), 0))
    if made:
        playback.follow(ReplyMade(1, 0, count))
    return playback


def largest_step(*parts: Samples) -> float:
    whole = np.concatenate([np.zeros(1, np.float32), *parts, np.zeros(1, np.float32)])
    return float(np.abs(np.diff(whole)).max())


def test_a_reply_is_played_once_and_counted() -> None:
    playback = filled(1000)
    parts = [playback.take(300) for _ in range(5)]
    assert [len(part) for part in parts] == [300, 300, 300, 100, 0]
    assert (playback.reply, playback.played, playback.waiting) == ((1, 0), 1000, 0)


def test_a_pause_fades_and_a_resumption_loses_nothing() -> None:
    playback = filled(3000)
    before = playback.take(1000)
    playback.follow(ReplyPaused(1, 0))
    fading = playback.take(1000)
    assert len(fading) == FADE
    assert len(playback.take(1000)) == 0
    assert playback.played == 1000, "what fades out is heard again"
    playback.follow(ReplyResumed(1, 0))
    after = playback.take(5000)
    assert len(before) + len(after) == 3000
    assert after[FADE:].min() == pytest.approx(LOUD)
    assert largest_step(fading, np.zeros(10, np.float32), after[:FADE]) <= LOUD


def test_nothing_clicks() -> None:
    playback = filled(5000)
    parts = [playback.take(1000)]
    playback.follow(ReplyPaused(1, 0))
    parts.append(playback.take(500))
    playback.follow(ReplyResumed(1, 0))
    parts.append(playback.take(1000))
    playback.follow(ReplyDone(1, 0, "interrupted", "", "", ""))
    parts.append(playback.take(1000))
    assert largest_step(*parts) < 2 * LOUD / FADE


def test_a_late_voice_ends_and_begins_softly() -> None:
    playback = filled(1000, made=False)
    first = playback.take(2000)
    playback.follow(ReplyAudio(1, 0, sound(1000), 1000))
    playback.follow(ReplyMade(1, 0, 2000))
    second = playback.take(1000)
    assert playback.played == 2000
    assert largest_step(first, second[:500]) <= LOUD + 1e-6
    assert abs(float(first[-1])) < 0.01
    assert abs(float(second[0])) < 0.01


def test_a_dropped_reply_leaves_nothing_to_the_next() -> None:
    playback = filled(3000)
    playback.take(1000)
    playback.follow(ReplyDone(1, 0, "interrupted", "", "", ""))
    assert playback.waiting == FADE
    assert playback.reply is None
    playback.follow(ReplyAudio(2, 0, sound(500), 0))
    assert len(playback.take(5000)) == FADE + 500
    assert playback.played == 500


def test_a_new_reply_is_not_paused_by_an_old_pause() -> None:
    playback = filled(1000)
    playback.follow(ReplyPaused(1, 0))
    playback.follow(ReplyDone(1, 0, "interrupted", "", "", ""))
    playback.follow(ReplyAudio(2, 0, sound(500), 0))
    assert len(playback.take(1000)) == 500


@given(st.lists(st.tuples(st.sampled_from(["take", "pause", "resume"]), st.integers(1, 700)), max_size=40))
def test_whatever_is_paused_everything_is_counted_once(acts: list[tuple[str, int]]) -> None:
    playback = filled(5000)
    for act, count in acts:
        match act:
            case "take":
                assert len(playback.take(count)) <= count
            case "pause":
                playback.follow(ReplyPaused(1, 0))
            case _:
                playback.follow(ReplyResumed(1, 0))
    playback.follow(ReplyResumed(1, 0))
    while len(playback.take(1000)):
        pass
    assert playback.played == 5000
