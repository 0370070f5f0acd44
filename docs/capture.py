"""Makes the pictures in README.md from a real conversation in Chromium: `python -m docs.capture`.

The engines are those of the offline profile. A recording speaks the weather question into the browser's microphone; the
second question is typed, about something that was said a week before.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import soundfile
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.conftest import QUIET_FLAGS, READY_WITHIN, chromium, question, serving, wait_until_ready

IMAGES = Path(__file__).parent / "images"
SIZE = (1120, 700)
CAPTURE_WIDTH = 840
STEP_MS = 160
"""Between two pictures of the capture, at least; a busy machine takes longer, and the capture keeps its pace."""
LAST_MS = 2500
THEMES = ("light", "dark")


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        sound = Path(scratch) / "question.wav"
        soundfile.write(sound, question(after=120), 24_000)
        flags = ["--no-sandbox", *QUIET_FLAGS, "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
        flags.append(f"--use-file-for-fake-audio-capture={sound}%noloop")
        for theme in THEMES:
            with serving(Path(scratch) / theme) as address:
                browser = driver.chromium.launch(executable_path=chromium(), args=flags)
                page = browser.new_page(
                    locale="en-GB",
                    color_scheme="dark" if theme == "dark" else "light",
                    viewport={"width": SIZE[0], "height": SIZE[1]},
                )
                page.set_default_timeout(READY_WITHIN)
                expect.set_options(timeout=READY_WITHIN)
                shoot(page, address, theme)
                browser.close()


def shoot(page: Page, address: str, theme: str) -> None:
    """One talk: the setup page, the talk page while it speaks, and in the light theme the capture."""
    film = Film(page)
    page.goto(f"{address}/setup")
    expect(page.locator("[data-health='voice espeak']")).to_contain_text("Ready")
    page.screenshot(path=IMAGES / f"setup-{theme}.png")
    remember(page)
    page.goto(f"{address}/talk")
    wait_until_ready(page)
    film.take()
    page.get_by_role("button", name="Start talking").click()
    film.until(page, "Speaking")
    film.until(page, "Listening")
    page.get_by_label("Type instead of talking").press_sequentially("What is my dog called?", delay=30)
    film.take()
    page.get_by_role("button", name="Send").click()
    film.until(page, "Speaking")
    page.screenshot(path=IMAGES / f"talk-{theme}.png")
    film.until(page, "Listening")
    if theme == THEMES[0]:
        film.write(IMAGES / "talk.webp")


def remember(page: Page) -> None:
    """What was said a week ago."""
    at = datetime.now().astimezone() - timedelta(days=7)
    turn = {"id": "before", "speaker": "user", "text": "My dog is called Rufus.", "conversation": "before"}
    page.evaluate(
        """async (body) => {
          const headers = { "Content-Type": "application/jsonl" };
          const answer = await fetch("/api/memory/import", { method: "POST", headers, body });
          if (!answer.ok) throw new Error(await answer.text());
        }""",
        json.dumps(turn | {"at": at.isoformat()}) + "\n",
    )


class Film:
    """Pictures of a page, with the times at which they were taken."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._pictures: list[tuple[float, bytes]] = []

    def take(self) -> None:
        self._pictures.append((time.monotonic(), self._page.screenshot(type="png")))

    def until(self, page: Page, state: str) -> None:
        """Take pictures until the page is in that state."""
        while page.locator("#state").inner_text() != state:
            self.take()
            page.wait_for_timeout(STEP_MS)
        self.take()

    def write(self, path: Path) -> None:
        """An animated WebP, at the pace of what was seen."""
        times = [at for at, _ in self._pictures]
        lasting = [round(1000 * (after - at)) for at, after in pairwise(times)] + [LAST_MS]
        size = (CAPTURE_WIDTH, CAPTURE_WIDTH * SIZE[1] // SIZE[0])
        images = [Image.open(io.BytesIO(data)).convert("RGB").resize(size, Image.Resampling.LANCZOS)
                  for _, data in self._pictures]  # fmt: skip
        images[0].save(
            path,
            save_all=True,
            append_images=images[1:],
            duration=lasting,
            loop=0,
            quality=70,
            method=4,
            minimize_size=True,
        )
        print(f"{path.name}: {len(images)} pictures, {sum(lasting) / 1000:.0f} s, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
