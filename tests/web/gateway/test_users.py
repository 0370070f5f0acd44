"""Many users at one gateway: each has their own memory, settings and records, and sees nothing of another's."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.openapi.utils import get_openapi
from websockets.exceptions import ConnectionClosed, InvalidStatus

from config import Settings
from config.personal import PERSONAL
from config.settings import ToolServer
from pipeline.engines.lent import PersonalVoice
from tests.web.gateway.conftest import WATCHING, RunningGateway, gateway_served
from tests.web.realtime.test_protocol import eventually, say, the
from web.gateway import accounts
from web.gateway.user import User

SECRET = "My hamster is called Zebulon."


async def told(served: RunningGateway, token: str, words: str, query: str = "?parley=1") -> str:
    """A talk in which something is said, and kept; its id."""
    async with served.client(token) as client:

        async def kept() -> int:
            return int((await client.get("/api/memory")).json()["size"]["turns"])

        before = await kept()
        async with served.connect(token, query) as socket:
            name: str = (await the(socket, "session.created"))["session"]["id"]
            await say(socket, words)
        while await kept() < before + 2:  # noqa: ASYNC110  the end of a talk keeps its last turn, and tells nobody
            await asyncio.sleep(0)
        return name


async def test_without_a_token_of_a_user_nothing_is_told(served: RunningGateway) -> None:
    for token in (None, "wrong", "ek_wrong"):
        async with served.client(token) as client:
            for path in ("/", "/talk", "/api/memory", "/health", "/static/css/base.css", "/v1/models", "/none"):
                assert (await client.get(path)).status_code == 401, (token, path)
    assert not served.gateway.here, "nobody was let in"


async def test_a_wrong_token_opens_no_talk(served: RunningGateway) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await served.connect("wrong")
    assert refused.value.response.status_code == 401


async def test_a_token_in_the_address_becomes_a_cookie_of_that_user(
    served: RunningGateway, tokens: dict[str, str]
) -> None:
    await told(served, tokens["anna"], SECRET)
    async with served.client(follow_redirects=True) as browser:
        page = await browser.get("/", params={"token": tokens["anna"]})
        assert (page.status_code, page.url.path) == (200, "/talk")
        assert 'href="/memory"' in page.text
        assert 'href="/setup"' not in page.text, "that is the administrator's"
        assert (await browser.get("/setup")).status_code == 404
        assert (await browser.get("/api/memory")).json()["size"]["turns"] == 2
        both = await browser.get("/api/memory", headers={"Authorization": f"Bearer {tokens['ben']}"})
        assert both.json()["size"]["turns"] == 0, "a key that is sent counts for more than a cookie"


def filled(paths: Iterator[tuple[str, str]], ids: list[str]) -> Iterator[tuple[str, str]]:
    """Each method and path, with each id in the place of what it takes."""
    for method, path in paths:
        if "{" in path:
            before, _, rest = path.partition("{")
            yield from ((method, f"{before}{id}{rest.partition('}')[2]}") for id in ids)
        else:
            yield method, path


async def test_no_path_shows_one_user_what_is_another_s(
    served: RunningGateway, tokens: dict[str, str], tmp_path: Path
) -> None:
    """Every path there is, with each of Anna's ids, asked by Ben: nothing of hers is in any answer, and all of it is
    still there afterwards."""
    talk = await told(served, tokens["anna"], SECRET)
    async with served.client(tokens["anna"]) as anna, served.client(tokens["ben"]) as ben:
        turns = (await anna.get("/api/memory/turns", params={"conversation": talk})).json()["turns"]
        assert turns[0]["text"] == SECRET
        named = await anna.put(f"/api/conversations/{talk}", json={"name": "About Zebulon", "pinned": True})
        assert named.status_code == 200
        before = await everything(anna, talk)

        assert (await ben.get("/api/memory")).json()["conversations"] == []
        app = served.gateway.here["ben"].app
        ids = [talk, *(turn["id"] for turn in turns), turns[0]["at"][:10]]
        known = get_openapi(title="", version="", routes=app.routes)["paths"]
        routes = ((method.upper(), path) for path, methods in known.items() for method in methods)
        asked = 0
        for method, path in filled(routes, ids):
            params = {"conversation": talk, "query": "Zebulon", "q": "Zebulon", "limit": "50"}
            body: dict[str, Any] = {} if method in {"GET", "HEAD"} else {"json": _body(path)}
            answer = await ben.request(method, path, params=params, **body)
            asked += 1
            assert "Zebulon" not in answer.text, f"{method} {path}"
            if any(id in path for id in ids[:-1]):
                assert answer.is_client_error, f"{method} {path}: {answer.status_code}"
        assert asked > 60
        assert await everything(anna, talk) == before

    async with served.connect(tokens["ben"], f"?parley=1&conversation={talk}") as socket:
        assert (await the(socket, "session.created"))["session"]["id"] != talk
        await say(socket, "What is my hamster called?")
    prompt = served.engines.mind.prompts[-1]
    assert "Zebulon" not in str(prompt.recalled)
    assert all("Zebulon" not in message.text for message in prompt.history)


def _body(path: str) -> dict[str, Any]:
    bodies: dict[str, dict[str, Any]] = {
        "/api/memory": {"everything": True},
        "/api/memory/pause": {"paused": False},
        "/api/settings": {},
    }
    return bodies.get(path, {"text": "Mine now.", "name": "mine"} if "/turns/" in path else {"name": "mine"})


async def everything(client: httpx.AsyncClient, talk: str) -> list[Any]:
    """What a user finds of theirs."""
    overview = (await client.get("/api/memory")).json()
    turns = (await client.get("/api/memory/turns", params={"conversation": talk})).json()
    records = (await client.get("/api/turns")).json()["turns"]
    return [overview["conversations"], turns, records]


async def test_who_comes_back_is_known_and_others_are_not(served: RunningGateway, tokens: dict[str, str]) -> None:
    await told(served, tokens["anna"], SECRET)
    await told(served, tokens["anna"], "What is my hamster called?")
    recalled = served.engines.mind.prompts[-1].recalled
    assert recalled is not None
    assert SECRET in recalled.text
    await told(served, tokens["ben"], "What is my hamster called?")
    assert "Zebulon" not in str(served.engines.mind.prompts[-1].recalled)


async def test_settings_are_each_user_s_own_and_the_machine_is_not_theirs(
    tmp_path: Path, tokens: dict[str, str]
) -> None:
    machine = Settings()
    machine.mind.persona = "You are the company's."
    machine.mind.api_key = type(machine.mind.api_key)("sk-secret")
    machine.mind.url = "http://10.0.0.9:8000/v1"
    machine.tools.servers = [ToolServer(name="files", command="run-me")]
    async with gateway_served(tmp_path, settings=machine) as served:
        async with served.client(tokens["anna"]) as anna, served.client(tokens["ben"]) as ben:
            mine = await anna.put("/api/settings", json={"mind": {"persona": "You are a pirate."}})
            assert mine.status_code == 200, mine.text
            theirs = (await ben.get("/api/settings")).json()
            assert theirs["settings"]["mind"]["persona"] == "You are the company's."
            assert (theirs["api_key_set"], theirs["settings"]["tools"]["servers"]) == (False, [])
            for text in (json.dumps(theirs), mine.text, (tmp_path / "users/anna/settings.json").read_text()):
                assert not any(secret in text for secret in ("sk-secret", "10.0.0.9", "run-me"))
            for strange in (
                {"mind": {"engine": "llama"}},
                {"mind": {"api_key": "sk-mine"}},
                {"mind": {"url": "http://169.254.169.254/v1"}},
                {"memory": {"owner": "ben"}},
                {"memory": {"chroma_host": "evil"}},
                {"tools": {"servers": [{"name": "x", "command": "sh"}]}},
                {"audio": {"place": "soundcard"}},
                {"log": {"words": True}},
            ):
                refused = await anna.put("/api/settings", json=strange)
                assert refused.status_code in {409, 422}, strange
                assert "administrator" in refused.json()["error"]["message"]
        await told(served, tokens["anna"], "Hello.")
        assert served.engines.mind.prompts[-1].persona == "You are a pirate."
        await told(served, tokens["ben"], "Hello.")
        assert served.engines.mind.prompts[-1].persona == "You are the company's."
    async with gateway_served(tmp_path, settings=machine) as served, served.client(tokens["anna"]) as anna:
        assert (await anna.get("/api/settings")).json()["settings"]["mind"]["persona"] == "You are a pirate."


async def test_the_settings_page_changes_what_is_one_s_own_and_nothing_else(
    served: RunningGateway, tokens: dict[str, str]
) -> None:
    async with served.client(tokens["anna"]) as anna:
        page = (await anna.get("/settings")).text
        assert 'href="/settings"' in (await anna.get("/talk")).text
        assert (await anna.post("/api/tools/servers", json={"name": "x", "command": "sh"})).status_code == 404
        assert (await anna.get("/api/tools")).json()["servers"] == []
    changed = set(re.findall(r'data-setting="([^"]+)"', page))
    own = {f"{branch}.{name}" for branch, names in PERSONAL.items() for name in names}
    assert changed and changed <= own, "a page that offers what is refused"
    assert {"voice.name", "mind.persona", "turns.meaning", "tools.builtin", "memory.enabled"} <= changed


async def test_a_voice_that_the_engine_has_not_got_is_refused_and_one_s_own_is_heard(
    served: RunningGateway, tokens: dict[str, str]
) -> None:
    async with served.client(tokens["anna"]) as anna:
        refused = await anna.put("/api/settings", json={"voice": {"name": "klingon"}})
        assert refused.status_code == 409
        assert "There is no voice 'klingon': choose one of those listed, such as en-gb." in refused.text
        chosen = await anna.put("/api/settings", json={"voice": {"name": "en-gb"}})
        assert chosen.json()["settings"]["voice"]["name"] == "en-gb"
        heard = await anna.post("/api/voice/hear", json={"text": "Hello."})
        assert (heard.status_code, heard.headers["content-type"]) == (200, "audio/wav")
        own = served.gateway.here["anna"].service.engines.own_voice()
        assert isinstance(own, PersonalVoice) and own.name == "en-gb"


async def test_what_a_user_forgets_stays_with_the_others(served: RunningGateway, tokens: dict[str, str]) -> None:
    for name in tokens:
        await told(served, tokens[name], f"I am {name}.")
    async with served.client(tokens["anna"]) as anna, served.client(tokens["ben"]) as ben:
        gone = await anna.request("DELETE", "/api/memory", json={"everything": True})
        assert gone.json() == {"forgotten": 2}
        assert (await anna.get("/api/memory")).json()["size"]["turns"] == 0
        assert (await ben.get("/api/memory")).json()["size"]["turns"] == 2


async def test_a_short_lived_key_is_its_maker_s(served: RunningGateway, tokens: dict[str, str]) -> None:
    await told(served, tokens["anna"], SECRET)
    async with served.client(tokens["anna"]) as anna:
        key = (await anna.post("/v1/realtime/client_secrets", json={})).json()["value"]
    async with served.connect(key) as socket:
        await the(socket, "session.created")
        await say(socket, "What is my hamster called?")
    assert "Zebulon" in str(served.engines.mind.prompts[-1].recalled)
    async with served.client(key) as page:
        assert (await page.get("/api/memory")).status_code == 401, "it opens the Realtime API, and nothing else"


async def test_a_proxy_names_the_user_and_nobody_else_may(tmp_path: Path, tokens: dict[str, str]) -> None:
    async with gateway_served(tmp_path, header="X-User", proxies=["127.0.0.1"]) as served:
        async with served.client(headers={"X-User": "Clara@Example.org"}) as clara:
            assert (await clara.get("/api/memory")).status_code == 200
        assert [*served.gateway.here] == ["clara@example.org"]
        for name in ("", "../anna", "anna/../ben", "a" * 101, "anna.", "Zoë"):
            async with served.client(headers={"X-User": name.encode()}) as odd:
                assert (await odd.get("/api/memory")).status_code == 401, name
        async with served.client() as two:
            both = await two.get("/api/memory", headers=[("X-User", "anna"), ("X-User", "ben")])
            assert both.status_code == 401
        async with served.client(tokens["anna"]) as anna:
            assert (await anna.get("/api/memory")).status_code == 200, "a token still does, where none is named"
    async with (
        gateway_served(tmp_path, header="X-User", proxies=["10.9.9.9"]) as served,
        served.client(headers={"X-User": "anna"}) as stranger,
    ):
        assert (await stranger.get("/api/memory")).status_code == 401


async def test_places_are_everybody_s(tmp_path: Path, tokens: dict[str, str]) -> None:
    async with gateway_served(tmp_path, most=1) as served, served.connect(tokens["anna"], "") as first:
        await the(first, "session.created")
        with pytest.raises(InvalidStatus) as full:
            await served.connect(tokens["ben"], "")
        assert (full.value.response.status_code, full.value.response.headers["retry-after"]) == (503, "5")
        async with served.client() as probe:
            assert (await probe.get("/ready")).status_code == 200, "full is ready"


async def test_a_user_is_added_and_removed_while_it_runs(
    served: RunningGateway, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served.connect(tokens["ben"]) as ben:
        await the(ben, "session.created")
        accounts.remove(served.file, "ben")
        dora = accounts.add(served.file, "dora")
        with pytest.raises(ConnectionClosed) as closed:
            await the(ben, "never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.reason == "this token is no longer valid"
    async with served.client(tokens["ben"]) as ben_again, served.client(dora) as new:
        assert (await ben_again.get("/api/memory")).status_code == 401
        assert (await new.get("/api/memory")).status_code == 200
    served.file.write_text("{")  # a slip of the administrator's locks nobody out
    await asyncio.sleep(0)
    async with served.client(dora) as new:
        assert (await new.get("/api/memory")).status_code == 200


async def test_a_user_who_leaves_badly_keeps_nobody_else_s_token_valid(
    served: RunningGateway, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave = User.leave

    async def badly(user: User) -> None:
        await leave(user)
        if user.name == "ben":
            raise RuntimeError("the disk is away")

    monkeypatch.setattr(User, "leave", badly)
    async with served.client(tokens["anna"]) as anna, served.client(tokens["ben"]) as ben:
        assert [(await each.get("/api/memory")).status_code for each in (anna, ben)] == [200, 200]
        accounts.remove(served.file, "ben")
        await eventually(lambda: "ben" not in served.gateway.here)
        accounts.remove(served.file, "anna")
        async with asyncio.timeout(30):
            while (await anna.get("/api/memory")).status_code != 401:  # noqa: ASYNC110  the file is looked at now and then
                await asyncio.sleep(0)


async def test_who_does_nothing_is_let_go_and_comes_back(tmp_path: Path, tokens: dict[str, str]) -> None:
    async with gateway_served(tmp_path, idle_s=0) as served:
        talk = await told(served, tokens["anna"], SECRET)
        await eventually(lambda: not served.gateway.here)
        async with served.connect(tokens["anna"], f"?parley=1&conversation={talk}") as socket:
            assert (await the(socket, "parley.past"))["said"][0]["text"] == SECRET


async def test_figures_are_the_administrator_s_and_tell_of_nobody(
    served: RunningGateway, tokens: dict[str, str]
) -> None:
    await told(served, tokens["anna"], SECRET)
    await told(served, tokens["ben"], "Hello.")
    async with served.client(WATCHING.replace("'", "")) as nobody:
        assert (await nobody.get("/metrics")).status_code == 401
    async with served.client(WATCHING) as administrator:
        figures = (await administrator.get("/metrics")).text
        assert "parley_talks_total 2.0" in figures, "of everybody"
        assert 'parley_engine_ready{engine="memory",stage="memory"} 1.0' in figures
        assert not any(word in figures for word in ("anna", "ben", "Zebulon"))
        for path in ("/", "/api/memory", "/talk", "/api/activity"):
            assert (await administrator.get(path)).status_code == 401, "it opens nothing of any user"
    async with served.client(tokens["anna"]) as anna:
        assert (await anna.get("/metrics")).status_code == 404
