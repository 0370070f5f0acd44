"""What is appended beside the loop, and lost neither on the way nor at the end."""

from __future__ import annotations

import asyncio
import threading

from pipeline.disk import Appender


async def test_everything_is_written_in_order_also_what_was_on_its_way_when_it_ended() -> None:
    disk: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def append(items: list[int]) -> None:
        begun.set()
        assert go_on.wait(60)
        disk.extend(items)

    appender = Appender(append)
    appender.add(1)
    running = asyncio.create_task(appender.run())
    await asyncio.to_thread(begun.wait, 60)
    appender.add(2)
    running.cancel()
    appender.add(3)
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    assert disk == [1, 2, 3]


async def test_one_can_wait_until_all_of_it_is_on_disk() -> None:
    disk: list[int] = []
    appender = Appender(disk.extend)
    for number in range(5):
        appender.add(number)
    running = asyncio.create_task(appender.run())
    await appender.written()
    assert disk == [0, 1, 2, 3, 4]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
