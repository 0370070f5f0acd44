"""The worker processes that live below a test."""

from __future__ import annotations

from collections.abc import Collection

import psutil


def workers(others: Collection[psutil.Process] = ()) -> list[psutil.Process]:
    """Those that run now, but for `others`: the workers of engines that this test shares with its neighbours."""
    alive = (child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE)
    return [child for child in alive if child not in others and "pipeline.workers.process" in child.cmdline()]
