"""A long talk under the virtual clock: nothing piles up."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

import pytest

from pipeline.conversation.conversation import Conversation
from tests.support.scene import Scene

HOUR = 3600.0


@pytest.mark.parametrize("hours", [0.05, pytest.param(2, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_hours_of_talk_leave_nothing_behind(hours: float) -> None:
    scene = Scene(kept=100)
    scene.reply("Once there was a fox who lived under a hill near the sea.")
    for number in range(round(180 * hours)):
        at = 1.0 + 20.0 * number
        scene.user(at, at + 1.0, "what time is it now")
        if number % 3 == 0:
            scene.user(at + 3.5, at + 4.5, "no tell me something else")
        if number % 4 == 0:
            scene.noise(at + 8.0, at + 8.2)
    sizes: list[int] = []
    tasks: list[int] = []

    def look(conversation: Conversation) -> None:
        scene.prompts.clear()
        scene.read.clear()
        scene.context.clear()
        scene.recalled.clear()
        scene.remembered.clear()
        gc.collect()
        sizes.append(tracemalloc.get_traced_memory()[0])
        tasks.append(len(asyncio.all_tasks()))

    for eighth in range(1, 9):
        scene.at(20.0 * round(eighth * hours * HOUR / 160) - 3.0, look)  # before somebody speaks, and after all replies
    tracemalloc.start()
    try:
        told = scene.play(until=hours * HOUR)
    finally:
        tracemalloc.stop()
    assert len(told.records) > 200 * hours
    assert {record.outcome for record in told.records} <= {"completed", "interrupted", "withdrawn", "not understood"}
    assert tasks == list(range(tasks[0], tasks[0] - 8, -1)), (
        "the test's own looks are done one by one, and no task more"
    )
    assert sizes[-1] - sizes[1] < 1_500_000, "the words of 400 turns, but not their sound: a second of it has 64 kB"
