"""The owner's toolbox: the built-in tools and the MCP servers from the settings, each with its permission."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from config.settings import Permission, ToolSettings
from pipeline.tools.builtin import Builtin
from pipeline.tools.calls import Tool, ToolCall
from pipeline.tools.mcp import McpServer, ServerTool
from pipeline.tools.toolbox import ROOM, ToolFailed

LONGEST_NAME = 64
"""Characters of a tool's name, as in OpenAI's API."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool under the name by which the language model knows it."""

    tool: Tool
    permission: Permission
    source: Builtin | ServerTool
    server: McpServer | None = None


class OwnerTools:
    """A Toolbox of the owner's tools."""

    def __init__(self, builtins: Sequence[Builtin], settings: ToolSettings) -> None:
        self._builtins = builtins
        self._settings = settings
        self.servers: dict[str, McpServer] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._begun = False
        self.configure(settings)

    def configure(self, settings: ToolSettings) -> None:
        """Apply settings: new and changed servers are started, if any have been, and the others keep running."""
        self._settings = settings
        wanted = {each.name: each for each in settings.servers if each.enabled}
        for name, server in list(self.servers.items()):
            if name not in wanted or not server.same(wanted[name]):
                self._end(self.servers.pop(name))
        for name, each in wanted.items():
            if name in self.servers:
                self.servers[name].settings = each
            else:
                self.servers[name] = McpServer(each)
        if self._begun:
            self.begin()

    def begin(self) -> None:
        """Start the servers in the background, because a conversation begins."""
        self._begun = True
        for server in self.servers.values():
            server.begin()

    async def close(self) -> None:
        for server in list(self.servers.values()):
            self._end(server)
        self.servers.clear()
        while self._ending:
            await asyncio.wait(self._ending)

    def tools(self) -> tuple[Tool, ...]:
        return tuple(each.tool for each in self.offered() if each.permission != "off")

    def asks(self, name: str) -> bool:
        return any(each.permission == "ask" for each in self.offered() if each.tool.name == name)

    async def call(self, call: ToolCall, conversation: str) -> str:
        offered = next((each for each in self.offered() if each.tool.name == call.name), None)
        if offered is None:
            raise ToolFailed("This tool no longer exists.")
        if offered.permission == "off":
            raise ToolFailed("This tool has been switched off.")
        given = json.loads(call.arguments)
        if isinstance(offered.source, Builtin):
            return await offered.source.run(given, conversation)
        assert offered.server is not None
        return await offered.server.call(offered.source.name, given)

    def offered(self) -> list[Offered]:
        """Return all tools, including those that are off, but not those that do not fit into a prompt."""
        found, taken, room = list[Offered](), set[str](), ROOM
        for each in self._all():
            name = _name(each.tool.name)
            if name in taken and each.server is not None:
                name = _name(f"{each.server.settings.name}_{name}")
            if name in taken:
                continue  # a second tool of that name on the server
            tool = replace(each.tool, name=name)
            if each.permission != "off":
                room -= tool.size
                if room < 0:
                    continue
            taken.add(name)
            found.append(replace(each, tool=tool))
        return found

    def _all(self) -> Iterator[Offered]:
        for each in self._builtins:
            if self._settings.builtin and each.works():
                yield Offered(each.tool, self._settings.permissions.get(each.tool.name, "allow"), each)
        for server in self.servers.values():
            for tool in server.tools:
                permission = server.settings.permissions.get(tool.name, tool.usual)
                yield Offered(tool.tool, permission, tool, server)

    def _end(self, server: McpServer) -> None:
        task = asyncio.create_task(server.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:LONGEST_NAME]
