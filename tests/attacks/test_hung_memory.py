"""A memory that takes a question and never answers it: replies are made, and the talk ends."""

from __future__ import annotations

from tests.support.scene import Scene


def test_a_reply_does_not_wait_for_a_hung_memory() -> None:
    scene = Scene(memory_delay=1e9)
    scene.user(0.5, 1.5, "what time is it")
    scene.reply("It is noon.")
    told = scene.play(until=10.0)
    assert told.outcomes == ["completed"]
    assert "The memory is taking too long, so this reply is made without it." in told.notices
