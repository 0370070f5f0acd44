"""Runs any GGUF by llama.cpp in a worker process: fast on a CPU, and on the GPU that the build supports.

xllamacpp is llama.cpp's own server as a library: it batches several replies, keeps what each conversation has read,
and renders the model's own chat template. It also listens at a port of this machine, protected by a key that is made
here; only token counting uses that port. Its destructor waits for its own thread and may never return, which is
harmless here, because a worker process is killed rather than shut down.
"""

from __future__ import annotations

import os
import queue
import secrets
import threading
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
import psutil

from config.hardware import GB, instructions
from pipeline.engine import EngineError, Progress, Report
from pipeline.llm import Message, Prompt, PromptTooLong, Truncated, small
from pipeline.llm.chat import ChatMessage, fitted
from pipeline.llm.gguf import Header, read
from pipeline.llm.gguf_files import file_of
from pipeline.llm.placed import PlacedMind
from pipeline.llm.tool_calls import ToolCalls
from pipeline.llm.tool_use import offered, specified
from pipeline.tools.calls import ToolCall
from pipeline.workers.place import MakePlace, Wanted
from pipeline.workers.priority import give_way
from pipeline.workers.worker import Worker

TALKERS = 2
"""Replies written at a time, each with its own context; further ones wait for a free one."""

CONTEXT = 4096
"""Tokens of prompt and reply together for each talker, if the model has as many: half an hour of talk."""

KEPT_MB = 256
"""Memory for contexts that had to give way to another talker's. When they return, they are copied, not prefilled."""

CHUNK = 128
"""Tokens of the prompt that are prefilled at a time; after each chunk the listener may have gone. 128 take the smallest
model 0.1 s on one core, and larger chunks are no faster on a CPU."""

REPETITION = {"repeat_penalty": 1.1, "repeat_last_n": 128}
"""Makes tokens among the last ones less likely; without it, small models repeat themselves."""

NICE = 5
"""The mind's niceness, behind the voice, which speaks the beginning of a reply while the rest is being written. While
both want a core, Linux gives the voice three times the mind's time; otherwise the mind gets all of it."""

COMPUTED_BYTES = 200_000_000
"""Memory beside weights and contexts: activations, and the library itself."""

QUIETLY = {"enable_thinking": False, "thinking": False}
"""Arguments that tell chat templates to switch reasoning off: Qwen's and DeepSeek's names for it."""


