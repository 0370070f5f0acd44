"""What somebody sees who has just started Parley: that it works, what would be better, and one button for it.

The hub is a stand-in on this machine. What comes from it is tiny and of random weights: the voice is noise, and the
ears hear the same words in any sound.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import READY_WITHIN, Launch, serving
from tests.support.hub import Hub, serve
from tests.support.tiny_models import write_llama, write_whisper
from tests.support.tiny_repositories import CSM, MIMI, WHISPER, write_both_formats, write_codec

Opener = Callable[..., Page]
OWN_SERVER, SMALL_MIND = ("openai", ""), ("transformers", "Qwen/Qwen2.5-0.5B-Instruct")


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("hub")
    noise = folder / "noise"
    noise.mkdir()
    (noise / "config.json").write_text("{}")
    (noise / "model.bin").write_bytes(os.urandom(1_000_000))
    return {
        WHISPER: write_whisper(folder / "whisper"),
        "noise": noise,
        CSM: write_both_formats(folder / "csm"),
        MIMI: write_codec(folder / "mimi"),
        SMALL_MIND[1]: write_llama(folder / "llama"),
    }


@pytest.fixture
def hub(
    request: pytest.FixtureRequest, repositories: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    broken = getattr(request, "param", "")
    with serve({**repositories, **({broken: repositories["noise"]} if broken else {})}) as hub:
        for name in [name for name in os.environ if name.startswith("HF_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        yield hub


def propose(route: Route, mind: tuple[str, str]) -> None:
    """The same proposal on any machine that the tests run on; all else is the server's own answer."""
    told: dict[str, Any] = route.fetch().json()
    proposed = {"ears": ("whisper", "base.en"), "mind": mind, "voice": ("csm", CSM)}
    choices = {
        stage: next(row for row in told["models"] if (row["stage"], row["engine"], row["name"]) == (stage, *choice))
        for stage, choice in proposed.items()
    }
    lacking = sum(row["download_bytes"] for row in choices.values() if not row["here"])
    proposal = {"profile": "cpu", "why": "It is a tidy machine.", "room": True, "room_why": ""}
    told["proposal"] = {**proposal, "choices": choices, "download_bytes": lacking}
    route.fulfill(json=told)


def first_visit(launch: Launch, open_page: Opener, address: str, mind: tuple[str, str] = OWN_SERVER) -> Page:
    def before(page: Page) -> None:
        page.route("**/api/hardware", lambda route: propose(route, mind))

    page = open_page(launch(), f"{address}/", before=before)
    expect(page.locator("[data-health='voice espeak']")).to_contain_text("Ready", timeout=READY_WITHIN)
    return page


@pytest.mark.slow
@pytest.mark.parametrize("hub", [WHISPER], indirect=True)
def test_one_button_leads_to_the_real_engines_but_for_those_that_cannot_be_used(
    launch: Launch, open_page: Opener, hub: Hub, tmp_path: Path
) -> None:
    hub.gated.add(CSM)
    hub.tokens.add("hf_right")
    with serving(tmp_path / "data") as address:
        page = first_visit(launch, open_page, address)
        rows = page.locator("#swaps li")
        expect(rows).to_have_count(3)
        for row, now, then in zip(
            rows.all(),
            ("PocketSphinx", "Built-in replies", "eSpeak NG"),
            ("Download 150 MB", "Enter its address, or choose another.", "Download 6.6 GB"),
            strict=True,
        ):
            expect(row).to_contain_text(now)
            expect(row).to_contain_text(then)
        expect(page.locator("#real-why")).to_contain_text("6.8 GB to download.")
        button = page.get_by_role("button", name="Install better engines")

        button.press("Enter")
        line = page.locator("#download-line")
        expect(line).to_contain_text("has terms to accept")
        assert hub.sent["model.bin"] == 0, "terms are asked for before anything is fetched"
        page.get_by_label("Token").fill("hf_right")
        page.get_by_label("Token").press("Enter")
        expect(line).to_have_text("Downloaded and verified.", timeout=READY_WITHIN)
        said = page.locator("#real-line")
        expect(said).to_contain_text(
            "Whisper base couldn’t be used; you still have what you had before.", timeout=READY_WITHIN
        )
        expect(rows.nth(0)).to_contain_text("PocketSphinx")
        expect(rows.nth(0)).to_contain_text("The settings were not changed.")
        expect(rows.nth(2)).to_contain_text("This suits your computer best.")
        expect(page.locator("#real-why")).to_contain_text("Nothing to download.")

        page.get_by_role("link", name="Enter its address, or choose another.").click()
        expect(page.get_by_role("heading", name="Engines", exact=True)).to_be_visible()
        expect(page.locator("#mind")).to_be_in_viewport()
        expect(page.locator("#loaded li", has_text="Voice")).to_contain_text(f"CSM-1B, {CSM}")
        expect(page.get_by_label("Precision")).to_be_visible()
        expect(page.get_by_role("button", name="Add a recording")).to_be_visible()
        page.goto("about:blank")


@pytest.mark.slow
def test_with_a_small_mind_nothing_is_left_to_do(launch: Launch, open_page: Opener, hub: Hub, tmp_path: Path) -> None:
    with serving(tmp_path / "data") as address:
        page = first_visit(launch, open_page, address, SMALL_MIND)
        page.get_by_role("button", name="Install better engines").click()
        expect(page.locator("#download-line")).to_have_text("Downloaded and verified.", timeout=READY_WITHIN)
        rows = page.locator("#swaps li")
        for row in rows.all():
            expect(row).to_contain_text("This suits your computer best.", timeout=READY_WITHIN)
        expect(page.locator("#real-why")).to_contain_text("You’re using what suits this computer best.")
        expect(page.get_by_role("button", name="Install better engines")).to_be_hidden()
        expect(page.locator("#loaded li", has_text="Mind")).to_contain_text(f"Transformers, {SMALL_MIND[1]}")
        page.goto("about:blank")


def test_a_small_machine_is_told_why_and_the_sizes_for_a_card_add_up(
    launch: Launch, open_page: Opener, server: str
) -> None:
    def small(route: Route) -> None:
        told = route.fetch().json()
        told["proposal"] |= {"profile": "offline", "why": "2 cores are few for a speech model.", "choices": {}}
        route.fulfill(json=told)

    def large(route: Route) -> None:
        told = route.fetch().json()
        wanted = ("ears", "large-v3-turbo"), ("mind", "Qwen/Qwen3-4B-Instruct-2507"), ("voice", CSM)
        rows = {row["stage"]: row | {"here": False} for row in told["models"] if (row["stage"], row["name"]) in wanted}
        rows["mind"]["missing"] = "vLLM is not installed yet."
        told["proposal"] |= {"profile": "gpu", "why": "It is a large card.", "choices": rows, "room": True}
        route.fulfill(json=told)

    page = open_page(launch(), f"{server}/setup", before=lambda page: page.route("**/api/hardware", small))
    best = "You’re using what suits this computer best."
    expect(page.locator("#real-why")).to_have_text(f"2 cores are few for a speech model. {best}")
    expect(page.get_by_role("button", name="Install better engines")).to_be_hidden()
    page.route("**/api/hardware", large)
    page.reload()
    expect(page.locator("#real-why")).to_have_text(
        "It is a large card. 8.2 GB to download now, and 8.1 GB for Qwen3 4B, by vLLM after that."
    )
    expect(page.locator("#swaps button")).to_have_text(["Download 1.6 GB", "Download 6.6 GB"])
