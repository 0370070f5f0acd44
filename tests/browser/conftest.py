"""A real Chromium on the real server with its real offline engines, all of it started here and ended here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from config.places import ROOT
from config.profiles import Name
from tests.support.recordings import recording

WEATHER = recording("weather_question.wav")
READY_WITHIN = 240_000
"""Milliseconds for the engines to load on a busy machine. A bound for what hangs, not a claim about speed."""
QUIET_FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--metrics-recording-only",
    "--no-first-run",
    "--no-pings",
)

PATIENCE = 120_000
"""Milliseconds for everything else."""

expect.set_options(timeout=PATIENCE)


def chromium() -> str | None:
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(reason="needs Chromium: install it, or name it in the variable CHROMIUM")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(600))
            if chromium() is None:
                item.add_marker(missing)


# --- the server ------------------------------------------------------------------------------------------------------


@contextmanager
def serving(data: Path, profile: Name = "offline", *arguments: str) -> Iterator[str]:
    """`main.py` on a free port, with the settings that are there, or else this profile; gives its address.

    Ended as a user ends it, and killed if that does not help."""
    log = (data.parent / f"{data.name}.log").open("w+")
    place = ["--data", str(data), *arguments]
    if not (data / "settings.json").exists():
        place += ["--profile", profile]  # a first start would take the small one
    command = [sys.executable, str(ROOT / "main.py"), "--no-browser", "--port", "0", *place]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            found = re.search(r"https?://localhost:\d+", line)
            if found:
                yield found[0]
                break
        else:
            log.seek(0)
            pytest.fail(f"The server did not start:\n{log.read()[-4000:]}")
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        log.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that the tests of one run share, set up already."""
    data = tmp_path_factory.mktemp("server") / "data"
    data.mkdir()
    (data / "settings.json").write_text('{"set_up": true}')
    with serving(data) as address:
        yield address


@pytest.fixture
def troubled_server(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Serve with a settings file of this text; gives the address."""
    with ExitStack() as servers:

        def serve(settings: str) -> str:
            data = tmp_path / "data"
            data.mkdir()
            (data / "settings.json").write_text(settings, encoding="utf-8")
            return servers.enter_context(serving(data))

        yield serve


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[str]:
    """The address of a server that nobody has visited."""
    with serving(tmp_path / "data") as address:
        yield address


# --- the browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """A module's own: its event loop must be gone before a test elsewhere runs one."""
    with sync_playwright() as running:
        yield running


Launch = Callable[..., Browser]


@pytest.fixture(scope="module")
def launch(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Start a Chromium whose microphone plays a file once, and is silent without one."""
    with ExitStack() as browsers:
        started: dict[tuple[object, ...], Browser] = {}

        def start(sound: np.ndarray | None = None, *flags: str, grant: bool = True, key: str = "") -> Browser:
            if (key, flags, grant) in started:
                return started[key, flags, grant]
            file = tmp_path_factory.mktemp("microphone") / "sound.wav"
            soundfile.write(file, np.zeros(48_000) if sound is None else sound, 24_000)
            arguments = ["--no-sandbox", *QUIET_FLAGS, *flags]
            arguments += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={file}%noloop"]
            arguments += ["--use-fake-ui-for-media-stream"] if grant else ["--deny-permission-prompts"]
            browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
            browsers.callback(browser.close)
            started[key, flags, grant] = browser
            return browser

        yield start


@pytest.fixture
def open_page() -> Iterator[Callable[..., Page]]:
    """Open a page in a context of its own; at the end, no script of it may have failed."""
    contexts: list[BrowserContext] = []
    failures: list[str] = []

    def open_(browser: Browser, address: str, before: Callable[[Page], None] | None = None, **options: object) -> Page:
        context = browser.new_context(locale="en-GB", **options)  # type: ignore[arg-type]  # passed through
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("console", lambda line: failures.append(line.text) if refused(line.text) else None)
        if before is not None:
            before(page)
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not failures


def refused(line: str) -> bool:
    """What the Content-Security-Policy keeps out is told on the console only."""
    return "Content Security Policy" in line


@pytest.fixture
def talk_page(launch: Launch, open_page: Callable[..., Page], server: str) -> Page:
    """The talk page of a browser whose microphone is silent, with the engines loaded."""
    page = open_page(launch(), f"{server}/talk")
    wait_until_ready(page)
    return page


def wait_until_ready(page: Page) -> None:
    """Until everything is loaded, the memory too: a reply made before would wait for that."""
    expect(page.locator("#state")).to_have_text("Ready when you are", timeout=READY_WITHIN)
    expect(page.locator(".notice progress")).to_have_count(0, timeout=READY_WITHIN)


def change(page: Page, **settings: object) -> None:
    """Save settings at the server of the page; an engine that they ask for is loaded when this returns."""
    address = urlsplit(page.url)
    answer = page.request.put(f"http://{address.netloc}/api/settings", data=settings, timeout=READY_WITHIN)
    assert answer.ok, answer.text()


def question(before: float = 2.0, after: float = 1.0) -> np.ndarray:
    """ "What is the weather in Paris?", with silence (seconds) around it, 24 kHz."""
    samples, rate = soundfile.read(WEATHER)
    assert rate == 24_000
    return np.concatenate([np.zeros(int(before * rate)), samples, np.zeros(int(after * rate))])
