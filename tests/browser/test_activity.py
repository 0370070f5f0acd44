"""The page of the last hour: empty at first, then with an hour that the server tells of."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.conftest import Launch

BEGAN = 1_800_000_000.0


def hour(bins: int = 100, silent: int = 20) -> dict[str, Any]:
    """As `/api/activity` has it; in the first `silent` bins nobody talks."""

    def bin(number: int) -> dict[str, Any]:
        wave = math.sin(number / 9)
        medians = {"understood": 0.2 + 0.05 * wave, "first_token": 0.4 + 0.1 * wave, "first_sound": 0.55 + 0.1 * wave}
        medians["heard"] = medians["first_sound"] + 0.06
        talks = max(0, number - silent) // 10
        return {
            "at": BEGAN + 30 * number,
            "talks": talks,
            "turns": 3 * talks,
            "refused": int(number == 90),
            "waiting": number % 4,
            "memory": {"server": 210_000_000 + 100_000 * number, "mind": 800_000_000},
            "processor": 0.3 + 0.2 * wave,
            "medians": medians if talks else {},
            "p95": medians["heard"] + 0.3 if talks else None,
        }

    made = [bin(number) for number in range(bins)]
    return {
        "bin_s": 30.0,
        "bins": made,
        "talks": made[-1]["talks"],
        "places": 10,
        "turns": sum(each["turns"] for each in made),
        "refused": 1,
        "restarts": 0,
        "median": 0.61,
        "p95": 0.94,
        "memory": made[-1]["memory"],
    }


def told(answer: dict[str, Any]) -> Callable[[Page], None]:
    def before(page: Page) -> None:
        page.route("**/api/activity", lambda route: route.fulfill(json=answer))

    return before


def total(page: Page, words: str) -> str:
    return page.locator("#totals div", has_text=words).locator("dd").inner_text()


def test_an_hour_without_a_word_says_so(launch: Launch, open_page: Callable[..., Page], fresh_server: str) -> None:
    page = open_page(launch(), f"{fresh_server}/activity")
    expect(page.get_by_role("heading", level=1)).to_have_text("The last hour")
    expect(page.locator("#now")).to_have_text("Nobody is talking right now.")
    expect(page.locator("#plots figure", has_text="Processor")).to_have_count(1)
    expect(page.locator("#plots figure", has_text="Answered after")).to_have_count(0)
    assert total(page, "median answer time") == "–"


def test_the_setup_page_leads_to_it(launch: Launch, open_page: Callable[..., Page], server: str) -> None:
    page = open_page(launch(), f"{server}/setup")
    page.get_by_role("link", name="Activity").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The last hour")


def test_the_hour_is_drawn_and_read_by_keyboard(launch: Launch, open_page: Callable[..., Page], server: str) -> None:
    answer = hour()
    page = open_page(launch(), f"{server}/activity", before=told(answer), timezone_id="UTC")
    expect(page.locator("#now")).to_have_text("7 of 10 possible conversations right now.")
    assert total(page, "median answer time") == "0.61 s"
    expect(page.locator("#plots figure")).to_have_count(7)
    answers = page.get_by_role("img", name=re.compile("^Answered after: median"))
    expect(answers.locator("polyline")).to_have_count(2)

    slider = page.get_by_label("Look at a moment")
    expect(slider).to_have_attribute("aria-valuetext", "none")
    slider.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    heard = answer["bins"][-2]["medians"]["heard"]
    expect(page.locator("#at")).to_have_text("08:49")
    expect(page.locator("figure", has_text="Answered after")).to_contain_text(f"median {heard:.2f} s")
    expect(slider).to_have_attribute("aria-valuetext", re.compile(r"08:49: Answered after, median 0\.\d\d s"))
    page.keyboard.press("Home")
    expect(page.locator("figure", has_text="Answered after")).to_contain_text("median –")


def test_the_pointer_reads_it_too_and_a_reload_keeps_the_hour(
    launch: Launch, open_page: Callable[..., Page], server: str
) -> None:
    answer = hour()
    page = open_page(launch(), f"{server}/activity", before=told(answer), timezone_id="UTC")
    page.get_by_role("img", name=re.compile("^Conversations")).hover()
    middle = page.locator("figure").filter(has_text=re.compile("^Conversations")).locator(".key")
    expect(middle).to_contain_text(re.compile(r"at once \d"))
    page.reload()
    expect(page.locator("#plots figure")).to_have_count(7)


def test_a_server_that_is_gone_is_told_and_the_plots_stay(
    launch: Launch, open_page: Callable[..., Page], server: str
) -> None:
    page = open_page(launch(), f"{server}/activity", before=told(hour()))
    expect(page.locator("#plots figure")).to_have_count(7)
    page.unroute_all()
    page.route("**/api/activity", lambda route: route.abort())
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator(".notice.error")).to_contain_text("Can’t reach Parley")
    expect(page.locator("#plots figure")).to_have_count(7)
