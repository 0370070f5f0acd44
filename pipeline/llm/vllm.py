"""Runs vLLM as a child process, in its own environment and at a free loopback port; restarts it, and stops it at exit.

Requests go to it as to any other server (openai.py). Its environment is `.venv-vllm`, since its pinned packages
conflict with Parley's.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import socket
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import httpx
import psutil

from config.hardware import Gpu, ask_nvidia, in_words, resident
from config.models import find
from config.nvidia import roomiest
from config.places import ROOT
from pipeline.engine import EngineError, EngineState, EngineStatus, Progress, Report
from pipeline.llm import Passed, Prompt, Truncated
from pipeline.llm.checkpoint import ROOM_BESIDE, check_room, positions, weight_bytes
from pipeline.llm.openai import OpenAIChat
from pipeline.llm.tool_parsers import tool_parser
from pipeline.tools.calls import ToolCall
from pipeline.workers.place import Wanted
from pipeline.workers.supervision import Heartbeat, Supervision, tied_command
from pipeline.workers.worker import Worker

Piece = TypeVar("Piece")

PYTHON = ROOT / ".venv-vllm" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

SERVER = "vllm.entrypoints.openai.api_server"
"""In the CPU build, the `vllm` command looks for a distribution of another name and fails; this module starts."""

CPU_KV_GB = 1
"""Memory for keys and values on a CPU; enough for 8192 tokens of a model with 3 billion parameters."""

MARGIN = 1 << 29
"""Bytes of a GPU's free memory that are left free."""

READY_S = 900.0
"""Time limit of a start. The first one may compile kernels and load tens of gigabytes."""
ASK_EVERY_S = 0.5
GRACE_S = 10.0
HEARTBEAT = Heartbeat(every_s=5.0, hung_s=15.0, lost_s=120.0)
"""Slower than for a worker, because vLLM logs every request."""
BACK_OFF_S = (1.0, 5.0, 15.0, 60.0)
LAST_WORDS = 100_000
"""Bytes at the end of the log in which the reason of a failed start is searched."""


