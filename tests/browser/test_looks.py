"""What can be checked of a page's looks without eyes: names, roles, contrast, and that a phone's width holds it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from config.places import ROOT
from tests.browser.conftest import Launch

PAGES = ("talk", "setup", "memory", "teach", "activity")
AXE = "axe-core@4.10.3"
STATIC = ROOT / "web" / "static"


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, from npm; without npm or a network these checks are skipped."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("axe-core comes from npm, which is not here")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "install", "--prefix", str(folder), "--no-save", "--ignore-scripts", "--no-audit", AXE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip("axe-core could not be had from npm")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


VIOLATIONS = """async () => (await axe.run({ rules: { "label-content-name-mismatch": { enabled: true } } }))
  .violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)])"""


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(launch: Launch, open_page: Callable[..., Page], server: str, axe: str, name: str) -> None:
    # A colour that is still fading from one scheme to the other would be judged half-way.
    page = open_page(launch(), f"{server}/{name}", bypass_csp=True, reduced_motion="reduce")
    page.wait_for_load_state("networkidle")
    page.evaluate(axe)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(VIOLATIONS) == [], scheme


def test_axe_finds_nothing_in_what_is_shown_only_now_and_then(
    launch: Launch, open_page: Callable[..., Page], server: str, axe: str
) -> None:
    page = open_page(launch(), f"{server}/setup", bypass_csp=True)
    page.wait_for_load_state("networkidle")
    page.evaluate("document.querySelectorAll('main [hidden]:not(input)').forEach((part) => (part.hidden = false))")
    page.evaluate("""for (const id of ["download-title", "licence", "download-line", "real-line", "ask-line"])
      document.getElementById(id).textContent = "Something is said here.";
      document.getElementById("licence").href = "/";
      document.querySelectorAll(".field-error").forEach((place) => (place.textContent = "This is wrong."));""")
    page.evaluate(axe)
    assert page.evaluate(VIOLATIONS) == []


@pytest.mark.parametrize("name", PAGES)
def test_every_control_has_a_name_and_every_window_holds_the_page(
    launch: Launch, open_page: Callable[..., Page], server: str, name: str
) -> None:
    page = open_page(launch(), f"{server}/{name}")
    page.wait_for_load_state("networkidle")
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, input:not([type=file]), select, textarea")]
      .filter((control) => control.checkVisibility())
      .filter((control) => !control.ariaLabel && !control.labels?.length && !control.textContent.trim())
      .map((control) => control.outerHTML)""")
    assert nameless == []
    expect(page.get_by_role("main")).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    for width in (320, 390, 768):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_has_its_icons_with_it_and_can_be_installed(
    launch: Launch, open_page: Callable[..., Page], server: str
) -> None:
    page = open_page(launch(), f"{server}/talk")
    lacking = "[...document.querySelectorAll('use')].filter((it) => !document.querySelector(it.getAttribute('href')))"
    assert page.evaluate(f"{lacking}.length") == 0
    manifest = page.evaluate("async () => (await fetch(document.querySelector('[rel=manifest]').href)).json()")
    assert (manifest["display"], manifest["start_url"]) == ("standalone", "/")
    for icon in manifest["icons"]:
        size = page.evaluate(
            """async (src) => {
              const image = new Image();
              image.src = src;
              await image.decode();
              return `${image.naturalWidth}x${image.naturalHeight}`;
            }""",
            icon["src"],
        )
        assert size == icon["sizes"]


def test_nothing_comes_from_another_host_and_nothing_stands_inline(
    launch: Launch, open_page: Callable[..., Page], server: str
) -> None:
    asked: list[str] = []

    def watch(page: Page) -> None:
        page.on("request", lambda request: asked.append(request.url))

    for name in PAGES:
        page = open_page(launch(), f"{server}/{name}", before=watch)
        page.wait_for_load_state("networkidle")
        inline = page.evaluate("document.querySelectorAll('script:not([src]), style, [onclick]').length")
        assert inline == 0
    assert asked
    assert all(url.startswith((server, "data:", "blob:")) for url in asked)


# --- colours: from the style sheet itself, so that they are checked without a browser too -----------------------------


def colours(theme: int) -> dict[str, tuple[float, float, float]]:
    """Each `--name: light-dark(#…, #…)` of base.css, as linear RGB."""
    sheet = (STATIC / "css" / "base.css").read_text(encoding="utf-8")
    pairs = re.findall(r"--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", sheet)
    assert len(pairs) > 10
    return {name: linear(pair[theme]) for name, *pair in pairs}


def linear(colour: str) -> tuple[float, float, float]:
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return red, green, blue


def contrast(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    """WCAG 2.2's contrast ratio."""
    light, dark = sorted((0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_words_and_controls_stand_out(theme: int) -> None:
    of = colours(theme)
    for ink in ("ink", "ink-quiet", "accent", "danger"):
        for ground in ("ground", "surface", "sunken"):
            assert contrast(of[ink], of[ground]) >= 4.5, (ink, ground)
    assert contrast(of["accent-ink"], of["accent"]) >= 4.5
    assert contrast(of["ink"], of["accent-soft"]) >= 4.5
    assert contrast(of["danger"], of["danger-soft"]) >= 4.5
    for ground in ("ground", "surface"):
        assert contrast(of["line-control"], of[ground]) >= 3, ground


def test_scripts_never_read_markup_from_a_string() -> None:
    scripts = sorted(Path(STATIC / "js").rglob("*.js"))
    assert scripts
    for script in scripts:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script.read_text("utf-8")
        ), script
