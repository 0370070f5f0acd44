"""A language model behind any server with OpenAI's chat API: vLLM, Ollama, llama.cpp, LM Studio or a service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from pipeline.engine import EngineError, EngineState, EngineStatus, Progress, Report
from pipeline.llm import Passed, Prompt, Truncated
from pipeline.llm.chat import in_words, tokens
from pipeline.llm.counts import Counts
from pipeline.llm.deltas import Delta
from pipeline.llm.reasoning import Reasoning
from pipeline.llm.server import SILENCE_S, ChatServer, RequestRefused
from pipeline.llm.tool_use import chosen, specified, told
from pipeline.tools.calls import ToolCall

CONTEXT = 4096
"""Tokens assumed if the server does not report its context; vLLM does in its list of models, llama.cpp in its
properties."""

MARGIN = 64
"""Tokens reserved for what a chat template adds."""

_TEMPLATE = {"enable_thinking": False, "thinking": False}
QUIETLY: tuple[Mapping[str, object], ...] = (
    {"reasoning_effort": "none", "chat_template_kwargs": _TEMPLATE},
    {"reasoning_effort": "none"},
    {"chat_template_kwargs": _TEMPLATE},
    {},
)
"""Ways to ask a model not to reason before it speaks; the first that the server accepts is used. Ollama and vLLM know
the effort "none". vLLM and llama.cpp pass chat_template_kwargs to the template, where Qwen and DeepSeek look for it."""

_ALIKE: tuple[Callable[[str, str], bool], ...] = (
    lambda offered, wanted: offered == wanted,
    lambda offered, wanted: offered == f"{wanted}:latest",  # Ollama's name of a model without a tag
    lambda offered, wanted: offered.lower() == wanted.lower(),
)
"""Ways in which an offered model may match the wanted one, the surest first."""

PROBE = "Reply with the one word: yes"
PROBE_TOKENS, PROBE_S = 400, 30.0
"""By then, a model that reasons visibly has begun to, and any other has long finished."""


class OpenAIChat:
    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str = "",
        silence_s: float = SILENCE_S,
    ) -> None:
        """
        Args:
            url: the server's address, ending in /v1.
            model: the server's name of the model; if empty, the first that the server lists.
            silence_s: seconds to wait for each next piece of a reply.
        """
        self._server = ChatServer(url, api_key, silence_s)
        self._model = model.strip()
        self._context = 0
        self._counts = Counts(lambda text: self._server.count(self._model, text))
        self._quietly: Mapping[str, object] = {}
        self._takes_tools: bool | None = None
        """Whether the server accepts a request with tools, once known. If not, the tools are described in words."""
        self._opened: str | None = None
        """The reasoning mark that the chat template opens in the prompt, so that only the closing mark comes."""
        self._state: EngineState = "stopped"
        self._last_error: str | None = None

    async def start(self, report: Report) -> None:
        self._state = "loading"
        report(Progress(f"asking {self._server.url} for its models"))
        try:
            if not self._server.url:
                raise EngineError(
                    "Enter the address of the language model's server, such as http://localhost:11434/v1."
                )
            self._choose(await self.models())
            report(Progress(f"trying {self._model}"))
            await self._learn()
        except EngineError as error:
            self._state, self._last_error = "failed", str(error)
            raise
        self._state = "ready"

    async def stop(self) -> None:
        await self._server.close()
        self._state = "stopped"

    @property
    def status(self) -> EngineStatus:
        return EngineStatus("openai", self._state, self._last_error)

    @property
    def uses_tools(self) -> bool:
        return self._takes_tools is not False

    @property
    def summarises(self) -> bool:
        """Always true, because no server reports how large its model is."""
        return True

    async def models(self) -> list[dict[str, Any]]:
        """Return the models that the server offers. Raises EngineError."""
        return await self._server.models()

    async def passed(self, path: str, request: Mapping[str, object]) -> AsyncGenerator[Passed | bytes, None]:
        async with aclosing(self._server.passed(path, {**request, "model": self._model})) as pieces:
            async for piece in pieces:
                yield piece

    def _choose(self, models: list[dict[str, Any]]) -> None:
        url = self._server.url
        if not models:
            raise EngineError(f"The server {url} has no model loaded: load one there, then try again.")
        chosen = next((entry for alike in _ALIKE for entry in models if alike(str(entry["id"]), self._model)), None)
        if self._model and chosen is None:
            offered = ", ".join(str(entry["id"]) for entry in models[:5])
            raise EngineError(f"The server {url} has no model {self._model!r}: choose one of {offered}.")
        chosen = chosen or models[0]
        self._model = str(chosen["id"])
        length = chosen.get("max_model_len")
        self._context = length if isinstance(length, int) and length > 0 else 0

    async def _learn(self) -> None:
        """Ask one short question, which loads the model and shows how to switch reasoning off, and how it is marked.

        Raises:
            EngineError: the model does not chat, in whatever way it is asked.
        """
        self._context = self._context or await self._server.context() or CONTEXT
        await self._counts.learn()
        for self._quietly in QUIETLY:
            try:
                async with asyncio.timeout(PROBE_S):
                    await self._try()
            except RequestRefused:
                if not self._quietly:
                    raise
                continue
            except TimeoutError:
                pass  # nothing learned; the first reply will show it
            return

    async def _try(self) -> None:
        reasoning = Reasoning()
        length = min(PROBE_TOKENS, self._context // 2)
        asked = self._request([{"role": "user", "content": PROBE}], temperature=0.0, max_tokens=length)
        async with aclosing(self._server.deltas(asked)) as deltas:
            async for delta in deltas:
                if isinstance(delta, ToolCall):
                    continue
                reasoning.feed(delta.text)
                if delta.reasons or reasoning.inside or reasoning.opened:
                    break
        self._opened = reasoning.opened

    def _request(
        self, messages: object, *, temperature: float, max_tokens: int, prompt: Prompt | None = None
    ) -> dict[str, object]:
        asked: dict[str, object] = {"messages": messages, "temperature": temperature, "max_tokens": max_tokens}
        if prompt is not None and prompt.tools:
            asked |= {"tools": specified(prompt.tools), "tool_choice": chosen(prompt.tool_choice)}
        return {"model": self._model, **asked, "stream": True, **self._quietly}

    async def reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall | Truncated, None]:
        """Yield the reply. Closing the generator closes the connection, and the server then stops generating."""
        if prompt.tools and self._takes_tools is not False:
            try:
                async with aclosing(self._reply(prompt)) as pieces:
                    async for piece in pieces:
                        yield piece
                self._takes_tools = True
                return
            except RequestRefused:  # comes before anything was said; perhaps because of the tools
                if self._takes_tools:
                    raise
        told_of = told(prompt) if prompt.tools else prompt
        async with aclosing(self._reply(told_of)) as pieces:
            async for piece in pieces:
                if prompt.tools:  # it was the tools: this server, or this model, does not support them
                    self._takes_tools = False
                yield piece

    async def _reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall | Truncated, None]:
        listed = json.dumps(specified(prompt.tools)) if prompt.tools else ""
        room = self._context - prompt.max_tokens - MARGIN - tokens(listed)
        messages = await self._counts.fitted(prompt, room)
        if not prompt.tools:
            messages = in_words(messages)
        request = self._request(messages, temperature=prompt.temperature, max_tokens=prompt.max_tokens, prompt=prompt)
        reasoning = Reasoning(self._opened)
        said = reasoned = truncated = False
        calls: list[ToolCall] = []
        try:
            async with aclosing(self._server.deltas(request)) as deltas:
                async for delta in deltas:
                    if isinstance(delta, ToolCall):
                        calls.append(delta)
                        continue
                    reasoned, truncated = reasoned or _reasons(delta, reasoning), truncated or delta.truncated
                    if piece := reasoning.feed(delta.text):
                        said = True
                        yield piece
            rest = reasoning.finish()
            if reasoned and not said and not rest and not calls:
                raise EngineError(
                    f"{self._model} spent its whole reply on reasoning: choose a model that does not reason, or allow "
                    "longer replies."
                )
        except EngineError as error:
            self._last_error = str(error)
            raise
        self._opened = reasoning.opened or self._opened
        if rest:
            yield rest
        for call in calls:
            yield call
        if truncated:
            yield Truncated()


def _reasons(delta: Delta, reasoning: Reasoning) -> bool:
    return delta.reasons or reasoning.inside is not None
