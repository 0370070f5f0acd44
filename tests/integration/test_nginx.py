"""The real nginx in front, with the configuration that docs/how-to/phone.md gives."""

from __future__ import annotations

import asyncio
import getpass
import re
import shutil
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import httpx
import pytest
import websockets
from websockets.typing import Origin

from config.places import ROOT
from pipeline.llm import Prompt
from pipeline.tools.calls import ToolCall
from tests.web.api.audio.conftest import tone
from tests.web.conftest import Running, served
from tests.web.realtime.wire import LOUD, SILENCE, Client
from tests.web.scripted import ScriptedEngines, ScriptedMind
from web.certificate import own

NAME, PUBLIC, TOKEN = "parley.example.com", "https://parley.example.com", "t" * 43
BEARER = {"Authorization": f"Bearer {TOKEN}"}

NGINX = shutil.which("nginx")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed"),
]


class Gated(ScriptedMind):
    """Goes on when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall, None]:
        yield "First. "
        await self.go_on.wait()
        yield "Second."


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with served(tmp_path, ScriptedEngines(), token=TOKEN, public=[PUBLIC], proxies=["127.0.0.1"]) as running:
        yield running


@pytest.fixture
async def port(running: Running, tmp_path: Path) -> AsyncIterator[int]:
    """Where nginx listens."""
    certificate = own(tmp_path / "https", [])
    with socket.socket() as listener:  # nginx takes over a socket that listens already
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        text = (ROOT / "docs/how-to/phone.md").read_text(encoding="utf-8")
        found = re.search(r"\*\*nginx\*\*:\n\n```text\n(.*?)```", text, re.DOTALL)
        assert found is not None
        server = (
            found[1]
            .replace("listen 443", f"listen 127.0.0.1:{port}")
            .replace("127.0.0.1:8000", running.host)
            .replace("/etc/ssl/parley/fullchain.pem", str(certificate.chain))
            .replace("/etc/ssl/parley/privkey.pem", str(certificate.key))
        )
        temporary = "".join(
            f"{kind}_temp_path {tmp_path}/nginx-{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        file = tmp_path / "nginx.conf"
        file.write_text(
            f"daemon off;\nuser {getpass.getuser()};\nworker_processes 1;\n"
            f"pid {tmp_path}/nginx.pid;\nerror_log stderr;\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{server}}}\n"
        )
        descriptor = listener.fileno()
        process = await asyncio.create_subprocess_exec(
            NGINX or "", "-c", str(file), pass_fds=[descriptor], env={"NGINX": f"{descriptor};"}
        )
        try:
            yield port
        finally:
            process.terminate()
            await process.wait()


@pytest.fixture
def trusted() -> ssl.SSLContext:
    """The certificate is not for that name; that is another test's concern."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def test_pages_recordings_streams_and_a_talk_go_through_it(
    running: Running, port: int, trusted: ssl.SSLContext
) -> None:
    url = f"https://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, headers={"Host": NAME}, verify=trusted, timeout=60) as client:
        opened = await client.get("/", params={"token": TOKEN})
        assert opened.status_code == 303 and "Secure" in opened.headers["set-cookie"]
        assert f"wss://{NAME}" in (await client.get("/setup", headers=BEARER)).headers["content-security-policy"]
        asked = {**BEARER, "Origin": PUBLIC}
        assert (await client.put("/api/settings", json={"set_up": True}, headers=asked)).status_code == 200
        asked["Origin"] = "https://evil.example"
        assert (await client.put("/api/settings", json={"set_up": True}, headers=asked)).status_code == 403

        files = {"file": ("long.wav", tone(200.0))}
        assert len(files["file"][1]) > 9_000_000
        heard = await client.post("/v1/audio/transcriptions", files=files, data={"model": "x"}, headers=BEARER)
        assert heard.json()["text"]

        mind = running.engines.mind = Gated()
        body = {"model": "x", "stream": True, "messages": [{"role": "user", "content": "Hello."}]}
        async with client.stream("POST", "/v1/chat/completions", json=body, headers=BEARER) as answer:
            lines = answer.aiter_lines()
            async with asyncio.timeout(30):
                while "First" not in await anext(lines):
                    pass  # the first words come while the mind still writes
                mind.go_on.set()
                assert any(["Second" in line async for line in lines])

    running.engines.mind = ScriptedMind()
    talking = websockets.connect(
        f"wss://{NAME}/v1/realtime", host="127.0.0.1", port=port, ssl=trusted, origin=Origin(PUBLIC),
        additional_headers=BEARER,
    )  # fmt: skip
    async with talking as connection:
        talker = Client(connection)
        await talker.speak(LOUD, SILENCE)
        assert (await talker.the("response.done"))["response"]["status"] == "completed"
