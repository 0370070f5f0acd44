"""The connection to a server with OpenAI's chat API, and one sentence for each thing that may go wrong with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import httpx

from config.text import parsed
from pipeline.engine import EngineError
from pipeline.llm import Passed
from pipeline.llm.deltas import BrokenOff, Delta, body, chunks, deltas
from pipeline.tools.calls import ToolCall

CONNECT_S, SILENCE_S = 5.0, 60.0
"""How long to wait for the connection, and for each next piece of a reply."""


class RequestRefused(EngineError):
    """The server does not accept the request as it is (400, 422)."""


class ChatServer:
    def __init__(self, url: str, api_key: str, silence_s: float) -> None:
        """
        Args:
            url: the server's address, ending in /v1.
            silence_s: seconds to wait for each next piece of a reply.
        """
        self.url = url.strip().rstrip("/")
        self._root = self.url.removesuffix("/v1")
        self._silence_s = silence_s
        headers = {"Accept-Encoding": "identity"}  # answers are small, and nothing can unpack to more than was sent
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        here = urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")  # a proxy cannot reach this machine
        self._client = httpx.AsyncClient(
            headers=headers, timeout=httpx.Timeout(silence_s, connect=CONNECT_S), trust_env=not here
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def models(self) -> list[dict[str, Any]]:
        """Return the models that the server offers. Raises EngineError."""
        try:
            listed = (await self._answer("GET", f"{self.url}/models"))["data"]
            return [entry for entry in listed if isinstance(entry, dict) and "id" in entry]
        except _FORESEEN as error:
            raise self._explained(error) from error

    async def deltas(self, request: Mapping[str, object]) -> AsyncGenerator[Delta | ToolCall, None]:
        """Yield a reply's parts as they come, then its tool calls. Closing this closes the connection, and the server
        stops.

        Raises:
            RequestRefused: the server does not accept such a request.
            EngineError: anything else, in one sentence.
        """
        try:
            async with self._client.stream("POST", f"{self.url}/chat/completions", json=request) as answer:
                await _check(answer)
                async with aclosing(deltas(answer)) as parts:
                    async for delta in parts:
                        yield delta
        except _FORESEEN as error:
            raise self._explained(error) from error

    async def passed(self, path: str, request: Mapping[str, object]) -> AsyncGenerator[Passed | bytes, None]:
        """Forward a client's request: yield how it is answered, then the answer as it comes. Raises EngineError."""
        try:
            async with self._client.stream("POST", f"{self.url}{path}", json=request) as answer:
                yield Passed(answer.status_code, answer.headers.get("content-type", "application/json"))
                async for piece in chunks(answer):
                    yield piece
        except _FORESEEN as error:
            raise self._explained(error) from error

    async def context(self) -> int | None:
        """Return the tokens of prompt and reply together, which llama.cpp reports beside OpenAI's API; None if the
        server does not."""
        try:
            told = await self._answer("GET", f"{self._root}/props")
            return int(told["default_generation_settings"]["n_ctx"])
        except _FORESEEN:
            return None

    async def count(self, model: str, text: str) -> int | None:
        """Count a text's tokens with the server's tokenizer, as vLLM and llama.cpp can; None if the server cannot."""
        # vLLM reads `prompt`, llama.cpp `content`, and each ignores what it does not know
        request = {"model": model, "prompt": text, "content": text, "add_special_tokens": False, "add_special": False}
        try:
            return len((await self._answer("POST", f"{self._root}/tokenize", request))["tokens"])
        except _FORESEEN:
            return None

    async def _answer(self, method: str, url: str, request: Mapping[str, object] | None = None) -> Any:
        """Return the JSON of a whole answer. Raises one of _FORESEEN."""
        async with self._client.stream(method, url, json=request) as answer:
            await _check(answer)
            return parsed(await body(answer))

    def _explained(self, error: Exception) -> EngineError:
        match error:
            case _Refusal(status=401 | 403):
                return EngineError(f"The server {self.url} refused the key: enter the right one on the setup page.")
            case _Refusal(status=404, text=text) if "model" in text.lower():
                return EngineError(f"The server {self.url} has no such model{_reason(text)}: choose another.")
            case _Refusal(status=404):
                return EngineError(f"There is no chat API at {self.url}: correct the address; most end in /v1.")
            case _Refusal(status=status, text=text):
                kind = RequestRefused if status in (400, 422) else EngineError
                return kind(f"The language model's server answered {status}{_reason(text)}.")
            case BrokenOff():
                return EngineError(
                    f"The language model's server stopped in the middle of the reply{_reason(str(error))}."
                )
            case httpx.ConnectError() | httpx.ConnectTimeout():
                return EngineError(f"No server answers at {self.url}: start it, or correct the address.")
            case httpx.TimeoutException():
                return EngineError(f"The language model's server has said nothing for {self._silence_s:.0f} seconds.")
            case httpx.InvalidURL() | httpx.UnsupportedProtocol():
                return EngineError(f"{self.url!r} is not an address: it should look like http://localhost:11434/v1.")
            case httpx.HTTPError():
                return EngineError("The language model's server disconnected in the middle of the reply.")
        return EngineError(f"The server at {self.url} does not speak OpenAI's chat API.")


class _Refusal(Exception):
    """An answer whose status is an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status)
        self.status, self.text = status, text


async def _check(answer: httpx.Response) -> None:
    if answer.is_error:
        raise _Refusal(answer.status_code, (await body(answer)).decode("utf-8", "replace"))


_FORESEEN = (
    httpx.HTTPError,
    httpx.InvalidURL,
    BrokenOff,
    _Refusal,
    # the answer is not what the API promises
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
)


def _reason(text: str) -> str:
    """Return the server's own error, short and in brackets: the message in OpenAI's format, or the first line."""
    try:
        answer = parsed(text)
        error = answer.get("error", answer)
        text = str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        pass
    first = next(iter(text.strip().splitlines()), "")
    return f" ({first[:160]})" if first else ""
