"""The one process that prepares recordings or trains: a csm command whose output is followed. It is suspended while
somebody talks and ends with the server. Its results are on the disk, so a later process continues from there."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import psutil

from config.places import ROOT
from pipeline.engine import WENT_WRONG
from pipeline.workers.supervision import Heartbeat, tied_command

logger = logging.getLogger(__name__)

GRACE_S = 10.0
"""Seconds for the process to end with the server; a longer training step is lost."""
STOPPED = 130
"""Exit status of csm's commands after a request to stop."""
REFUSED = 2
"""Exit status after which the last line on standard error says why, in one sentence."""

HANGS = Heartbeat(every_s=2.0, hung_s=60.0, lost_s=math.inf)
"""When a process that neither computes nor waits for its disk, although it should, counts as hung."""
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)

Kind = Literal["preparing", "measuring", "training"]
State = Literal["running", "paused", "waiting", "stopping", "done", "stopped", "failed"]
Command = tuple[str, Sequence[str]]
"""A module of csm.commands, and its arguments."""
Commands = Sequence[Callable[[], Command]]
"""Each command is built only once those before it are done, so that it can use their results."""
UNDER_WAY = ("running", "paused", "waiting", "stopping")


@dataclass(slots=True)
class LessonStatus:
    """state: `paused` by the user; `waiting` while somebody talks. text: the latest news, or why it failed."""

    lesson: str
    kind: Kind
    state: State = "running"
    text: str = ""
    share: float | None = None
    step: int = 0
    steps: int = 0
    left_s: float | None = None


Death = Literal["killed", "hung"]


class Busy(Exception):
    """Work is already under way."""


class Work:
    def __init__(self, talking: bool = False) -> None:
        self.status: LessonStatus | None = None
        self.beside_talks = False
        """Whether the work continues while somebody talks."""
        self._talking = talking
        self._child: asyncio.subprocess.Process | None = None
        self._hung = False
        self._running: asyncio.Task[None] | None = None

    @property
    def under_way(self) -> bool:
        return self.status is not None and self.status.state in UNDER_WAY

    def begin(
        self,
        status: LessonStatus,
        commands: Commands,
        *,
        hears: Callable[[dict[str, Any]], None],
        killed: Callable[[Death], str],
    ) -> None:
        """Run commands one after the other.

        Args:
            hears: called with each JSON line of their output.
            killed: returns the sentence for a command that did not end in any of its own ways: another program killed
                it, or it hung, and was killed here.

        Raises:
            Busy
        """
        if self.under_way:
            raise Busy
        self.status = status
        self._running = asyncio.create_task(self._run(status, commands, hears, killed))

    def talk(self, talking: bool) -> None:
        """Note whether somebody talks now."""
        self._talking = talking
        self._settle()

    def allow_talks(self, allowed: bool) -> None:
        self.beside_talks = allowed
        self._settle()

    def pause(self) -> None:
        if self.status is not None and self.status.state in ("running", "waiting"):
            self.status.state = "paused"
            self._settle()

    def go_on(self) -> None:
        if self.status is not None and self.status.state == "paused":
            self.status.state = "running"
            self._settle()

    def stop(self) -> None:
        """Ask the process to end after its current step; everything learnt is kept."""
        if self.under_way and self.status is not None:
            self.status.state = "stopping"
            self._settle()
            self._signal(signal.SIGTERM)

    async def end(self) -> None:
        """End with the server: soon, whatever the process is doing."""
        if self._running is None:
            return
        self.stop()
        done, _ = await asyncio.wait([self._running], timeout=GRACE_S)
        if not done:
            self._signal(KILL)
            self._running.cancel()
            await asyncio.wait([self._running])

    def _settle(self) -> None:
        """Suspend or resume the process, as the state requires."""
        if self.status is None or not self.under_way:
            return
        if self.status.state in ("running", "waiting"):
            self.status.state = "waiting" if self._talking and not self.beside_talks else "running"
        if self._child is not None and self._child.returncode is None:
            with suppress(psutil.Error):
                process = psutil.Process(self._child.pid)
                process.suspend() if self.status.state in ("paused", "waiting") else process.resume()

    def _signal(self, number: int) -> None:
        if self._child is not None and self._child.returncode is None:
            with suppress(ProcessLookupError):
                self._child.send_signal(number)

    async def _run(
        self,
        status: LessonStatus,
        commands: Commands,
        hears: Callable[[dict[str, Any]], None],
        killed: Callable[[Death], str],
    ) -> None:
        try:
            for command in commands:
                code, last = await self._follow(*command(), hears)
                if code == STOPPED or (code < 0 and status.state == "stopping"):
                    status.state = "stopped"
                elif code == REFUSED and last:
                    status.state, status.text = "failed", last
                elif code:
                    status.state, status.text = "failed", killed("hung" if self._hung else "killed")
                if status.state not in UNDER_WAY:
                    return
                if status.state == "stopping":
                    status.state = "stopped"
                    return
            status.state = "done"
        except Exception:
            logger.exception("a voice could not be taught")
            status.state, status.text = "failed", WENT_WRONG

    async def _follow(
        self, module: str, arguments: Sequence[str], hears: Callable[[dict[str, Any]], None]
    ) -> tuple[int, str]:
        """Return the exit status, and the last line of output meant for people."""
        # Killed with the server, since a suspended process would not notice a milder signal.
        command = tied_command(sys.executable, os.getpid(), KILL, module, *arguments)
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        child = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            cwd=ROOT, env=environment, start_new_session=True, limit=1 << 22,
        )  # fmt: skip
        self._child, self._hung = child, False
        self._settle()
        watching = asyncio.create_task(self._watch(child))
        try:
            last, _ = await asyncio.gather(_last_line(child.stderr), _told(child.stdout, hears))
            return await child.wait(), last
        finally:
            watching.cancel()
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
            self._child = None

    async def _watch(self, child: asyncio.subprocess.Process) -> None:
        """Kill the process if it hangs."""
        await HANGS.lacks(child.pid, lambda: None, lambda: self._may_rest(child.pid))
        self._hung = True
        self._signal(KILL)

    def _may_rest(self, pid: int) -> bool:
        """Whether the process has nothing to compute: it is suspended, or a program that it started is at work."""
        if self.status is not None and self.status.state in ("paused", "waiting"):
            return True
        try:
            return bool(psutil.Process(pid).children())
        except psutil.Error:
            return False


async def _told(stream: asyncio.StreamReader | None, hears: Callable[[dict[str, Any]], None]) -> None:
    assert stream is not None
    async for line in stream:
        if line.startswith(b"{"):  # libraries may print too
            hears(json.loads(line))


async def _last_line(stream: asyncio.StreamReader | None) -> str:
    """Return the last line without the command's name in front."""
    assert stream is not None
    last = ""
    async for line in stream:
        if text := line.decode(errors="replace").strip():
            last = text
    name, _, sentence = last.partition(": ")
    return sentence if name.startswith("csm-") else ""
