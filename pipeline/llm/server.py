"""The wire to a server that speaks OpenAI's chat API, and one sentence for each thing that may go wrong on it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from pipeline.engine import EngineError
from pipeline.llm.tool_calls import ToolCalls
from pipeline.tools.calls import ToolCall

CONNECT_S, SILENCE_S = 5.0, 60.0
"""How long to wait for the server to be there, and for each next piece of a reply."""


@dataclass(frozen=True, slots=True)
class Delta:
    """What a reply goes on with."""

    text: str
    reasons: bool
    """Whether it is a piece of reasoning, which the server keeps apart from the text."""


class Refused(EngineError):
    """The server does not take the request as it is (400, 422): something in it is not to its liking."""


class ChatServer:
    def __init__(self, url: str, api_key: str, silence_s: float) -> None:
        """
        Args:
            url: ends in /v1.
            silence_s: seconds to wait for each next piece of a reply.
        """
        self.url = url.strip().rstrip("/")
        self._root = self.url.removesuffix("/v1")
        self._silence_s = silence_s
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        here = urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")  # no proxy leads to this machine
        self._client = httpx.AsyncClient(
            headers=headers, timeout=httpx.Timeout(silence_s, connect=CONNECT_S), trust_env=not here
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def models(self) -> list[dict[str, Any]]:
        """What it offers. Raises EngineError."""
        try:
            answer = await self._client.get(f"{self.url}/models")
            answer.raise_for_status()
            listed = answer.json()["data"]
            return [entry for entry in listed if isinstance(entry, dict) and "id" in entry]
        except _FORESEEN as error:
            raise self._explained(error) from error

    async def deltas(self, request: Mapping[str, object]) -> AsyncGenerator[Delta | ToolCall, None]:
        """A reply's parts as they come, then its tool calls. Closing this closes the connection; servers stop then.

        Raises:
            Refused: it does not take such a request.
            EngineError: anything else, in one sentence.
        """
        try:
            async with self._client.stream("POST", f"{self.url}/chat/completions", json=request) as answer:
                if answer.is_error:
                    await answer.aread()
                    answer.raise_for_status()
                async with aclosing(_deltas(answer)) as parts:
                    async for delta in parts:
                        yield delta
        except _FORESEEN as error:
            raise self._explained(error) from error

    async def context(self) -> int | None:
        """Tokens of prompt and reply together, as llama.cpp tells beside OpenAI's API. None: it does not."""
        try:
            answer = await self._client.get(f"{self._root}/props")
            answer.raise_for_status()
            return int(answer.json()["default_generation_settings"]["n_ctx"])
        except _FORESEEN:
            return None

    async def count(self, model: str, text: str) -> int | None:
        """How many tokens a text is, by the server's own tokenizer: vLLM and llama.cpp tell. None: it does not."""
        # vLLM reads `prompt`, llama.cpp `content`, and each passes over what it does not know
        request = {"model": model, "prompt": text, "content": text, "add_special_tokens": False, "add_special": False}
        try:
            answer = await self._client.post(f"{self._root}/tokenize", json=request)
            answer.raise_for_status()
            return len(answer.json()["tokens"])
        except _FORESEEN:
            return None

    def _explained(self, error: Exception) -> EngineError:
        match error:
            case httpx.HTTPStatusError(response=httpx.Response(status_code=401 | 403)):
                return EngineError(f"The server {self.url} refused the key: enter the right one on the setup page.")
            case httpx.HTTPStatusError(response=httpx.Response(status_code=404)):
                return EngineError(f"There is no chat at {self.url}: correct the address; most end in /v1.")
            case httpx.HTTPStatusError(response=response):
                kind = Refused if response.status_code in (400, 422) else EngineError
                return kind(f"The language model's server answered {response.status_code}{_reason(response.text)}.")
            case _BrokenOff():
                return EngineError(f"The language model's server broke off{_reason(str(error))}.")
            case httpx.ConnectError() | httpx.ConnectTimeout():
                return EngineError(f"No server answers at {self.url}: start it, or correct the address.")
            case httpx.TimeoutException():
                return EngineError(f"The language model's server has said nothing for {self._silence_s:.0f} seconds.")
            case httpx.InvalidURL() | httpx.UnsupportedProtocol():
                return EngineError(f"{self.url!r} is no address: it should look like http://localhost:11434/v1.")
            case httpx.HTTPError():
                return EngineError("The language model's server went away in the middle of the reply.")
        return EngineError(f"What answers at {self.url} does not speak OpenAI's chat API.")


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


async def _deltas(answer: httpx.Response) -> AsyncGenerator[Delta | ToolCall, None]:
    """The parts in a stream of server-sent events. Raises ValueError on what is none."""
    ended, calls = False, ToolCalls()
    async for line in answer.aiter_lines():
        if not line.startswith("data:"):
            if line and not line.startswith((":", "event:", "id:", "retry:")):
                raise ValueError("not a stream of events")
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            ended = True
            break
        event = json.loads(data)
        if event.get("error"):
            raise _BrokenOff(json.dumps(event))
        for choice in event["choices"][:1]:
            delta = choice.get("delta") or {}
            text = delta.get("content") or ""
            if not isinstance(text, str):
                raise ValueError("no text")
            calls.feed(delta.get("tool_calls") or [])
            yield Delta(text, bool(delta.get("reasoning_content") or delta.get("reasoning")))
            ended = ended or choice.get("finish_reason") is not None
    if not ended:
        raise httpx.RemoteProtocolError("the stream ended before the reply did")
    for call in calls.finish():
        yield call
