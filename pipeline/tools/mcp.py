"""One of the owner's MCP servers: started when first needed, watched, restarted, and ended with Parley.

The official SDK talks to it, over the pipes of a child process or by streamable HTTP. What it says about itself and its
tools is data. Its settings are never logged, because they may hold keys.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TextIO
from urllib.parse import urlsplit

from config.settings import Permission, ToolServer
from pipeline.cleanup import until_one_ends
from pipeline.engine import WENT_WRONG
from pipeline.tools.answers import MOST, Allowance, hooks, narrowed
from pipeline.tools.calls import Tool
from pipeline.tools.pipes import piped
from pipeline.tools.toolbox import ROOM, ToolFailed
from pipeline.tools.wording import cut
from pipeline.workers.supervision import BackOff, tied_program

if TYPE_CHECKING:
    from mcp import Client
    from mcp_types import CallToolResult
    from mcp_types import Tool as ListedTool

START_S = 60.0
"""Time for a server to start and list its tools: `npx` and `uvx` may have to download it first."""
BACK_OFF_S = (1.0, 5.0, 15.0, 60.0)
"""Waits before a server that ended by itself is restarted."""
MOST_TOOLS = 100
"""Per server."""
LONGEST_DESCRIPTION = 500
"""Characters of a tool's description; for each argument's, a third of it."""
LONGEST_NAME, DEEPEST = 128, 20
"""Characters of a tool's name, and the depth of a schema; deeper parts accept anything."""
LAST_WORDS = 4000
"""Characters of a child's standard error that are kept, to say why it ended."""

State = Literal["off", "starting", "ready", "failed"]


class _CallFailed(Exception):
    """The server could not be used; the message is one sentence for people."""


@dataclass(frozen=True, slots=True)
class ServerTool:
    name: str
    """Its name on the server."""
    title: str
    tool: Tool
    usual: Permission
    """The permission if the owner chose none: tools that change things, or that do not say so, ask first."""


