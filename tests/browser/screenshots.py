"""Pictures of every page, light, dark and at a phone's width: `python -m tests.browser.screenshots DIR`.

They are taken of a real conversation: the weather question spoken into the microphone, then typed words, one reply
stopped half-way.
"""

from __future__ import annotations

import json
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import soundfile
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.conftest import QUIET_FLAGS, READY_WITHIN, chromium, question, serving, wait_until_ready

LOOKS: dict[str, dict[str, object]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}


BEFORE = (
    ("user", "I am going to Paris with Anna in May."),
    ("assistant", "How lovely. Is it the first time for you?"),
    ("user", "The second. In 2019 it rained all week."),
)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        sound = Path(scratch) / "question.wav"
        soundfile.write(sound, question(after=60), 24_000)
        flags = ["--no-sandbox", *QUIET_FLAGS, "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
        flags.append(f"--use-file-for-fake-audio-capture={sound}%noloop")
        for name, look in LOOKS.items():
            with serving(Path(scratch) / name) as address:
                browser = driver.chromium.launch(executable_path=chromium(), args=flags)
                try:
                    picture(browser, address, folder, name, look)
                finally:
                    browser.close()


def remember(page: Page) -> None:
    """A conversation of the week before."""
    begin = datetime.now().astimezone() - timedelta(days=7)
    turns = (
        {"id": f"before-{i}", "speaker": speaker, "text": text, "conversation": "before", "at": time.isoformat()}
        for i, (speaker, text) in enumerate(BEFORE)
        for time in [begin + timedelta(seconds=8 * i)]
    )
    page.evaluate(
        """async (body) => {
          const headers = { "Content-Type": "application/jsonl" };
          const answer = await fetch("/api/memory/import", { method: "POST", headers, body });
          if (!answer.ok) throw new Error(await answer.text());
        }""",
        "".join(json.dumps(turn) + "\n" for turn in turns),
    )


def picture(browser: Browser, address: str, folder: Path, name: str, look: dict[str, object]) -> None:
    page = browser.new_page(locale="en-GB", **look)  # type: ignore[arg-type]  # passed through

    def keep(what: str, *, full: bool = False) -> None:
        page.screenshot(path=folder / f"{what}-{name}.png", full_page=full)

    page.goto(f"{address}/setup")
    expect(page.locator("[data-health='voice espeak']")).to_contain_text("Ready", timeout=READY_WITHIN)
    keep("first-visit")
    page.goto(f"{address}/memory")
    expect(page.locator("#page-title")).to_have_text("Nothing yet")
    keep("memory-empty")
    page.goto(f"{address}/setup")
    remember(page)
    page.get_by_role("button", name="Show all settings").click()
    keep("setup", full=True)

    page.goto(f"{address}/talk")
    wait_until_ready(page)
    keep("talk-ready")
    say(page, "My dog is called Rufus.")
    page.get_by_role("button", name="Start talking").click()
    expect(page.locator(".you .said").last).to_contain_text("weather")
    expect(page.locator("#state")).to_have_text("Speaking")
    page.wait_for_timeout(1200)  # somewhere in the middle of the sentence
    keep("talk-speaking")
    expect(page.locator("#state")).to_have_text("Listening")
    keep("talk-listening")
    page.get_by_label("Type instead of talking").fill("Where am I going in May?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#state")).to_have_text("Speaking")
    page.locator(".companion summary").last.click()
    page.wait_for_timeout(500)  # until the circle has its form
    keep("talk-remembering")
    expect(page.locator("#state")).to_have_text("Listening")
    page.get_by_label("Type instead of talking").fill("What are you?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#state")).to_have_text("Speaking")
    page.wait_for_timeout(1500)
    page.keyboard.press("Escape")
    expect(page.locator(".unheard")).not_to_be_empty()
    keep("talk-interrupted")

    page.goto(f"{address}/memory")
    expect(page.locator("#turns")).not_to_be_empty()
    keep("memory")
    for other in ("teach", "activity"):
        page.goto(f"{address}/{other}")
        page.wait_for_load_state("networkidle")
        keep(other, full=True)
    page.close()


def say(page: Page, words: str) -> None:
    page.get_by_label("Type instead of talking").fill(words)
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".companion .said").last).not_to_be_empty()
    expect(page.locator("#state")).to_have_text("Ready when you are")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots"))
