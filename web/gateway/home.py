"""A user's folder. Only one gateway at a time holds it, since its memory can be open only once.

    users/anna/.lock      locked by the gateway that has Anna, through the system: it is freed if that gateway dies
    users/anna/.wanted    another gateway needs her, and waits

Gateways that share a folder need no other communication.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.cleanup import uninterrupted

LOOK_EVERY_S = 0.05


class HomeTaken(Exception):
    """Another gateway has this user and does not give them up; the message is one sentence."""


class Home:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._wanted = folder / ".wanted"
        self._lock = FileLock(folder / ".lock", thread_local=False)

    async def take(self, patience_s: float) -> None:
        """Wait until the current holder gives the folder up. Raises HomeTaken, and OSError if the disk is unusable."""
        await asyncio.to_thread(self.folder.mkdir, parents=True, exist_ok=True)
        clock = asyncio.get_running_loop().time
        until = clock() + patience_s
        while not await uninterrupted(asyncio.to_thread(self._taken)):  # a lock once acquired must not be lost
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
        """Whether another gateway asks for the folder. Looks at the disk; False while that cannot be read."""
        try:
            return self._wanted.exists()
        except OSError:  # a shared disk is away for a moment
            return False

    def release(self) -> None:
        """Release the folder. Safe to call if it was not taken."""
        self._lock.release()
