"""Does it leak? `python benchmarks/endurance.py --hours 2` talks as fast as the engines go, with all the real ones.

The same recordings are asked again and again in one conversation; every ten minutes of simulated talk the memory of
all processes is read, and the tasks and what waits in queues is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.simulated_user import machine
from benchmarks.voice_to_voice import QUESTIONS
from config import Settings
from pipeline.audio import EAR_RATE, MOUTH_RATE
from pipeline.conversation.conversation import Conversation
from pipeline.ends.file import hold, read_sound
from pipeline.engines.running import Engines
from tests.support.recordings import recording

EVERY_S = 600.0
"""Of simulated talk, between two looks."""


def resident() -> float:
    """MB of this process and its workers."""
    process = psutil.Process()
    return sum(float(each.memory_info().rss) for each in [process, *process.children(recursive=True)]) / 1e6


async def talk(hours: float) -> str:
    questions = [read_sound(recording(name)) for name in QUESTIONS]
    rows: list[str] = []
    with tempfile.TemporaryDirectory() as data:
        engines = Engines(Settings(), Path(data))
        await engines.start()
        began, first, last = time.monotonic(), 0.0, 0.0
        talked, looked, turns = 0.0, 0.0, 0
        try:
            async with Conversation(engines.stages(), Settings(), name="endurance") as conversation:
                for question in cycle(questions):
                    held = await hold(conversation, [question])
                    turns += len(held.records)
                    talked += len(question) / EAR_RATE + len(held.sound) / MOUTH_RATE
                    if talked - looked >= min(EVERY_S, 360 * hours):
                        looked = talked
                        gc.collect()
                        last = resident()
                        first = first or last
                        tasks = len(asyncio.all_tasks())
                        rows.append(f"| {talked / 60:.0f} | {turns} | {last:.0f} | {tasks} |")
                        print(rows[-1], flush=True)
                    if talked >= 3600 * hours:
                        break
        finally:
            await engines.stop()
    head = ["| minutes of talk | turns | MB, all processes | tasks |", "|---|---|---|---|"]
    growth = f"{100 * (last - first) / first:+.1f} % since the first row, in {time.monotonic() - began:.0f} s"
    return "\n".join([machine(), "", *head, *rows, "", f"Growth {growth} (goal: < 5 %)."])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--hours", type=float, default=2.0, help="of simulated talk")
    print(asyncio.run(talk(options.parse_args().hours)))


if __name__ == "__main__":
    main()
