"""vLLM as a child of Parley: its own environment, a free loopback port, watched, restarted, and stopped with it.

It is spoken to as any other server is (openai.py). Its environment is `.venv-vllm`, since its pins exclude Parley's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from pathlib import Path

import httpx

from pipeline.engine import EngineError, EngineState, EngineStatus, Progress, Report
from pipeline.llm import Prompt
from pipeline.llm.openai import OpenAIChat

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = ROOT / ".venv-vllm" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

SERVER = """
import ctypes, os, runpy, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: ends when Parley does, also when that is killed
    if os.getppid() != int(sys.argv.pop(1)):
        sys.exit()
else:
    sys.argv.pop(1)
sys.argv[0] = "vllm"
runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)
"""

READY_S = 900.0
"""The first start may compile kernels and load tens of gigabytes."""
ASK_EVERY_S = 0.5
GRACE_S = 10.0
BACK_OFF_S = (1.0, 5.0, 15.0, 60.0)
LAST_WORDS = 4000
"""Bytes of the log in which the reason of a failed start is looked for."""


class Vllm:
    def __init__(
        self,
        model: str,
        log: Path,
        *,
        temperature: float = 0.7,
        max_tokens: int = 300,
        context: int = 8192,
        memory_share: float | None = None,
        python: Path = PYTHON,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """
        Args:
            model: a hub id or a folder. Code that comes with a model is never run.
            log: what vLLM prints is kept here, from the newest start.
            context: tokens of prompt and reply together.
            memory_share: of the GPU's memory, so that CSM and Whisper fit beside it; None on a CPU.
        """
        self._model, self._log, self._python = model, log, python
        self._arguments = ["--max-model-len", str(context)]
        if memory_share is not None:
            self._arguments += ["--gpu-memory-utilization", f"{memory_share:.2f}"]
        self._temperature, self._max_tokens = temperature, max_tokens
        self._sleep = sleep
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._server: OpenAIChat | None = None
        self._state: EngineState = "stopped"
        self._last_error: str | None = None
        self._restarts = 0

    async def start(self, report: Report) -> None:
        if not self._model:
            raise EngineError("Choose a model for vLLM: a name on the hub, or a folder.")
        if not self._python.exists():
            raise EngineError("vLLM is not installed: run `python3 setup.py vllm`, then choose it again.")
        self._state = "loading"
        try:
            await self._launch(report)
        except EngineError as error:
            self._state, self._last_error = "failed", str(error)
            await self._end()
            raise
        except asyncio.CancelledError:
            await self._end()
            raise
        self._watching = asyncio.create_task(self._watch(report))

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
            self._watching = None
        await self._end()
        self._state = "stopped"

    @property
    def status(self) -> EngineStatus:
        return EngineStatus("vllm", self._state, self._last_error, restarts=self._restarts)

    async def reply(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        if self._state != "ready" or self._server is None:
            raise EngineError("vLLM is not ready yet: try again in a moment.")
        async with aclosing(self._server.reply(prompt)) as pieces:
            async for piece in pieces:
                yield piece

    async def _launch(self, report: Report) -> None:
        """Start the server and wait until it answers. Raises EngineError with its own last words."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        report(Progress(f"starting vLLM with {self._model}"))
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(str(self._python), "-c", SERVER, str(os.getpid())),
                *("--host", "127.0.0.1", "--port", str(port), "--model", self._model),
                *self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for Parley, which stops it in good order
            )
        url = f"http://127.0.0.1:{port}"
        answering = asyncio.create_task(self._answers(url))
        ended = asyncio.create_task(self._process.wait())
        await asyncio.wait([answering, ended], return_when=asyncio.FIRST_COMPLETED)
        answering.cancel()
        ended.cancel()
        if self._process.returncode is not None:
            raise EngineError(f"vLLM could not start with {self._model}: {self._last_words()}")
        self._server = OpenAIChat(f"{url}/v1", "", temperature=self._temperature, max_tokens=self._max_tokens)
        await self._server.start(report)
        self._state = "ready"
        report(Progress("ready"))

    async def _answers(self, url: str) -> None:
        async with httpx.AsyncClient() as client:
            for _ in range(round(READY_S / ASK_EVERY_S)):
                with suppress(httpx.HTTPError):
                    if (await client.get(f"{url}/health")).is_success:
                        return
                await self._sleep(ASK_EVERY_S)

    def _last_words(self) -> str:
        """The line of the log that most likely says why."""
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - LAST_WORDS))
            lines = log.read().decode(errors="replace").splitlines()
        reasons = [line for line in lines if "Error" in line and "Traceback" not in line] or lines
        reason = reasons[-1].strip() if reasons else "it ended without a word"
        return f"{reason[-300:]} (all it said is in {self._log})"

    async def _watch(self, report: Report) -> None:
        """Restart it whenever it ends, after ever longer waits."""
        while True:
            assert self._process is not None
            code = await self._process.wait()
            self._state, self._last_error = "loading", f"vLLM stopped unexpectedly (exit code {code})."
            report(Progress("vLLM stopped and is being restarted"))
            await self._sleep(BACK_OFF_S[min(self._restarts, len(BACK_OFF_S) - 1)])
            self._restarts += 1
            try:
                await self._launch(report)
            except EngineError as error:
                self._state, self._last_error = "failed", str(error)
                report(Progress("failed"))

    async def _end(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._server = None
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, sign) if os.name != "nt" else process.send_signal(sign)
            waiting = asyncio.create_task(process.wait())
            done, _ = await asyncio.wait([waiting], timeout=GRACE_S)
            if done:
                return
