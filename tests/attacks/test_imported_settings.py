"""A file of settings from elsewhere is a change like any other: it loads and starts nothing that nobody agreed to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.settings import ToolServer
from tests.web.conftest import Running


async def test_an_import_loads_no_model_that_is_not_here(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    async with running.client() as client:
        tree = {"ears": {"engine": "whisper", "model": "someone/unheard-of"}}
        answer = await client.post("/api/settings/import", json=tree)
    assert answer.status_code == 409
    assert answer.json()["error"]["lacking"] == {"stage": "ears", "engine": "whisper", "model": "someone/unheard-of"}
    assert not running.engines.applied


@pytest.mark.parametrize(
    "theirs",
    [
        {"name": "theirs"},
        {"args": ["server.py", "--evil"]},
        {"env": {"LD_PRELOAD": "/tmp/evil.so"}},
        {"env": {"SECRET": "", "NODE_OPTIONS": "--require /tmp/evil.js"}},
        {"permissions": {"remove": "allow"}},
    ],
    ids=str,
)
async def test_an_import_starts_no_tools_and_allows_them_nothing(running: Running, theirs: dict[str, Any]) -> None:
    ours: dict[str, Any] = {
        "name": "ours", "command": "no-such-program", "args": ["server.py"], "env": {"SECRET": "a key"}
    }  # fmt: skip
    running.service.settings.tools.servers = [ToolServer(**ours)]
    known = ours | {"env": {"SECRET": ""}}
    async with running.client() as client:
        for server, enabled in ((known, True), (known | theirs, False)):
            answer = await client.post("/api/settings/import", json={"tools": {"servers": [server]}})
            assert answer.status_code == 200, answer.text
            (kept,) = running.service.settings.tools.servers
            assert kept.enabled is enabled


@pytest.mark.parametrize(
    ("tree", "field"),
    [
        ({"ears": {"engine": "../../etc"}}, "ears.engine"),
        ({"mind": {"engine": "openai", "model": "m", "url": "file:///etc/passwd"}}, "mind.url"),
        ({"voice": {"engine": "no such"}}, "voice.engine"),
        ({"nothing": {"of": "this"}}, "nothing"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_an_import_has_the_rules_of_a_change(running: Running, tree: dict[str, Any], field: str) -> None:
    async with running.client() as client:
        for method, path in (("PUT", "/api/settings"), ("POST", "/api/settings/import")):
            answer = await client.request(method, path, json=tree)
            assert answer.status_code == 422, (method, answer.text)
            assert answer.json()["error"]["field"] == field
    assert not running.engines.applied
    assert not (running.data / "settings.json").exists()