class Vllm:
    def __init__(
        self,
        model: str,
        log: Path,
        *,
        context: int = 8192,
        python: Path = PYTHON,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """
        Args:
            model: a hub id or a folder. Code that comes with a model is never run.
            log: the file for vLLM's output, from the newest start.
            context: tokens of prompt and reply together, if the model has as many.
            python: the interpreter of the environment that vLLM is installed in.
            sleep: sleeps for seconds; used between checks of the server, and between restarts.
        """
        self._model, self._log, self._python = model, log, python
        self._context, self._sleep = context, sleep
        self._supervision = Supervision(BACK_OFF_S, sleep=sleep)
        self._fetching: Worker | None = None
        self._folder = Path()
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._server: OpenAIChat | None = None
        self._url = ""
        self._awaited = Awaited()
        self._parser: str | None = None
        """The parser of tool calls; None if the model's form is not known."""
        self._state: EngineState = "stopped"
        self._last_error: str | None = None

    async def start(self, report: Report) -> None:
        if not self._model:
            raise EngineError("Choose a model for vLLM: a name on the hub, or a folder.")
        if not self._python.exists():
            raise EngineError("vLLM is not installed: run `python3 setup.py vllm`, then choose it again.")
        self._state = "loading"
        try:
            self._folder = await self._fetched(report)
            await self._launch(report)
        except EngineError as error:
            self._state, self._last_error = "failed", str(error)
            raise
        self._watching = asyncio.create_task(
            self._supervision.keep(
                lambda: self._death(report), lambda: self._launch(report), lambda error: self._failed(error, report)
            )
        )

    async def _fetched(self, report: Report) -> Path:
        """Return the model's folder. A download reports its progress, which vLLM's own would not."""
        self._fetching = Worker(Wanted("vLLM", "pipeline.llm.checkpoint:Fetched", {"model": self._model}))
        try:
            await self._fetching.start(lambda progress: report(progress) if progress.share is not None else None)
            return Path(await self._fetching.call("folder"))
        finally:
            await self._fetching.stop()

    async def stop(self) -> None:
        if self._fetching is not None:
            await self._fetching.stop()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
            self._watching = None
        await self._end()
        self._state = "stopped"

    @property
    def status(self) -> EngineStatus:
        return EngineStatus(
            "vllm",
            self._state,
            self._last_error,
            memory_bytes=self._memory_bytes(),
            restarts=self._supervision.restarts,
        )

    @property
    def uses_tools(self) -> bool:
        return self._parser is not None and self._server is not None and self._server.uses_tools

    @property
    def summarises(self) -> bool:
        return True

    async def reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall | Truncated, None]:
        if self._state != "ready" or self._server is None:
            raise EngineError("vLLM is not ready yet: try again in a moment.")
        async with aclosing(self._awaited.of(self._server.reply(prompt))) as pieces:
            async for piece in pieces:
                yield piece

    async def passed(self, path: str, request: Mapping[str, object]) -> AsyncGenerator[Passed | bytes, None]:
        if self._state != "ready" or self._server is None:
            raise EngineError("vLLM is not ready yet: try again in a moment.")
        async with aclosing(self._awaited.of(self._server.passed(path, request))) as pieces:
            async for piece in pieces:
                yield piece

    async def _launch(self, report: Report) -> None:
        """Start the server and wait until it answers. If it does not, nothing of it is left running.

        Raises:
            EngineError: with vLLM's own error.
        """
        report(Progress(f"starting vLLM with {self._model}"))
        try:
            with reserved_port() as port:
                url, key = await self._spawn(port)
                self._url, process = url, self._process
                assert process is not None
                answering, ended = asyncio.create_task(self._answers(url)), asyncio.create_task(process.wait())
                try:
                    await asyncio.wait([answering, ended], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    answering.cancel()
                    ended.cancel()
            if process.returncode is not None:
                raise EngineError(f"vLLM could not start with {self._model}: {self._last_words()}")
            self._server = OpenAIChat(f"{url}/v1", "", api_key=key)
            await self._server.start(report)
        except BaseException:
            await self._end()
            raise
        self._state = "ready"
        report(Progress("ready"))

    async def _spawn(self, port: int) -> tuple[str, str]:
        """Start the process; return its address, and its key, which keeps other programs from using it."""
        key = secrets.token_urlsafe()
        context = min(self._context, positions(self._folder) or self._context)  # vLLM refuses more than that
        parser = self._parser = await asyncio.to_thread(tool_parser, self._folder)
        share, environment = await asyncio.to_thread(_memory, self._model, weight_bytes(self._folder))
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("wb") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *tied_command(self._python, os.getpid(), signal.SIGTERM, SERVER),
                    *("--host", "127.0.0.1", "--port", str(port)),
                    *("--model", str(self._folder), "--served-model-name", self._model),
                    *("--max-model-len", str(context), "--gpu-memory-utilization", f"{share:.3f}"),
                    *(("--enable-auto-tool-choice", "--tool-call-parser", parser) if parser else ()),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **environment, "VLLM_API_KEY": key},
                    start_new_session=True,  # Ctrl-C goes to Parley, which then stops vLLM in order
                )
        except OSError as error:
            raise EngineError(f"vLLM cannot be started ({error}): run `python3 setup.py vllm`.") from error
        return f"http://127.0.0.1:{port}", key

    async def _answers(self, url: str) -> None:
        """Wait until the server is ready, or READY_S have passed."""
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(round(READY_S / ASK_EVERY_S)):
                with suppress(httpx.HTTPError):
                    if (await client.get(f"{url}/health")).is_success:
                        return
                await self._sleep(ASK_EVERY_S)

    def _last_words(self) -> str:
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - LAST_WORDS))
            return f"{reason(log.read().decode(errors='replace'))} (all it said is in {self._log})"

    async def _death(self, report: Report) -> None:
        assert self._process is not None
        hung = asyncio.Event()
        watching = asyncio.create_task(self._watch(self._process, hung))
        try:
            code = await self._process.wait()
        finally:
            watching.cancel()
        why = "vLLM no longer answered." if hung.is_set() else f"vLLM stopped unexpectedly (exit code {code})."
        self._state, self._last_error = "loading", why
        report(Progress("vLLM stopped and is being restarted"))
        await self._end()  # ends vLLM's own children

    async def _watch(self, process: asyncio.subprocess.Process, hung: asyncio.Event) -> None:
        """Kill the process as soon as it hangs: the server, or the engine behind it, whose health the server does not
        check."""
        async with httpx.AsyncClient(trust_env=False, timeout=HEARTBEAT.lost_s) as client, asyncio.TaskGroup() as tasks:
            asked: asyncio.Task[None] | None = None

            async def answer() -> None:
                with suppress(httpx.HTTPError):
                    await client.get(f"{self._url}/health")

            def ask() -> None:
                nonlocal asked
                if heard():
                    asked = tasks.create_task(answer())

            def heard() -> bool:
                return asked is None or asked.done()

            beats = (
                tasks.create_task(HEARTBEAT.lacks(process.pid, ask, heard)),
                tasks.create_task(HEARTBEAT.lacks(process.pid, lambda: None, self._awaited.heard, children=True)),
            )
            await asyncio.wait(beats, return_when=asyncio.FIRST_COMPLETED)
            hung.set()
            with suppress(ProcessLookupError):
                process.kill()

    def _failed(self, error: EngineError, report: Report) -> None:
        self._state, self._last_error = "failed", str(error)
        report(Progress("failed"))

    async def _end(self) -> None:
        """Stop the server, its process, and every process that it started."""
        server, self._server = self._server, None
        process, self._process = self._process, None
        if server is not None:
            await server.stop()
        if process is None:
            return
        for sign in (signal.SIGTERM, signal.SIGKILL):
            ended = asyncio.create_task(process.wait())
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.send_signal(sign)
            await asyncio.wait([ended], timeout=GRACE_S)
            ended.cancel()
        if os.name != "nt":
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _memory_bytes(self) -> int | None:
        if self._process is None or self._process.returncode is not None:
            return None
        return resident(self._process.pid, children=True)


