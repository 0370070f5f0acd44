"""A user's folder, which one gateway at a time has: its memory can be open once.

    users/anna/.lock      held by the gateway at which Anna is, by the system: it is free when that gateway dies
    users/anna/.wanted    another gateway has been asked for her, and waits

Gateways that share a folder need no other word between them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.cleanup import uninterrupted

LOOK_EVERY_S = 0.05


class HomeTaken(Exception):
    """Another gateway has this user and does not give them up; one sentence."""


class Home:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._wanted = folder / ".wanted"
        self._lock = FileLock(folder / ".lock", thread_local=False)

    async def take(self, patience_s: float) -> None:
        """Ask whoever has it to give it up, and wait for that. Raises HomeTaken, and OSError where there is no disk."""
        await asyncio.to_thread(self.folder.mkdir, parents=True, exist_ok=True)
        clock = asyncio.get_running_loop().time
        until = clock() + patience_s
        while not await uninterrupted(asyncio.to_thread(self._taken)):  # a lock that is got must not be lost sight of
            if clock() >= until:
                raise HomeTaken("You are connected to another server, which is busy: try again in a moment.")
            await asyncio.sleep(LOOK_EVERY_S)

    def _taken(self) -> bool:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            self._wanted.touch()
            return False
        self._wanted.unlink(missing_ok=True)
        return True

    def wanted(self) -> bool:
        """Whether another gateway asks for it. Looks at the disk."""
        return self._wanted.exists()

    def release(self) -> None:
        """Safe to call for one that was not taken."""
        self._lock.release()
