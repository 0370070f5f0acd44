"""The owner's tools: which exist, what each may do, and the MCP servers that provide more."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, SecretStr

from config import Settings
from config.settings import Permissions, ToolServer
from pipeline.engine import EngineError
from pipeline.llm import UsesTools
from pipeline.tools.builtin import Builtin
from pipeline.tools.mcp import is_local
from web.api.http import Problem, checked, json_object
from web.service import Service


class NewServer(BaseModel):
    """A server as requested by the page."""

    model_config = ConfigDict(extra="forbid")
    name: str
    command: str = ""
    """The command with its arguments, quoted as in a shell."""
    url: str = ""
    key: SecretStr = SecretStr("")
    env: dict[str, SecretStr] = {}


class ServerChange(BaseModel):
    model_config = ConfigDict(extra="forbid")
    enabled: bool | None = None
    permissions: Permissions | None = None
    """Permissions of the named tools; the others keep theirs."""


def tools_api(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get("/api/tools")
    async def tools() -> dict[str, Any]:
        """The tools and servers, and whether the current language model is offered any."""
        return told(service)

    return router


def tool_servers_api(service: Service) -> APIRouter:
    """Add, change and remove MCP servers, which start programs on this machine."""
    router = APIRouter()

    @router.post("/api/tools/servers")
    async def add(request: Request) -> dict[str, Any]:
        """Save a server, start it, and wait until it is ready or has failed."""
        given = checked(NewServer, await json_object(request))
        try:
            words = shlex.split(given.command)
        except ValueError:
            raise Problem(422, "The command has a quotation mark that is not closed.", "command") from None
        tree = {
            "name": given.name.strip(),
            "command": words[0] if words else "",
            "args": words[1:],
            "url": given.url.strip(),
            "key": given.key,
            "env": given.env,
        }
        if not tree["name"]:
            raise Problem(422, "Give it a name.", "name")
        if bool(words) == bool(tree["url"]):
            raise Problem(422, "Give either a command or an address.", "command")
        server = checked(ToolServer, tree)
        if any(each.name == server.name for each in service.settings.tools.servers):
            raise Problem(409, f"There is already a server named {server.name}.", "name")
        await service.change(_edited(lambda servers: [*servers, server]))
        await _tried(service, server.name)
        return told(service)

    @router.put("/api/tools/servers/{name}")
    async def change(name: str, request: Request) -> dict[str, Any]:
        """Switch a server on or off, or set what its tools may do."""
        _find(service, name)
        wanted = checked(ServerChange, await json_object(request))

        def edit(servers: list[ToolServer]) -> list[ToolServer]:
            for each in servers:
                if each.name == name:
                    each.enabled = each.enabled if wanted.enabled is None else wanted.enabled
                    each.permissions = each.permissions | (wanted.permissions or {})
            return servers

        await service.change(_edited(edit))
        if wanted.enabled:
            await _tried(service, name)
        return told(service)

    @router.delete("/api/tools/servers/{name}")
    async def remove(name: str) -> dict[str, Any]:
        """Stop a server and forget it, with its keys."""
        _find(service, name)
        await service.change(_edited(lambda servers: [each for each in servers if each.name != name]))
        return told(service)

    @router.post("/api/tools/servers/{name}/test")
    async def test(name: str) -> dict[str, Any]:
        """Start a server that is not running, and wait until it is ready or has failed."""
        if not _find(service, name).enabled:
            raise Problem(409, f"{name} is switched off: switch it on first.")
        await _tried(service, name)
        return told(service)

    return router


def _edited(edit: Callable[[list[ToolServer]], list[ToolServer]]) -> Callable[[Settings], Settings]:
    def edited(old: Settings) -> Settings:
        new = old.model_copy(deep=True)
        new.tools.servers = edit(new.tools.servers)
        return new

    return edited


def _find(service: Service, name: str) -> ToolServer:
    server = next((each for each in service.settings.tools.servers if each.name == name), None)
    if server is None:
        raise Problem(404, f"There is no server named {name[:40]!r}.")
    return server


async def _tried(service: Service, name: str) -> None:
    if (server := service.tools.servers.get(name)) is not None:
        await server.tried()


def told(service: Service) -> dict[str, Any]:
    offered = service.tools.offered()
    names = {(each.server.settings.name, each.source.tool.name) for each in offered if each.server is not None}
    return {
        "usable": _usable(service),
        "builtin": service.settings.tools.builtin,
        "builtins": [
            {"name": each.tool.name, "description": each.source.line, "permission": each.permission}
            for each in offered
            if isinstance(each.source, Builtin)
        ],
        "servers": [_server(service, each, names) for each in service.settings.tools.servers],
    }


def _usable(service: Service) -> bool:
    try:
        mind = service.engines.running("mind")
    except EngineError:
        return False
    return isinstance(mind, UsesTools) and mind.uses_tools


def _server(service: Service, given: ToolServer, names: set[tuple[str, str]]) -> dict[str, Any]:
    """Describe a server without its keys."""
    running = service.tools.servers.get(given.name)
    listed = [] if running is None else running.tools
    return {
        "name": given.name,
        "command": shlex.join([given.command, *given.args]) if given.command else "",
        "url": given.url,
        "local": bool(given.command) or is_local(given.url),
        "enabled": given.enabled,
        "state": "off" if running is None else running.state,
        "error": "" if running is None else running.error,
        "listed": 0 if running is None else running.listed,
        "tools": [
            {
                "name": each.name,
                "title": each.title,
                "description": each.tool.description,
                "usual": each.usual,
                "permission": given.permissions.get(each.name, each.usual),
                "offered": (given.name, each.name) in names,
            }
            for each in listed
        ],
    }
