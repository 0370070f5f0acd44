"""Other people's clients of `/v1/realtime`, each in an environment of its own, play one scene against scripted engines.

Each connects, types, speaks, has a tool called, and speaks over a reply.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Playwright, sync_playwright

from locks import uv
from pipeline.audio import MOUTH_RATE
from pipeline.llm import Prompt
from pipeline.tools.calls import ToolCall
from pipeline.tts import Spoken
from tests.browser.conftest import QUIET_FLAGS, chromium
from tests.web.conftest import served
from tests.web.scripted import ScriptedEngines, ScriptedMind, ScriptedVoice
from web.certificate import own

CLIENTS = Path(__file__).parent / "realtime_clients"
PYTHON = {
    "openai": ("openai[realtime]==3.57.0", "numpy"),
    "agents": ("openai-agents==0.24.0", "numpy", "websockets"),
    "livekit": ("livekit-agents==1.8.9", "livekit-plugins-openai==1.8.9"),
    "pipecat": ("pipecat-ai[openai]==1.14.0", "websockets"),
}
JAVASCRIPT = {"openai": ("openai@7.59.0", "ws@8.23.0"), "agents": ("@openai/agents-realtime@0.20.0",)}
EXPECTED = {
    "typed": "It is sunny.",
    "spoken": "what is the weather in paris",
    "tool": "22 degrees in Paris",
    "answer": "I was told: 22 degrees in Paris.",
    "interrupted": True,
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("realtime-clients")]


class Mind(ScriptedMind):
    async def reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall, None]:
        await asyncio.sleep(0.3)  # Pipecat loses a call that comes at the very moment in which a turn ends
        last = prompt.history[-1]
        if last.role == "tool":
            yield f"I was told: {last.text.strip(chr(34))}."
        elif any("story" in each.text for each in prompt.history[-2:]):  # Pipecat's is the system's word
            yield "Once upon a time."
        elif "weather" in last.text and prompt.tools:
            yield ToolCall("call_1", "get_weather", '{"city": "Paris"}')
        else:
            yield "It is sunny."


class Voice(ScriptedVoice):
    def speaker(self) -> Voice:
        return self

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        seconds = 30 if "Once" in text else 0.3
        tone = 0.3 * np.sin(np.arange(int(seconds * MOUTH_RATE)) / 10)
        yield Spoken(tone.astype(np.float32))


@dataclass(frozen=True)
class Served:
    plain: str
    secure: str
    """The same engines by https: openai's JavaScript client knows nothing else."""
    authority: Path


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A page of another server: its origin, and the folder that it lies in."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copy(CLIENTS / "agents_page.html", folder)
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


@pytest.fixture(scope="module")
def parley(elsewhere: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two servers that all clients share, in a thread of their own."""
    engines = ScriptedEngines()
    engines.mind, engines.voice = Mind(), Voice()
    certificate = own(tmp_path_factory.mktemp("https"), [])
    assert certificate.authority is not None
    beginning: Future[tuple[str, str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        over, folders = asyncio.Event(), [tmp_path_factory.mktemp("data") for _ in range(2)]
        async with (
            served(folders[0], engines, origins=[elsewhere[0]]) as plain,
            served(folders[1], engines, certificate=certificate) as secure,
        ):
            beginning.set_result((plain.url, secure.url, asyncio.get_running_loop(), over))
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    plain, secure, loop, over = beginning.result(60)
    yield Served(f"{plain}/v1", f"{secure}/v1", certificate.authority)
    loop.call_soon_threadsafe(over.set)
    thread.join()


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


def played(*command: str, cwd: Path, authority: Path | None = None) -> dict[str, object]:
    """What the client prints last."""
    trusted = {} if authority is None else {"NODE_EXTRA_CA_CERTS": str(authority)}
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | trusted, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


@pytest.mark.parametrize("name", PYTHON)
def test_a_python_client_plays_the_scene(parley: Served, tmp_path: Path, name: str) -> None:
    tool = str(uv.executable(Path(sys.executable)))
    subprocess.run([tool, "venv", "--quiet", "--python", sys.executable, "env"], cwd=tmp_path, check=True)
    python = str(tmp_path / "env" / "bin" / "python")
    subprocess.run([tool, "pip", "install", "--quiet", "--python", python, *PYTHON[name]], check=True)
    assert played(python, str(CLIENTS / f"{name}_client.py"), parley.plain, cwd=tmp_path) == EXPECTED


@pytest.fixture(scope="module")
def npm(elsewhere: tuple[str, Path]) -> Path:
    """Where the page elsewhere lies, with the packages and their scripts."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    folder = elsewhere[1]
    packages = [package for each in JAVASCRIPT.values() for package in each]
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", *packages], cwd=folder, check=True)
    for script in CLIENTS.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder


@pytest.mark.parametrize("name", JAVASCRIPT)
def test_a_javascript_client_plays_the_scene(parley: Served, npm: Path, name: str) -> None:
    told = played("node", f"{name}_client.mjs", parley.secure, cwd=npm, authority=parley.authority)
    assert told == EXPECTED


@pytest.mark.parametrize("carrier", ["WebSocket", "WebRTC"])
def test_agents_realtime_plays_the_scene_in_a_browser(
    parley: Served, elsewhere: tuple[str, Path], npm: Path, playwright: Playwright, carrier: str
) -> None:
    """On a page elsewhere that the owner lists, by a key of its own."""
    if chromium() is None:
        pytest.skip("needs Chromium")
    address, folder = elsewhere
    for part in (npm / "node_modules/@openai/agents-realtime/dist/bundle").glob("*.mjs"):
        shutil.copy(part, folder)
    asked = httpx.post(f"{parley.plain}/realtime/client_secrets", json={}, timeout=None)
    arguments = ["--no-sandbox", *QUIET_FLAGS, "--autoplay-policy=no-user-gesture-required"]
    browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
    try:
        page = browser.new_page()
        page.goto(f"{address}/agents_page.html")
        told = page.evaluate(
            "([carrier, url, key]) => window.play(carrier, url, key)", [carrier, parley.plain, asked.json()["value"]]
        )
    finally:
        browser.close()
    assert told == EXPECTED
