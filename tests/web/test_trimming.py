"""What nothing uses any more goes back to the system, when nobody talks."""

from __future__ import annotations

import asyncio
import ctypes
import sys

import psutil
import pytest

from web import trimming
from web.trimming import Trimmer, give_back


async def test_it_waits_until_nobody_talks(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, given = asyncio.get_running_loop(), asyncio.Event()
    trimmer = Trimmer(lambda: loop.call_soon_threadsafe(given.set))
    trimmer.talk(False)
    timer = trimmer._timer
    assert timer is not None and not timer.cancelled()
    trimmer.talk(True)
    assert timer.cancelled() and trimmer._timer is None
    monkeypatch.setattr(trimming, "AFTER_S", 0.0)
    trimmer.talk(False)
    await given.wait()
    trimmer.end()


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc keeps what was freed"
)
def test_what_was_freed_between_what_is_used_goes_back() -> None:
    blocks = [bytearray(3000) for _ in range(20_000)]
    still_used = blocks[::1000] + blocks[-1:]
    del blocks
    before = psutil.Process().memory_info().rss
    give_back()
    assert before - psutil.Process().memory_info().rss > 30_000_000
    assert len(still_used) == 21
