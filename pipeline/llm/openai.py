"""A language model behind any server that speaks OpenAI's chat API: vLLM, Ollama, llama.cpp, LM Studio, a service."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import httpx

from pipeline.engine import EngineError, EngineState, EngineStatus, Progress, Report
from pipeline.llm import Prompt
from pipeline.llm.chat import Unspoken, chat

CONTEXT = 4096
"""Tokens, where the server does not tell (`max_model_len` in vLLM's model list)."""

CONNECT_S, SILENCE_S = 5.0, 60.0
"""How long to wait for the server to be there, and for each next piece of a reply."""


class OpenAIChat:
    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str = "",
        temperature: float = 0.7,
        max_tokens: int = 300,
        extra: Mapping[str, object] | None = None,
        silence_s: float = SILENCE_S,
    ) -> None:
        """
        Args:
            url: ends in /v1.
            model: as the server calls it; empty takes the first that it lists.
            extra: further fields of the request, for servers that know more than OpenAI's.
            silence_s: seconds to wait for each next piece of a reply.
        """
        self._url = url.strip().rstrip("/")
        self._extra = dict(extra or {})
        self._silence_s = silence_s
        self._model = model
        self._temperature = temperature
        self._max_tokens = max_tokens
        self._context = CONTEXT
        self._state: EngineState = "stopped"
        self._last_error: str | None = None
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        here = urlsplit(self._url).hostname in ("127.0.0.1", "localhost", "::1")  # no proxy leads to this machine
        self._client = httpx.AsyncClient(
            headers=headers, timeout=httpx.Timeout(silence_s, connect=CONNECT_S), trust_env=not here
        )

    async def start(self, report: Report) -> None:
        self._state = "loading"
        report(Progress(f"asking {self._url} for its models"))
        try:
            if not self._url:
                raise EngineError(
                    "Enter the address of the language model's server, such as http://localhost:11434/v1."
                )
            self._choose(await self.models())
        except EngineError as error:
            self._state, self._last_error = "failed", str(error)
            raise
        self._state = "ready"

    async def stop(self) -> None:
        await self._client.aclose()
        self._state = "stopped"

    @property
    def status(self) -> EngineStatus:
        return EngineStatus("openai", self._state, self._last_error)

    async def models(self) -> list[dict[str, Any]]:
        """What the server offers. Raises EngineError."""
        try:
            answer = await self._client.get(f"{self._url}/models")
            answer.raise_for_status()
            listed = answer.json()["data"]
            return [entry for entry in listed if isinstance(entry, dict) and "id" in entry]
        except _FORESEEN as error:
            raise self._explained(error) from error

    def _choose(self, models: list[dict[str, Any]]) -> None:
        if not models:
            raise EngineError(f"The server {self._url} has no model loaded: load one there, then try again.")
        chosen = next((entry for entry in models if entry["id"] == self._model), None)
        if self._model and chosen is None:
            offered = ", ".join(str(entry["id"]) for entry in models[:5])
            raise EngineError(f"The server {self._url} has no model {self._model!r}; it offers {offered}.")
        chosen = chosen or models[0]
        self._model = str(chosen["id"])
        length = chosen.get("max_model_len")
        self._context = length if isinstance(length, int) and length > 0 else CONTEXT

    async def reply(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        """Closing this closes the connection, upon which the servers stop generating."""
        request = {
            "model": self._model,
            "messages": chat(prompt, self._context - self._max_tokens),
            "temperature": self._temperature,
            "max_tokens": self._max_tokens,
            "stream": True,
            **self._extra,
        }
        unspoken = Unspoken()
        try:
            async with self._client.stream("POST", f"{self._url}/chat/completions", json=request) as answer:
                if answer.is_error:
                    await answer.aread()
                    answer.raise_for_status()
                async with aclosing(_pieces(answer)) as pieces:
                    async for piece in pieces:
                        if said := unspoken.feed(piece):
                            yield said
        except _FORESEEN as error:
            explained = self._explained(error)
            self._last_error = str(explained)
            raise explained from error
        if rest := unspoken.finish():
            yield rest

    def _explained(self, error: Exception) -> EngineError:
        match error:
            case httpx.HTTPStatusError(response=httpx.Response(status_code=401 | 403)):
                return EngineError(f"The server {self._url} refused the key: enter the right one on the setup page.")
            case httpx.HTTPStatusError(response=httpx.Response(status_code=404)):
                return EngineError(f"There is no chat at {self._url}: correct the address; most end in /v1.")
            case httpx.HTTPStatusError(response=response):
                return EngineError(
                    f"The language model's server answered {response.status_code}{_reason(response.text)}."
                )
            case _BrokenOff():
                return EngineError(f"The language model's server broke off{_reason(str(error))}.")
            case httpx.ConnectError() | httpx.ConnectTimeout():
                return EngineError(f"No server answers at {self._url}: start it, or correct the address.")
            case httpx.TimeoutException():
                return EngineError(f"The language model's server has said nothing for {self._silence_s:.0f} seconds.")
            case httpx.InvalidURL() | httpx.UnsupportedProtocol():
                return EngineError(f"{self._url!r} is no address: it should look like http://localhost:11434/v1.")
            case httpx.HTTPError():
                return EngineError("The language model's server went away in the middle of the reply.")
        return EngineError(f"What answers at {self._url} does not speak OpenAI's chat API.")


class _BrokenOff(Exception):
    """The server says in the middle of its stream that something went wrong."""


_FORESEEN = (
    httpx.HTTPError,
    httpx.InvalidURL,
    _BrokenOff,
    # what comes is not what the API promises
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
)


def _reason(text: str) -> str:
    """The server's own words, short and in brackets: the message of OpenAI's form, or the first line."""
    try:
        answer = json.loads(text)
        error = answer.get("error", answer)
        text = str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        pass
    first = next(iter(text.strip().splitlines()), "")
    return f" ({first[:160]})" if first else ""


async def _pieces(answer: httpx.Response) -> AsyncGenerator[str, None]:
    """The text in a stream of server-sent events. Raises ValueError on what is none."""
    ended = False
    async for line in answer.aiter_lines():
        if not line.startswith("data:"):
            if line and not line.startswith((":", "event:", "id:", "retry:")):
                raise ValueError("not a stream of events")
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            return
        event = json.loads(data)
        if event.get("error"):
            raise _BrokenOff(json.dumps(event))
        for choice in event["choices"][:1]:
            if piece := (choice.get("delta") or {}).get("content"):  # `reasoning_content` beside it is not for the ear
                yield piece
            ended = ended or choice.get("finish_reason") is not None
    if not ended:
        raise httpx.RemoteProtocolError("the stream ended before the reply did")
