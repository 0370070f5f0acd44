"""Reads a chat server's answer: the parts of a reply, in whatever shape they come, up to a bearable size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx

from config.text import parsed
from pipeline.llm.tool_calls import ToolCalls
from pipeline.tools.calls import ToolCall

MOST_BYTES, LONGEST_LINE = 16_000_000, 1_000_000
"""Limits of an answer. A reply has kilobytes, a list of models some hundred; only a broken server sends more."""

REPLY_S = 600.0
"""Seconds that a whole reply may take, including its reasoning."""


@dataclass(frozen=True, slots=True)
class Delta:
    """The next part of a reply."""

    text: str
    reasons: bool = False
    """Whether it is reasoning, which the server sends apart from the text."""
    truncated: bool = False
    """Whether the reply ends here because it reached the maximum length."""


class BrokenOff(Exception):
    """The server reports an error in the middle of its answer, or does not stop answering."""


async def chunks(answer: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Yield an answer's bytes as sent. Raises BrokenOff if it is compressed: a few bytes may unpack to gigabytes."""
    if answer.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise BrokenOff("it packs its answers, though it was asked not to")
    async for chunk in answer.aiter_raw():
        yield chunk


async def body(answer: httpx.Response, most: int = MOST_BYTES) -> bytes:
    """Return the whole answer. Raises BrokenOff if it is longer than `most` bytes."""
    read = bytearray()
    async for chunk in chunks(answer):
        read += chunk
        if len(read) > most:
            raise BrokenOff("its answer does not end")
    return bytes(read)


async def lines(answer: httpx.Response) -> AsyncGenerator[str, None]:
    """Yield the lines that are not empty. Raises BrokenOff if they are too long, too many or too slow."""
    clock = asyncio.get_running_loop().time
    deadline, total, read = clock() + REPLY_S, 0, bytearray()
    async for chunk in chunks(answer):
        total += len(chunk)
        read += chunk
        *whole, rest = read.split(b"\n")
        if total > MOST_BYTES or len(rest) > LONGEST_LINE or clock() > deadline:
            raise BrokenOff("its answer does not end")
        read = bytearray(rest)
        for line in whole:
            if text := line.decode("utf-8", "replace").strip("\ufeff\r\n "):
                yield text
    if text := read.decode("utf-8", "replace").strip("\ufeff\r\n "):
        yield text


async def deltas(answer: httpx.Response) -> AsyncGenerator[Delta | ToolCall, None]:
    """Yield the parts of a reply as they come, then its tool calls: from server-sent events, or from one whole answer.

    Errors after the end of the reply are ignored.

    Raises:
        BrokenOff, httpx.HTTPError: the answer ended before the reply did.
        ValueError, KeyError, TypeError, AttributeError: it is not such an answer.
    """
    reading = _Reading()
    whole: list[str] = []
    try:
        async with aclosing(lines(answer)) as coming:
            async for line in coming:
                field, colon, data = line.partition(":")
                if field == "data" and colon:
                    for delta in reading.event(data.strip()):
                        yield delta
                    if reading.done:
                        break
                elif not (line.startswith(":") or (field in ("event", "id", "retry") and colon)):
                    if reading.begun:
                        raise ValueError("not a stream of events")
                    whole.append(line)
        if whole:
            for delta in reading.event("\n".join(whole)):
                yield delta
    except (BrokenOff, httpx.HTTPError):
        if not reading.ended:
            raise
    if not reading.ended:
        raise httpx.RemoteProtocolError("the stream ended before the reply did")
    for call in reading.calls.finish():
        yield call


class _Reading:
    """What is known from the events so far."""

    def __init__(self) -> None:
        self.calls = ToolCalls()
        self.begun = self.ended = self.done = False
        """Whether an event has come; whether the reply has ended; whether the stream has ended."""

    def event(self, data: str) -> Iterator[Delta]:
        """Read one event. Raises what deltas() raises."""
        self.begun = True
        if not data:
            return
        if data == "[DONE]":
            self.ended = self.done = True
            return
        event = parsed(data)
        if event.get("error"):
            raise BrokenOff(data)
        choices = event.get("choices")
        if not choices:  # only usage figures, or a keep-alive
            return
        choice = choices[0]
        part = choice.get("delta") or choice.get("message") or {}
        self.calls.feed(part.get("tool_calls") or [])
        text, thought = _text(part.get("content") or choice.get("text"))
        reasons = thought or bool(part.get("reasoning_content") or part.get("reasoning"))
        finish = choice.get("finish_reason")
        self.ended = self.ended or finish is not None or "message" in choice
        yield Delta(text or _text(part.get("refusal"))[0], reasons, finish == "length")


def _text(content: Any) -> tuple[str, bool]:
    """Return the text of a content, which may be a list of parts, and whether one of them was reasoning."""
    if content is None:
        return "", False
    if isinstance(content, str):
        return content, False
    said, thought = "", False
    for part in content:
        if isinstance(part, str):
            said += part
        elif part.get("type") in ("thinking", "reasoning"):
            thought = True
        else:
            said += part.get("text") or part.get("refusal") or ""
    return said, thought