class Awaited:
    """The pieces of replies that are awaited: if there are some and none comes, the engine may hang."""

    def __init__(self) -> None:
        self._pieces = 0
        self._began = False

    async def of(self, reply: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
        """Yield a reply's pieces. A listener who takes their time over one awaits none meanwhile."""
        async with aclosing(reply):
            while True:
                self._pieces += 1
                self._began = True
                try:
                    piece = await anext(reply)
                except StopAsyncIteration:
                    return
                finally:
                    self._pieces -= 1
                yield piece

    def heard(self) -> bool:
        """Whether no piece is awaited, or waiting for one has begun since this was last asked."""
        began, self._began = self._began, False
        return began or not self._pieces


@contextmanager
def reserved_port() -> Iterator[int]:
    """Reserve a free loopback port, which the system gives to no other program until the end of the block.

    A program that is told the number can listen there meanwhile. On Linux, two sockets with SO_REUSEADDR, which vLLM's
    has, may be bound to one address if no more than one of them listens (socket(7)).
    """
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def reason(log: str) -> str:
    """Return the most likely cause in vLLM's log: the first error that does not refer to another one."""
    errors = re.findall(r"^(?:\(.*?\) )?(?:ERROR .*?\] )?\s*[\w.]+(?:Error|Exception): (.+)$", log, re.MULTILINE)
    causes = [text for text in errors if "root cause" not in text]
    lines = log.strip().splitlines()
    cause = (causes or errors or lines[-1:] or ["it ended without a word"])[0]
    return cause.partition(" Supported architectures:")[0].strip()[:300]  # there are hundreds of them


def share_of(gpu: Gpu) -> float:
    """Return the share of a GPU's memory that vLLM may take so that CSM and Whisper, loaded or not, fit beside it."""
    beside = sum(
        model.gpu_bytes for model in (find("voice", "csm", ""), find("ears", "whisper", "large-v3-turbo")) if model
    )
    return max(0.0, min(gpu.memory_bytes - beside, gpu.free_bytes - MARGIN) / gpu.memory_bytes)


def check_card(gpu: Gpu, model: str, weights: int) -> None:
    """Raises EngineError if a model's weights, and what is computed with them, do not fit into vLLM's share."""
    have = share_of(gpu) * gpu.memory_bytes
    if weights * ROOM_BESIDE > have:
        need, left = in_words(round(weights * ROOM_BESIDE)), in_words(round(have))
        raise EngineError(
            f"{model} needs {need} of the {gpu.name}, but CSM, Whisper and other programs leave only {left}: choose "
            "a smaller model, or end other programs."
        )


def _memory(model: str, weights: int) -> tuple[float, dict[str, str]]:
    """Return the share of the device's memory, and extra environment variables. Blocks, so call it off the loop.

    Raises:
        EngineError: there is too little memory.
    """
    gpu = roomiest(ask_nvidia())
    if gpu is not None:
        check_card(gpu, model, weights)
        return share_of(gpu), {}
    memory = psutil.virtual_memory()
    check_room(model, weights, memory.available, "cpu")
    space = os.environ.get("VLLM_CPU_KVCACHE_SPACE", str(CPU_KV_GB))
    return memory.available / 2 / memory.total, {"VLLM_CPU_KVCACHE_SPACE": space}
