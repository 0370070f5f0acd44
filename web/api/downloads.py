"""The page's download: the same command as in the terminal, in its own process, with progress."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from config.places import ROOT
from web.api.http import Problem

logger = logging.getLogger(__name__)

GRACE_S = 5.0
"""Seconds after which a child asked to end is killed; what it downloaded is kept either way."""

State = Literal["idle", "asking", "fetching", "done", "failed", "stopped"]


@dataclass(slots=True)
class DownloadStatus:
    state: State = "idle"
    files: list[dict[str, Any]] = field(default_factory=list)
    """{repository, path, size, have}, in bytes."""
    size: int = 0
    have: int = 0
    speed: float = 0.0
    """Bytes per second."""
    left_s: float | None = None
    checking: str | None = None
    """The file whose checksum is being computed."""
    waiting: bool = False
    """Whether the connection is lost and being retried."""
    message: str | None = None
    """Why it failed, and what to do."""
    licence: str | None = None
    """The page whose terms must be accepted, if that is the reason."""

    def take(self, event: dict[str, Any]) -> None:
        """Apply an event from the child."""
        match event.pop("kind"):
            case "plan":
                self.state = "fetching"
                self.files, self.size, self.have = event["files"], event["size"], event["have"]
            case "progress":
                file = self.files[event["file"]]
                file["have"], self.have = event["file_have"], event["have"]
                self.speed, self.left_s = event["speed"], event["left_s"]
                self.checking = file["path"] if event["checking"] else None
                self.waiting = event["waiting"]
            case "done":
                self.state, self.have, self.left_s, self.checking = "done", self.size, 0.0, None
            case "failed":
                self.state, self.message, self.licence = "failed", event["message"], event["licence"]


class Downloads:
    """Runs one download at a time."""

    def __init__(self) -> None:
        self.status = DownloadStatus()
        self._running: asyncio.Task[None] | None = None

    def begin(self, models: list[str], token: str) -> None:
        """Download `models`, each as STAGE:ENGINE:MODEL. A pipe passes the token, since process lists would show it.

        Raises:
            Problem: a download is under way.
        """
        if self.status.state in ("asking", "fetching"):
            raise Problem(409, "A download is already running: wait until it is finished, or stop it first.")
        self.status = DownloadStatus("asking")
        self._running = asyncio.create_task(self._follow(models, token, self.status, after=self._running))

    async def stop(self) -> None:
        """End the download, if one runs. What has arrived is kept, and the next download continues from there."""
        if self._running is None or self._running.done():
            return
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running
        self.status.state = "stopped"

    async def _follow(
        self, models: list[str], token: str, status: DownloadStatus, after: asyncio.Task[None] | None
    ) -> None:
        try:
            await self._fetch(models, token, status, after)
        except Exception:
            logger.exception("a download failed")
            status.state, status.message = "failed", "The download could not be started: Parley's log has the details."

    async def _fetch(
        self, models: list[str], token: str, status: DownloadStatus, after: asyncio.Task[None] | None
    ) -> None:
        if after is not None:
            await asyncio.wait([after])  # it has sent its last event and is ending
        arguments = ["--json", *(["--token-from-stdin"] if token else []), "--", *models]
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pipeline.commands.models", *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}, start_new_session=True, limit=1 << 22,
        )  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with suppress(ConnectionError):
                child.stdin.write(token.encode())
                await child.stdin.drain()
            child.stdin.close()
            async for line in child.stdout:
                if line.startswith(b"{"):  # libraries may print too
                    status.take(json.loads(line))
            await child.wait()
            if status.state in ("asking", "fetching"):
                status.state, status.message = "failed", "The download ended unexpectedly: start it again to continue."
        finally:
            await _end(child)


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    with suppress(ProcessLookupError):
        child.terminate()
    try:
        async with asyncio.timeout(GRACE_S):
            await child.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