class McpServer:
    def __init__(self, settings: ToolServer, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """`sleep`: in seconds, between restarts."""
        self.settings = settings
        self.state: State = "off"
        self.error = ""
        """Why it is not running, in one sentence."""
        self.tools: tuple[ServerTool, ...] = ()
        self.listed = 0
        """How many tools the server listed; more than in `tools` if it has too many."""
        self._sleep = sleep
        self._client: Client | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        """Set once it is ready or has failed."""
        self._stop = asyncio.Event()
        self._died = asyncio.Event()
        self._allowance = Allowance()

    def same(self, settings: ToolServer) -> bool:
        """Whether the settings reach the server in the same way."""
        how = {"permissions"}
        return self.settings.model_dump(exclude=how) == settings.model_dump(exclude=how)

    def begin(self) -> None:
        """Start it in the background, unless it is running or was closed."""
        if not self._stop.is_set() and (self._keeping is None or self._keeping.done()):
            self.state, self.error = "starting", ""
            self._settled.clear()
            self._keeping = asyncio.create_task(self._keep())

    async def tried(self) -> None:
        """Start it if it is not running, and wait until it is ready or has failed."""
        self.begin()
        await self._settled.wait()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Call a tool and return its result. Raises ToolFailed."""
        import anyio
        import httpx2
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        await self.tried()
        if self._client is None:
            raise ToolFailed(self.error or f"{self.settings.name} is not running.")
        try:
            result = await self._client.call_tool(name, dict(arguments))
        except MCPError as error:
            if error.error.code == CONNECTION_CLOSED:
                self._lost()
                too_much = self._allowance.exceeded
                why = self._too_much() if too_much else f"{self.settings.name} ended before it answered."
                raise ToolFailed(why) from error
            raise ToolFailed(_sentence(str(error))) from error
        except (RuntimeError, ValueError) as error:  # the result is not what the tool promised
            raise ToolFailed(_sentence(str(error))) from error
        except (OSError, anyio.ClosedResourceError, anyio.BrokenResourceError, httpx2.HTTPError) as error:
            self._lost()
            raise ToolFailed(f"{self.settings.name} does not answer.") from error
        text = _text(result)
        if result.is_error:
            raise ToolFailed(text or "It failed, and did not say why.")
        return text

    def _too_much(self) -> str:
        return f"{self.settings.name} sent more than {MOST >> 20} MB at once, so its answer was dropped."

    def _lost(self) -> None:
        """Note that the connection is lost; the next call waits for a new one."""
        self._client = None
        self._settled.clear()
        self._died.set()

    async def close(self) -> None:
        """End it and its process."""
        self._stop.set()
        if self._keeping is not None:
            if self.state == "starting":  # while it starts, it does not watch for the stop
                self._keeping.cancel()
            await asyncio.wait([self._keeping])
        self.state = "off"
        self._settled.set()

    async def _keep(self) -> None:
        """Keep it running until it is stopped. A server that was never ready is not retried automatically."""
        back_off = BackOff(BACK_OFF_S)
        while not self._stop.is_set():
            was_ready = False
            back_off.born()
            try:
                await self._hold()
                was_ready = True
            except _CallFailed as error:
                self.error = str(error)
            except Exception:
                logging.getLogger(__name__).exception("an MCP server could not be used")
                self.error = WENT_WRONG
            if self._stop.is_set():
                return
            if was_ready:  # calls now wait until it is back
                self.state, self.error = "starting", f"{self.settings.name} ended by itself."
                self._settled.clear()
                back_off.died()
            else:
                self.state = "failed"
                self._settled.set()
                if not back_off.failures:
                    return
            await until_one_ends(self._sleep(back_off.next_s()), self._stop.wait())

    async def _hold(self) -> None:
        """Start it and return when it has ended or is stopped. Raises _CallFailed if it does not start."""
        self.state = "starting"
        self._died.clear()
        self._allowance = Allowance()
        await asyncio.to_thread(importlib.import_module, "mcp")  # a second, in which the loop could hear nobody
        words = _LastWords()
        try:
            async with AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(START_S):
                        client = await stack.enter_async_context(self._connection(words))
                        await self._list(client)
                finally:
                    words.no_more_writers()
                self._client, self.state, self.error = client, "ready", ""
                self._settled.set()
                await until_one_ends(self._stop.wait(), self._died.wait())
                self._client, self.tools = None, ()
        except Exception as error:
            if self.state == "ready":
                logging.getLogger(__name__).warning(
                    "%s did not end well (%s)", self.settings.name, type(error).__name__
                )
                return
            raise _CallFailed(self._explained(error, words)) from error
        finally:
            self._client, self.tools = None, ()

    def _connection(self, words: _LastWords) -> Client:
        """Return a client that is not connected yet. Raises _CallFailed if the program is missing."""
        import httpx2
        from mcp import Client
        from mcp.client.streamable_http import streamable_http_client

        for name in ("mcp", "httpx2"):  # they log addresses and what servers send
            logging.getLogger(name).setLevel(logging.CRITICAL)
        given = self.settings
        if given.url:
            key = given.key.get_secret_value()
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            http = httpx2.AsyncClient(
                headers=headers,
                timeout=httpx2.Timeout(START_S, read=300.0),
                trust_env=not is_local(given.url),
                event_hooks=hooks(self._allowance),
            )
            over_http = streamable_http_client(given.url, http_client=http, max_sse_event_size=MOST)
            return Client(narrowed(over_http))
        environment = {name: value.get_secret_value() for name, value in given.env.items()}
        program = shutil.which(str(Path(given.command).expanduser()), path=environment.get("PATH"))
        if program is None:
            raise _CallFailed(
                f"There is no program {given.command[:80]!r} on this computer: install it, or correct the name."
            )
        command = [program, *given.args]
        if sys.platform == "linux":
            command = tied_program(sys.executable, os.getpid(), signal.SIGKILL, *command)
        return Client(narrowed(piped(command, environment, words.errors, self._allowance, self._died)))

    async def _list(self, client: Client) -> None:
        """Read its tools; of several with the same name, only one is kept."""
        found: dict[str, ServerTool] = {}
        cursor, self.listed = None, 0
        while True:
            page = await client.list_tools(cursor=cursor)
            self.listed += len(page.tools)
            for each in page.tools:
                if len(found) < MOST_TOOLS and 0 < len(each.name) <= LONGEST_NAME:
                    tool = _read(each)
                    if tool.tool.size <= ROOM:  # larger ones are never offered
                        found.setdefault(each.name, tool)
            cursor = page.next_cursor
            if cursor is None or self.listed >= 10 * MOST_TOOLS:
                break
        self.tools = tuple(found.values())

    def _explained(self, error: Exception, words: _LastWords) -> str:
        import httpx2
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        name = self.settings.name
        if self._allowance.exceeded:
            return self._too_much()
        for cause in _leaves(error):
            match cause:
                case _CallFailed():
                    return str(cause)
                case TimeoutError():
                    return f"{name} has not answered within {START_S:.0f} seconds: is it an MCP server?"
                case httpx2.HTTPStatusError() if cause.response.status_code in (401, 403):
                    return f"{name} refused the key: enter the right one."
                case httpx2.TransportError():
                    return f"No server answers at the address of {name}: start it, or correct the address."
                case OSError():
                    return f"{name} cannot be started ({cause.strerror})."
        for cause in _leaves(error):
            if isinstance(cause, MCPError) and cause.code != CONNECTION_CLOSED:
                return f"{name} does not speak MCP correctly ({_sentence(str(cause))})."
            if isinstance(cause, ValueError):  # pydantic's, whose message is for programmers
                return f"{name} does not speak MCP correctly: its list of tools does not follow the protocol."
        if said := words.last:
            return f"{name} ended at once and said: {said}"
        return f"{name} ended before it was ready: is it an MCP server?"


def is_local(url: str) -> bool:
    """Whether requests to the address stay on this computer."""
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


class _LastWords:
    """Keeps the end of what a child writes to its standard error."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self.errors: TextIO = os.fdopen(writer, "w")
        self._said = ""
        threading.Thread(target=self._read, args=(os.fdopen(reader, "rb", 0),), daemon=True).start()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while piece := pipe.read(4096):
                self._said = (self._said + piece.decode(errors="replace"))[-LAST_WORDS:]

    @property
    def last(self) -> str:
        """Its last line, shortened."""
        lines = [line.strip() for line in self._said.splitlines() if line.strip()]
        return _sentence(lines[-1]) if lines else ""

    def no_more_writers(self) -> None:
        """Close this side's end of the pipe, because the child now has its own."""
        self.errors.close()


def _read(listed: ListedTool) -> ServerTool:
    notes = listed.annotations
    reads_only = notes is not None and notes.read_only_hint is True and notes.destructive_hint is not True
    title = listed.title or (notes.title if notes is not None else None) or listed.name
    schema = _shortened(listed.input_schema)
    tool = Tool(listed.name, cut(listed.description or "", LONGEST_DESCRIPTION), schema, own=True)
    return ServerTool(listed.name, cut(title, 80), tool, "allow" if reads_only else "ask")


def _shortened(schema: Any, depth: int = 0) -> Any:
    """Shorten the descriptions in a schema. An object stays an object."""
    if depth > DEEPEST:
        return {}
    match schema:
        case dict():
            return {
                key: cut(value, LONGEST_DESCRIPTION // 3)
                if key == "description" and isinstance(value, str)
                else _shortened(value, depth + 1)
                for key, value in schema.items()
                if key not in ("title", "$schema", "examples")
            }
        case list():
            return [_shortened(each, depth + 1) for each in schema]
    return schema


def _text(result: CallToolResult) -> str:
    """Return the text of a result, with a note for each part that is not text."""
    said = list[str]()
    for part in result.content:
        if part.type == "text":
            said.append(part.text)
        elif part.type == "resource" and isinstance(text := getattr(part.resource, "text", None), str):
            said.append(text)
        elif part.type == "resource_link":
            said.append(str(part.uri))
        else:
            said.append(f"(Here was {part.type}, which is not text.)")
    return "\n".join(said)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]


def _sentence(text: str) -> str:
    return cut(re.sub(r"[^\S ]+|[\x00-\x1f]", " ", text), 200)
