"""Time from nothing to the first spoken answer: a fresh clone, an empty home, and a real Chromium.

    python benchmarks/first_start.py

It does only what the terminal and the page say, like somebody who reads no documentation, except that it needs no time
to read. It clones what is committed. A recording repeats the question into the browser's microphone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import soundfile
from playwright.sync_api import Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.simulated_user import machine
from config.places import ROOT
from tests.browser.conftest import QUIET_FLAGS, READY_WITHIN, chromium, question

KEPT = ("PATH", "LANG", "TERM")
"""Variables kept from the environment, besides pip's: the package source is this machine's."""


class Stopwatch:
    def __init__(self) -> None:
        self._began = self._last = time.monotonic()

    def lap(self, what: str) -> None:
        now = time.monotonic()
        print(f"| {what} | {clock(now - self._began)} | {now - self._last:.1f} s |", flush=True)
        self._last = now


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{seconds % 60:04.1f}"


def main() -> None:
    print(f"{machine()}\n\n| what | at | took |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        sound = Path(scratch) / "question.wav"
        soundfile.write(sound, question(before=2, after=12), 24_000)
        browser = driver.chromium.launch(
            executable_path=chromium(),
            args=["--no-sandbox", *QUIET_FLAGS, "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
                  f"--use-file-for-fake-audio-capture={sound}", "--autoplay-policy=user-gesture-required"],
        )  # fmt: skip
        subprocess.run(["git", "clone", "--quiet", ROOT, "parley"], cwd=scratch, check=True)
        watch = Stopwatch()
        with started(Path(scratch)) as opened:
            with opened.open(encoding="utf-8") as asked:  # blocks until Parley opens a browser
                address = asked.readline().strip()
            watch.lap("the browser opens")
            visit(browser.new_page(locale="en-GB"), address, watch)
        browser.close()


@contextmanager
def started(scratch: Path) -> Iterator[Path]:
    """Run the one command in an empty home; yield a pipe that reports which page it opens."""
    home, opened, open_page = scratch / "home", scratch / "opened", scratch / "open"
    home.mkdir()
    os.mkfifo(opened)
    open_page.write_text(f'#!/bin/sh\necho "$1" > "{opened}"\n')
    open_page.chmod(0o700)
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith("PIP_")}
    environment = {**kept, "HOME": str(home), "BROWSER": f"{open_page} %s"}
    command = [str(Path(sys.base_prefix) / "bin" / "python3"), "-u", "main.py", "--port", "8765"]
    process = subprocess.Popen(
        command, cwd=scratch / "parley", env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    began = time.monotonic()

    def repeat() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"    {clock(time.monotonic() - began)}  {line.rstrip()}", file=sys.stderr, flush=True)

    Thread(target=repeat, daemon=True).start()
    try:
        yield opened
    finally:
        process.terminate()
        process.wait()


def visit(page: Page, address: str, watch: Stopwatch) -> None:
    page.set_default_timeout(READY_WITHIN)
    expect.set_options(timeout=READY_WITHIN)
    page.goto(address)
    expect(page.get_by_role("heading", name="Put on your headset")).to_be_visible()
    watch.lap("the page says what to do")
    page.get_by_role("button", name="Try it").click()
    expect(page.get_by_role("meter", name="Microphone level")).not_to_have_attribute("aria-valuenow", "0")
    watch.lap("*Try it*: the bar moves")
    page.get_by_role("button", name="Test sound").click()
    expect(page.locator("#output-line")).to_contain_text("You should have heard")
    watch.lap("*Test sound*: a chime is heard")
    page.get_by_role("button", name="Start talking").click()
    expect(page.locator("#state")).to_have_text("Listening")
    watch.lap("*Start talking*: it listens")
    said = page.locator(".you.final .said").first
    expect(said).not_to_be_empty()
    watch.lap(f"“{said.inner_text()}” is understood")
    page.wait_for_function("() => Number(document.querySelector('.companion')?.dataset.played ?? 0) > 0")
    watch.lap("the answer begins to sound")
    expect(page.locator("#timing-total")).to_contain_text("Answered in")
    print(f"\n{page.locator('#timing-total').inner_text()}: “{page.locator('.companion .said').first.inner_text()}”")


if __name__ == "__main__":
    main()
