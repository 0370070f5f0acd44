"""The real nginx and the real Caddy in front, with the configurations that docs/how-to/phone.md gives."""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import shutil
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import websockets
from websockets.typing import Origin

from config.places import ROOT
from pipeline.llm import Prompt
from pipeline.tools.calls import ToolCall
from tests.support.product import PATIENT
from tests.web.api.audio.conftest import tone
from tests.web.conftest import Running, served
from tests.web.realtime.wire import LOUD, SILENCE, Client
from tests.web.scripted import ScriptedEngines, ScriptedMind
from web.certificate import own

NAME, PUBLIC, TOKEN = "parley.example.com", "https://parley.example.com", "t" * 43
BEARER = {"Authorization": f"Bearer {TOKEN}"}

pytestmark = pytest.mark.slow


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


def documented(proxy: str) -> str:
    """The configuration that a reader would copy."""
    text = (ROOT / "docs/how-to/phone.md").read_text(encoding="utf-8")
    found = re.search(rf"^\*\*\[?{proxy}.*?```text\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@asynccontextmanager
async def nginx(running: Running, folder: Path) -> AsyncIterator[int]:
    certificate = own(folder / "https", [])
    with socket.socket() as listener:  # nginx takes over a socket that listens already
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        server = (
            documented("nginx")
            .replace("listen 443", f"listen 127.0.0.1:{port}")
            .replace("127.0.0.1:8000", running.host)
            .replace("/etc/ssl/parley/fullchain.pem", str(certificate.chain))
            .replace("/etc/ssl/parley/privkey.pem", str(certificate.key))
        )
        temporary = "".join(
            f"{kind}_temp_path {folder}/nginx-{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        file = folder / "nginx.conf"
        file.write_text(
            f"daemon off;\nuser {getpass.getuser()};\nworker_processes 1;\n"
            f"pid {folder}/nginx.pid;\nerror_log stderr;\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{server}}}\n"
        )
        descriptor = listener.fileno()
        process = await asyncio.create_subprocess_exec(
            "nginx", "-c", str(file), pass_fds=[descriptor], env={**os.environ, "NGINX": f"{descriptor};"}
        )
        try:
            yield port
        finally:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def caddy(running: Running, folder: Path) -> AsyncIterator[int]:
    """With a certificate of its own making, since no authority can be asked here."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    site = documented("Caddy").replace(NAME, f"https://{NAME}:{port}").replace("127.0.0.1:8000", running.host)
    file = folder / "Caddyfile"
    own_certificate = site.replace("{\n", "{\n    tls internal\n    bind 127.0.0.1\n", 1)
    options = ("admin off", "skip_install_trust", "auto_https disable_redirects", f"default_sni {NAME}")
    file.write_text("{\n" + "\n".join(options) + "\n}\n" + own_certificate)
    process = await asyncio.create_subprocess_exec(
        "caddy", "run", "--config", str(file), "--adapter", "caddyfile",
        env={**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            while b"serving initial configuration" not in (line := await process.stderr.readline()):
                assert line, "Caddy ended"
        reading = asyncio.create_task(process.stderr.read())  # so that it never waits for a reader of its log
        yield port
    finally:
        process.terminate()
        await process.wait()
    await reading


PROXIES = {"nginx": nginx, "caddy": caddy}


@pytest.fixture(params=PROXIES)
async def port(running: Running, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """Where the proxy listens."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    async with PROXIES[request.param](running, tmp_path) as port:
        yield port


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
        additional_headers=BEARER, **PATIENT,
    )  # fmt: skip
    async with talking as connection:
        talker = Client(connection)
        await talker.speak(LOUD, SILENCE)
        assert (await talker.the("response.done"))["response"]["status"] == "completed"
