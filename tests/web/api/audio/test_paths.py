"""Whichever name a path is asked by, it takes as much, and answers in the same shape."""

from __future__ import annotations

import httpx
import pytest

from tests.web.api.audio.conftest import TOKEN
from tests.web.api.audio.test_speech import error
from tests.web.conftest import Running
from web.api.audio.paths import canonical, is_api

DEPLOYED = "/v4/p-1234/csm/generate_audio"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/audio/speech", "/v1/audio/speech"),
        ("/v1/audio/speech", "/v1/audio/speech"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/models", "/v1/models"),
        (DEPLOYED, "/generate_audio"),
        ("/v4/a/b/c/generate_audio", "/v4/a/b/c/generate_audio"),
        ("/api/models", "/api/models"),
        ("/memory", "/memory"),
    ],
)
def test_a_path_has_one_name(path: str, name: str) -> None:
    assert canonical(path) == name
    assert is_api(path) == name.startswith(("/v1/", "/generate_audio"))


@pytest.mark.parametrize("path", ["/generate_audio", DEPLOYED, "/v1/chat/completions", "/chat/completions"])
async def test_a_large_body_is_taken_by_every_name(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path, json={"unknown": "x" * (2 << 20)})
    assert answer.status_code == 400 and error(answer)["message"] != ""


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/files", 404),
        ("POST", "/v1/audio/nothing", 404),
        ("GET", "/audio/nothing", 404),
        ("GET", "/v1/audio/speech", 405),
        ("GET", "/chat/completions", 405),
        ("GET", DEPLOYED, 405),
    ],
)
async def test_what_is_not_there_is_told_in_openais_shape(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path, json={} if method == "POST" else None)
    assert answer.status_code == status
    assert error(answer) == {
        "message": f"There is no {method} {path} here: check the address and the method.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    assert status != 405 or answer.headers["allow"] == "POST"


async def test_elsewhere_it_is_not(client: httpx.AsyncClient) -> None:
    message = "There is no GET /api/nothing here: check the address and the method."
    assert (await client.get("/api/nothing")).json() == {"error": {"message": message, "field": None}}
    assert (await client.put("/api/notices", json={})).status_code == 405
    assert (await client.get("/nothing")).text == "There is no GET /nothing here: check the address and the method."


async def test_a_missing_key_too(guarded: Running) -> None:
    async with guarded.client() as client:
        for path in ("/chat/completions", DEPLOYED):
            answer = await client.post(path, json={})
            assert answer.status_code == 401 and error(answer)["type"] == "authentication_error"
            assert (await client.post(path, json={}, headers={"Authorization": f"Bearer {TOKEN}"})).status_code == 400
