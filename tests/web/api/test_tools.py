"""The owner's tools by the API, and what a talk makes of them."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection

from config import Settings
from config.settings import ToolServer
from pipeline.tools.calls import ToolCall
from tests.support import mcp_server
from tests.web.conftest import Running
from tests.web.scripted import ScriptedMind
from web.changes import keep_tool_keys, switch_off_strange_tools

COMMAND = f"'{sys.executable}' '{Path(mcp_server.__file__)}'"


class Talk:
    """Our own page's socket; what it plays is reported at once."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._made: dict[str, int] = {}

    async def send(self, type: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": type, **fields}))

    async def the(self, type: str) -> dict[str, Any]:
        while True:
            event: dict[str, Any] = json.loads(await self._socket.recv())
            if event["type"] == "response.output_audio.delta":
                made = self._made.get(event["response_id"], 0) + len(base64.b64decode(event["delta"])) // 2
                self._made[event["response_id"]] = made
                await self.send("parley.playback", response_id=event["response_id"], samples=made)
            if event["type"] == type:
                return event


class Capable(ScriptedMind):
    uses_tools = True


async def test_a_server_is_added_allowed_switched_off_and_removed(running: Running) -> None:
    async with running.client(timeout=60) as client:
        told = (await client.get("/api/tools")).json()
        assert (told["usable"], told["servers"]) == (False, [])
        assert {each["name"] for each in told["builtins"]} >= {"get_time", "set_timer", "search_conversations"}
        for each in told["builtins"]:
            assert "user" not in each["description"], "its owner reads this, not the language model"
        new = {"name": "test", "command": COMMAND, "env": {"SECRET": "hidden-key"}}
        (server,) = (await client.post("/api/tools/servers", json=new)).json()["servers"]
        assert (server["state"], server["local"]) == ("ready", True)
        assert {each["name"]: each["permission"] for each in server["tools"]}["remove"] == "ask"
        change = {"permissions": {"remove": "off"}}
        (server,) = (await client.put("/api/tools/servers/test", json=change)).json()["servers"]
        assert {each["name"]: each["permission"] for each in server["tools"]}["remove"] == "off"
        for page in ("/api/tools", "/api/settings", "/api/settings/export", "/setup"):
            assert "hidden-key" not in (await client.get(page)).text
        await client.put(
            "/api/settings",
            json={"tools": {"servers": (await client.get("/api/settings")).json()["settings"]["tools"]["servers"]}},
        )
        assert running.service.settings.tools.servers[0].env["SECRET"].get_secret_value() == "hidden-key"
        (server,) = (await client.put("/api/tools/servers/test", json={"enabled": False})).json()["servers"]
        assert (server["state"], server["tools"]) == ("off", [])
        assert (await client.post("/api/tools/servers/test/test", json={})).status_code == 409
        assert (await client.request("DELETE", "/api/tools/servers/test", json={})).json()["servers"] == []
        assert (await client.request("DELETE", "/api/tools/servers/test", json={})).status_code == 404


async def test_what_cannot_be_a_server_is_refused_in_a_sentence(running: Running) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"name": "", "command": "a"}, "Give it a name."),
        ({"name": "a b", "command": "a"}, "name has a character"),
        ({"name": "a", "command": "a 'b"}, "quotation mark"),
        ({"name": "a"}, "either a command or an address"),
        ({"name": "a", "command": "a", "url": "http://b"}, "either a command or an address"),
        ({"name": "a", "url": "ftp://b"}, "http"),
    ]
    async with running.client() as client:
        for given, why in refused:
            answer = await client.post("/api/tools/servers", json=given)
            assert answer.status_code == 422, given
            assert why in answer.json()["error"]["message"]


async def test_a_talk_uses_them_asks_first_and_is_answered_by_a_card(running: Running) -> None:
    mind = running.engines.mind = Capable(text="")
    asked = ToolCall("x", "remove", '{"path": "notes.txt"}')
    mind.calls = [[asked]]
    async with running.client(timeout=60) as client:
        await client.post("/api/tools/servers", json={"name": "test", "command": COMMAND})
    async with running.connect("?parley=1") as socket:
        talk = Talk(socket)
        await talk.the("session.created")
        await talk.send("conversation.item.create", item=typed("Remove my notes."))
        await talk.send("response.create")
        tool = await talk.the("parley.tool")
        assert (tool["state"], tool["name"], tool["arguments"]) == ("asking", "remove", "path: notes.txt")
        await talk.send("parley.tool.answer", call_id="nobody's", allow=True)
        assert (await talk.the("error"))["error"]["code"] == "invalid_call_id"
        mind.text = "It is gone."
        await talk.send("parley.tool.answer", call_id=tool["call_id"], allow=True)
        assert (await talk.the("parley.tool"))["state"] == "running"
        done = await talk.the("parley.tool")
        assert (done["state"], done["result"]) == ("done", "removed notes.txt")
        while (answer := await talk.the("response.output_audio_transcript.done"))["transcript"] != "It is gone.":
            assert "remove" in answer["transcript"]  # the question
    assert mind.prompts[-1].history[-1].text == "removed notes.txt"
    assert {"get_time", "add", "remove"} <= {tool.name for tool in mind.prompts[-1].tools}


def typed(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def test_a_file_of_settings_starts_nothing_that_was_not_there_before() -> None:
    old, new = Settings(), Settings()
    known = ToolServer(name="known", command="mine", key="k")
    old.tools.servers = [known]
    new.tools.servers = [ToolServer(name="known", command="mine"), ToolServer(name="strange", command="evil")]
    keep_tool_keys(old, new)
    switch_off_strange_tools(old, new)
    assert [each.enabled for each in new.tools.servers] == [True, False]
    assert new.tools.servers[0].key.get_secret_value() == "k"