class Mind:
    """The model itself, for a worker process."""

    def __init__(self, report: Report, model: str, context: int, threads: int | None) -> None:
        check_processor()
        give_way(NICE)
        file = file_of(model, report)
        header = read(file)
        self._name = file.name
        self._context = min(context, header.context or context)
        check_talks(header, file.name)
        report(Progress(f"loading {file.name}"))
        self._server = serve(file, header, self._context, threads or usual_threads())
        key = {"Authorization": f"Bearer {self._server.key}"}
        self._http = httpx.Client(base_url=self._server.address, headers=key, trust_env=False)
        self.timings: dict[str, Any] = {}
        """llama.cpp's figures of the last reply: cache_n tokens of the prompt were cached, prompt_n were prefilled."""
        self._count = lru_cache(maxsize=4096)(self._counted)
        report(Progress("warming up"))
        for _ in self._written([{"role": "user", "content": "Hello."}], 0.0, 1):
            pass

        self._parameters = header.parameters
        self._knows_tools = "tools" in header.chat_template

    def parameters(self) -> int:
        return self._parameters

    def knows_tools(self) -> bool:
        return self._knows_tools

    def reply(self, prompt: Prompt) -> Iterator[str | ToolCall | Truncated]:
        """Yield pieces of text, then tool calls. Pieces may be empty: after each one the generator may be closed."""
        said = reasoned = truncated = False
        calls = ToolCalls()
        for delta in self._written(self._messages(prompt), prompt.temperature, prompt.max_tokens, prompt):
            calls.feed(delta.get("tool_calls") or [])
            piece = delta.get("content") or ""
            said, reasoned = said or bool(piece), reasoned or bool(delta.get("reasoning_content"))
            truncated = delta.get("finish_reason") == "length"
            yield piece
        called = calls.finish()
        if reasoned and not said and not called:
            raise EngineError(f"{self._name} spent its whole reply on reasoning: choose a model that does not reason.")
        yield from called
        if truncated:
            yield Truncated()

    def read(self, prompt: Prompt) -> Iterator[str]:
        """Prefill the prompt and keep it, in parts; after each part the generator may be closed."""
        for _ in self._written(self._messages(prompt), 0.0, 1, prompt):
            yield ""

    def _messages(self, prompt: Prompt) -> list[ChatMessage]:
        whole = lambda messages: self._whole(messages, prompt)  # noqa: E731
        return fitted(prompt, self._context, self._name, self._count, whole)

    def _written(
        self, messages: list[ChatMessage], temperature: float, most: int, prompt: Prompt | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the reply's deltas, and an empty one for each part of the prompt that was read. Raises EngineError."""
        request = {
            "messages": messages, "temperature": temperature, "max_tokens": most, "stream": True,
            "return_progress": True, "chat_template_kwargs": QUIETLY, **REPETITION,
        }  # fmt: skip
        if prompt is not None and prompt.tools:
            must = prompt.tool_choice not in ("auto", "none")  # llama.cpp cannot require a tool by its name
            request["tools"] = specified(offered(prompt))
            request["tool_choice"] = "required" if must else prompt.tool_choice
        events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        gone = threading.Event()

        def take(event: dict[str, Any]) -> bool:
            """Take an event; return whether the server may stop."""
            events.put(event)
            return gone.is_set()

        def write() -> None:
            try:
                self._server.chat(request, take)
            finally:
                events.put(None)

        threading.Thread(target=write, daemon=True).start()
        try:
            while (event := events.get()) is not None:
                if "error" in event:
                    raise EngineError(f"{self._name} could not answer ({event['error'].get('message', 'unknown')}).")
                self.timings = event.get("timings") or self.timings
                choice: dict[str, Any] = next(iter(event.get("choices", ())), {"delta": {}})
                yield {**choice["delta"], "finish_reason": choice.get("finish_reason")}
        finally:
            gone.set()

    def _counted(self, text: str) -> int:
        return len(self._asked("tokenize", {"content": text})["tokens"])

    def _whole(self, messages: list[ChatMessage], prompt: Prompt) -> int:
        """Return the tokens of a prompt in the model's own form."""
        request: dict[str, Any] = {"messages": messages}
        if prompt.tools:
            request["tools"] = specified(offered(prompt))
        return self._counted(self._asked("apply-template", request)["prompt"])

    def _asked(self, what: str, request: dict[str, Any]) -> dict[str, Any]:
        answer = self._http.post(what, json=request).raise_for_status()
        told: dict[str, Any] = answer.json()
        return told


class Served:
    """llama.cpp's server in this process."""

    def __init__(self, parameters: Any, key: str) -> None:
        import xllamacpp

        self._server = xllamacpp.Server(parameters)
        self.key, self.address = key, self._server.listening_address
        self.chat = self._server.handle_chat_completions


def serve(file: Path, header: Header, context: int, threads: int) -> Served:
    """Load the model. Raises EngineError if it does not fit into memory, or llama.cpp does not support it."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when the library is loaded; see usual_threads
    import xllamacpp

    cards = sum(
        device["memory_free"] for device in xllamacpp.get_device_info() if "CPU" not in str(device["type"])
    )  # only if the build supports them; llama.cpp puts as many layers there as fit
    check_room(header, file.name, context, psutil.virtual_memory().available + cards)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(file)
    parameters.n_ctx, parameters.n_parallel = context * TALKERS, TALKERS
    parameters.n_batch = parameters.n_ubatch = CHUNK
    parameters.cache_ram_mib = KEPT_MB
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.verbosity = -1
    parameters.ui, parameters.n_threads_http, parameters.offline = False, 1, True
    parameters.hostnames, parameters.cors_origins = ["127.0.0.1"], ""
    key = secrets.token_urlsafe()
    parameters.api_keys = [key]
    try:
        return Served(parameters, key)
    except RuntimeError as error:
        raise EngineError(
            f"llama.cpp cannot load {file.name}, whose architecture is {header.architecture!r}: choose another."
        ) from error


def usual_threads() -> int:
    """Return the number of threads: up to two cores, all of them; else all but one, which ears and voice need, but at
    most eight, since memory is no faster for more.

    The threads wait for each other after every matrix. By default OpenMP's threads wait by spinning: then two threads,
    on two cores that other programs used too, wrote 2 tokens a second. With sleeping threads (OMP_WAIT_POLICY) it was
    40, and with one thread alone 25.
    """
    cores = psutil.cpu_count(logical=False) or 1
    return cores if cores <= 2 else min(8, cores - 1)


def check_processor() -> None:
    """Raises EngineError if the CPU lacks instructions without which the library would crash at once."""
    known = instructions()
    if known is not None and not known & {"avx2", "neon"}:
        raise EngineError(
            "llama.cpp needs a processor with AVX2 or NEON, but this one has neither: choose the built-in replies, or "
            "a server on another computer."
        )


def check_talks(header: Header, name: str) -> None:
    """Raises EngineError if the model is not made for conversation."""
    if not header.chat_template:
        kind = f" (its architecture is {header.architecture!r})" if header.architecture else ""
        raise EngineError(
            f"{name} has no chat template, so it is not made for conversation{kind}: choose an instruct model."
        )


def check_room(header: Header, name: str, context: int, free: int) -> None:
    """Raises EngineError if the model and its contexts do not fit into `free` bytes."""
    need = header.weight_bytes + TALKERS * context * header.token_bytes() + COMPUTED_BYTES
    if need > free:
        raise EngineError(
            f"{name} needs {need / GB:.1f} GB of memory, and {free / GB:.1f} GB are free: choose a smaller model, or "
            "end other programs."
        )


class Llama(PlacedMind):
    """A language model by llama.cpp in a worker process."""

    def __init__(
        self, model: str, *, context: int = CONTEXT, threads: int | None = None, place: MakePlace = Worker
    ) -> None:
        """
        Args:
            model: a GGUF file: a path, `owner/name/file.gguf` on the hub, or `ollama:name` for one of Ollama's.
            context: tokens of prompt and reply together for each talker, if the model has as many.
            threads: usual_threads() by default.
        """
        arguments = {"model": model, "context": context, "threads": threads}
        wanted = Wanted("llama", f"{__name__}:Mind", arguments, concurrency=4 * TALKERS, errors=(PromptTooLong,))
        super().__init__(place(wanted))

    async def read_ahead(self, prompt: Prompt) -> None:
        nothing_said = replace(prompt, history=(*prompt.history, Message("user", "")))
        asked = small.asked(nothing_said, prompt.temperature) if self._guarded(prompt) else nothing_said
        async with aclosing(self._place.stream("read", asked)) as parts:
            async for _ in parts:
                pass
