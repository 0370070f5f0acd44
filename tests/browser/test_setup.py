"""The setup page: the first visit, and that each choice is checked, kept and really used."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import READY_WITHIN, Launch, question, wait_until_ready

Opener = Callable[..., Page]
TONE = 0.3 * np.sin(2 * np.pi * 220 * np.arange(24_000 * 60) / 24_000)


@pytest.fixture
def setup_page(launch: Launch, open_page: Opener, server: str) -> Page:
    page = open_page(launch(TONE, key="tone"), f"{server}/setup")
    expect(page.locator("[data-health='voice espeak']")).to_contain_text("Ready", timeout=READY_WITHIN)
    return page


def settings(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate("async () => (await (await fetch('/api/settings')).json()).settings")
    return found


def saved(page: Page, change: Callable[[], object]) -> None:
    """Make a change and wait for the server's answer to it."""
    with page.expect_response(lambda response: response.request.method == "PUT"):
        change()
    page.wait_for_function("() => !document.querySelector('.busy')")


def enter(page: Page, field: Locator, value: str) -> None:
    def change() -> None:
        field.fill(value)
        field.blur()

    saved(page, change)


def test_the_first_visit_leads_by_three_steps_to_a_talk(launch: Launch, open_page: Opener, fresh_server: str) -> None:
    page = open_page(launch(TONE, key="tone"), f"{fresh_server}/")
    expect(page).to_have_url(f"{fresh_server}/setup")
    expect(page.get_by_role("heading", name="Put on your headset")).to_be_visible()
    shown = page.get_by_role("heading", level=2)
    expect(shown).to_have_text(["1 Microphone", "2 Sound", "3 Start", "Better engines"])
    page.get_by_role("button", name="Show all settings").click()
    expect(page.get_by_role("heading", name="Engines", exact=True)).to_be_visible()
    page.get_by_role("button", name="Start talking").click()
    expect(page).to_have_url(f"{fresh_server}/talk")
    expect(page.locator("#state")).to_have_text("Listening", timeout=READY_WITHIN)
    page.goto(f"{fresh_server}/")
    expect(page).to_have_url(f"{fresh_server}/talk")


def test_the_microphone_is_tried_and_its_level_and_likelihood_shown(
    launch: Launch, open_page: Opener, server: str
) -> None:
    page = open_page(launch(question(after=20), key="question"), f"{server}/setup")
    expect(page.locator("[data-health='voice espeak']")).to_contain_text("Ready", timeout=READY_WITHIN)
    blank = page.locator("#likelihood").evaluate("canvas => canvas.toDataURL()")
    page.get_by_role("button", name="Try it").click()
    level = page.get_by_role("meter", name="Microphone level")
    expect(level).not_to_have_attribute("aria-valuenow", "0")
    expect(page.locator("#listen-line")).to_contain_text("Listening with Fake Default Audio Input")
    expect(page.get_by_label("Microphone", exact=True).locator("option")).not_to_have_count(1)
    page.wait_for_function("(blank) => document.getElementById('likelihood').toDataURL() !== blank", arg=blank)
    expect(page.locator("#likelihood-now")).to_have_text(re.compile(r"^Now \d+%\.$"))
    page.get_by_role("button", name="Stop").first.click()
    expect(page.get_by_role("button", name="Try it")).to_be_visible()
    expect(page.get_by_role("button", name="Show live")).to_be_visible()
    expect(level).to_have_attribute("aria-valuenow", "0")


WITHOUT = """
  MediaDevices.prototype.getUserMedia = async () => { throw new DOMException("none", "NotFoundError"); };
  MediaDevices.prototype.enumerateDevices = async () => [];
"""


def test_a_laptop_without_a_microphone_is_told_so_wherever_one_is_wanted(
    launch: Launch, open_page: Opener, server: str
) -> None:
    page = open_page(launch(TONE, key="tone"), f"{server}/setup", before=lambda page: page.add_init_script(WITHOUT))
    expect(page.locator("[data-health='voice espeak']")).to_contain_text("Ready", timeout=READY_WITHIN)
    none = "No microphone found. Plug one in, and Parley will carry on."
    page.get_by_role("button", name="Try it").click()
    expect(page.locator("#listen-line")).to_have_text(none)
    page.get_by_role("button", name="Stop").first.click()
    expect(page.locator("#listen-line")).to_contain_text("Press “Try it”")
    page.evaluate("document.getElementById('references').hidden = false")
    page.get_by_role("button", name="Record", exact=True).click()
    expect(page.locator("#reference-line")).to_have_text(none)
    page.get_by_role("button", name="Stop recording").click()
    expect(page.get_by_role("button", name="Record", exact=True)).to_be_visible()
    assert settings(page)["voice"]["references"] == [], "nothing is made of nothing"


PLAYED = """
  window.played = [];
  const play = HTMLMediaElement.prototype.play;
  HTMLMediaElement.prototype.play = function () {
    this.addEventListener("ended", () => window.played.push(this.currentTime));
    return play.call(this);
  };
"""


def test_test_sound_and_voice_are_played(launch: Launch, open_page: Opener, server: str) -> None:
    page = open_page(launch(TONE, key="tone"), f"{server}/setup", before=lambda page: page.add_init_script(PLAYED))
    expect(page.locator("[data-health='voice espeak']")).to_contain_text("Ready", timeout=READY_WITHIN)
    page.get_by_role("button", name="Test sound").click()
    expect(page.locator("#output-line")).to_contain_text("a chime")
    page.get_by_role("button", name="Hear it").click()
    page.wait_for_function("() => window.played.length === 2")
    assert min(page.evaluate("window.played")) > 0.5, "both were sounds of a length"
    expect(page.locator("#hear-error")).to_be_empty()


BEGUN_AND_PAUSED = """
  window.begun = 0;
  window.paused = [];
  const { play, pause } = HTMLMediaElement.prototype;
  HTMLMediaElement.prototype.play = function () {
    window.begun += 1;
    return play.call(this);
  };
  HTMLMediaElement.prototype.pause = function () {
    window.paused.push(this.ended);
    return pause.call(this);
  };
"""


def test_what_plays_has_a_stop_and_gives_way_to_the_next(launch: Launch, open_page: Opener, server: str) -> None:
    watch = BEGUN_AND_PAUSED
    page = open_page(launch(TONE, key="tone"), f"{server}/setup", before=lambda page: page.add_init_script(watch))
    expect(page.locator("[data-health='voice espeak']")).to_contain_text("Ready", timeout=READY_WITHIN)
    page.get_by_label("Sample sentence").fill("This goes on for a while. " * 7)
    stop, hear = page.get_by_role("button", name="Stop", exact=True), page.get_by_role("button", name="Hear it")
    page.get_by_role("button", name="Test sound").press("Enter")
    hear.press("Enter")
    expect(page.get_by_role("button", name="Test sound")).to_be_visible()  # one sound at a time
    expect(stop).to_be_focused()
    page.wait_for_function("() => window.begun === 2")
    page.keyboard.press("Enter")
    expect(hear).to_be_focused()
    expect(stop).to_have_count(0)
    assert page.evaluate("window.paused.at(-1)") is False, "it was stopped before its end"
    expect(page.locator("#hear-error")).to_be_empty()


def test_a_chosen_device_is_the_one_that_is_opened(launch: Launch, open_page: Opener, server: str) -> None:
    page = open_page(launch(TONE, key="tone"), f"{server}/setup")
    page.get_by_role("button", name="Try it").click()
    devices = page.get_by_label("Microphone", exact=True)
    expect(devices.locator("option")).not_to_have_count(1)
    label = devices.locator("option").last.inner_text()
    devices.select_option(label=label)
    expect(page.locator("#listen-line")).to_have_text(f"Listening with {label}.")
    page.reload()
    expect(devices.locator("option:checked")).to_have_text(label)


SINKS = """
  window.sinks = [];
  const choose = AudioContext.prototype.setSinkId;
  AudioContext.prototype.setSinkId = function (id) {
    window.sinks.push(id);
    return choose.call(this, id);
  };
"""


def test_chosen_headphones_are_the_ones_that_play(launch: Launch, open_page: Opener, server: str) -> None:
    page = open_page(launch(TONE, key="tone"), f"{server}/setup", before=lambda page: page.add_init_script(SINKS))
    page.get_by_role("button", name="Try it").click()
    devices = page.get_by_label("Headphones")
    expect(devices.locator("option")).not_to_have_count(1)
    devices.select_option(index=2)
    chosen = devices.input_value()
    page.get_by_role("button", name="Test sound").click()
    expect(page.locator("#output-line")).to_contain_text("a chime")
    page.goto(f"{server}/talk")
    wait_until_ready(page)
    page.get_by_role("button", name="Start talking").click()
    expect(page.locator("#state")).to_have_text("Listening")
    assert page.evaluate("window.sinks") == [chosen]


@pytest.mark.parametrize(
    ("control", "value", "path"),
    [
        ("Speed", "220", ("voice", "words_per_minute", 220)),
        ("Pitch", "30", ("voice", "pitch", 30)),
        ("Pause before answering when you seem to be thinking", "2496", ("turns", "longest_ms", 2496)),
        ("Pause before answering when you’ve clearly finished", "132", ("turns", "shortest_ms", 132)),
        ("Persona", "You are a pirate.", ("mind", "persona", "You are a pirate.")),
    ],
)
def test_what_is_set_is_kept_and_shown_again(
    setup_page: Page, control: str, value: str, path: tuple[str, str, Any]
) -> None:
    branch, name, kept = path
    before = settings(setup_page)[branch][name]
    field = setup_page.get_by_label(control, exact=True)
    enter(setup_page, field, value)
    expect(setup_page.locator("#saved")).to_contain_text("Saved")
    assert settings(setup_page)[branch][name] == kept
    setup_page.reload()
    expect(field).to_have_value(value)
    enter(setup_page, field, str(before))


def test_a_silence_is_shown_as_the_frames_that_it_takes(setup_page: Page) -> None:
    silence = setup_page.get_by_label("Pause before answering when you’ve clearly finished")
    shown = setup_page.locator("output[for='turns.shortest_ms']")
    expect(shown).to_have_text("0.13 s")
    saved(setup_page, lambda: silence.press("ArrowRight"))
    expect(shown).to_have_text("0.16 s")
    assert settings(setup_page)["turns"]["shortest_ms"] == 132
    saved(setup_page, lambda: silence.press("ArrowLeft"))


def test_what_is_kept_is_off_until_it_is_asked_for(setup_page: Page) -> None:
    for name, (branch, leaf) in {
        "Record our conversations": ("recording", "enabled"),
        "Write what was said to the logs": ("log", "words"),
    }.items():
        switch = setup_page.get_by_role("checkbox", name=name)
        expect(switch).not_to_be_checked()
        saved(setup_page, switch.check)
        assert settings(setup_page)[branch][leaf] is True
        setup_page.reload()
        expect(switch).to_be_checked()
        expect(setup_page.locator("[data-health='voice espeak']")).to_contain_text("Ready")  # the page has settled
        saved(setup_page, switch.uncheck)


def test_words_of_any_kind_are_shown_as_they_are(setup_page: Page) -> None:
    before = settings(setup_page)["mind"]["persona"]
    persona = setup_page.get_by_label("Persona", exact=True)
    for words in (
        "<img src=x onerror=document.title='hacked'> & \"quotes\"",
        "أنت رفيق لطيف. أجب بجملة قصيرة.",
        "word " * 1599 + "word.",
        "x" * 8000,
    ):
        enter(setup_page, persona, words)
        setup_page.reload()
        expect(persona).to_have_value(words)
        expect(setup_page.get_by_label("Start from").locator("option:checked")).to_have_text("Not saved yet")
        assert setup_page.title() == "Setup – Parley"
        assert setup_page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        rtl = persona.evaluate("area => getComputedStyle(area).direction")
        assert rtl == ("rtl" if words.startswith("أ") else "ltr")
    enter(setup_page, persona, before)


def test_the_whole_page_is_walked_by_the_keyboard(setup_page: Page) -> None:
    """Tab goes through everything that can be used, in the order of the page, and what has the focus shows it."""
    seen = setup_page.evaluate("""() => [...document.querySelectorAll("a, button, input, select, textarea, summary")]
      .filter((it) => it.checkVisibility() && !it.disabled && it.type !== "file").length""")
    setup_page.locator("body").press("Tab")
    tops, count = [], 0
    while (count := count + 1) < 2 * seen:
        at = setup_page.evaluate("""() => {
          const it = document.activeElement;
          if (it === document.body) return null;
          const ring = [it, it.closest(".choice") ?? it].some((each) => getComputedStyle(each).outlineStyle !== "none");
          return [it.id || it.textContent, it.getBoundingClientRect().top + scrollY, ring];
        }""")
        if at is None:
            break
        name, top, ring = at
        assert ring, f"{name} does not show that it has the focus"
        tops.append((top, name))
        setup_page.keyboard.press("Tab")
    assert len(tops) > 30
    for (one, name), (other, next_name) in pairwise(tops[2:]):
        assert other > one - 80, f"{next_name} comes after {name}, and stands above it"


def test_a_screen_reader_says_what_a_control_is_called_and_then_what_it_means(setup_page: Page) -> None:
    page = setup_page
    controls = (("radio", "PocketSphinx"), ("radio", "This browser"), ("checkbox", "Record our conversations"))
    for role, name in controls:
        control = page.get_by_role(role, name=name, exact=True)  # type: ignore[arg-type]  # a role's name
        expect(control).to_have_accessible_description(re.compile(r"\w+ \w+"))
    speed = page.get_by_role("slider", name="Speed")
    expect(speed).to_have_attribute("aria-valuetext", re.compile(r"^\d+ words a minute$"))
    assert page.locator("output:not([aria-live=off])").count() == 0, "a value is said by its slider"
    languages = page.locator("[id='ears.language'] option").all_text_contents()
    assert len(languages) > 90
    assert [name for name in languages if len(name) < 3] == [], "codes are no names"


def test_with_reduced_motion_nothing_moves(launch: Launch, open_page: Opener, server: str) -> None:
    page = open_page(launch(TONE, key="tone"), f"{server}/setup", reduced_motion="reduce")
    expect(page.locator("[data-health='voice espeak']")).to_contain_text("Ready", timeout=READY_WITHIN)
    longest = page.evaluate("""() => Math.max(...[...document.querySelectorAll("*")].flatMap((it) => {
      const { transitionDuration, animationDuration } = getComputedStyle(it);
      return `${transitionDuration}, ${animationDuration}`.split(", ").map(parseFloat);
    }))""")
    assert longest < 0.001


def test_a_faster_voice_is_really_faster(setup_page: Page) -> None:
    length = """async () => (await (await fetch("/api/voice/hear", {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ text: "One two three four five six seven eight nine ten." }),
    })).arrayBuffer()).byteLength"""
    speed = setup_page.get_by_label("Speed", exact=True)
    usual = setup_page.evaluate(length)
    enter(setup_page, speed, "350")
    assert setup_page.evaluate(length) < 0.75 * usual
    enter(setup_page, speed, "175")


def test_what_is_wrong_is_said_at_its_field_and_not_kept(setup_page: Page) -> None:
    owner = setup_page.get_by_label("Whose memory", exact=True)
    enter(setup_page, owner, "../anna")
    error = setup_page.locator("[data-error='memory.owner']")
    expect(error).not_to_be_empty()
    expect(owner).to_have_attribute("aria-invalid", "true")
    expect(owner).to_have_value("../anna")
    assert settings(setup_page)["memory"]["owner"] == "default"
    enter(setup_page, owner, "default")
    expect(error).to_be_empty()
    expect(owner).not_to_have_attribute("aria-invalid", "true")


def test_a_voice_is_chosen_from_those_of_the_engine(setup_page: Page) -> None:
    accent = setup_page.get_by_role("combobox", name="Voice", exact=True)
    expect(accent.locator("option")).not_to_have_count(1)
    saved(setup_page, lambda: accent.select_option(value="en-gb-scotland"))
    assert settings(setup_page)["voice"]["name"] == "en-gb-scotland"
    setup_page.reload()
    expect(accent).to_have_value("en-gb-scotland")
    saved(setup_page, lambda: accent.select_option(value=""))


def test_a_preset_fills_the_persona_and_ones_own_are_saved_named_and_reset(setup_page: Page) -> None:
    before = settings(setup_page)["mind"]["persona"]
    preset, persona = setup_page.get_by_label("Start from"), setup_page.get_by_label("Persona", exact=True)
    enter(setup_page, persona, "You are a pirate.")
    saved(setup_page, lambda: preset.select_option(label="A storyteller"))
    mind = settings(setup_page)["mind"]
    assert "storyteller" in mind["persona"]
    assert mind["personas"] == [{"name": "My persona", "text": "You are a pirate."}], "a preset overwrites nothing"
    expect(persona).to_have_value(mind["persona"])
    saved(setup_page, lambda: preset.select_option(label="My persona"))
    expect(persona).to_have_value("You are a pirate.")
    setup_page.get_by_label("Save this persona as").fill("The pirate")
    saved(setup_page, lambda: setup_page.get_by_role("button", name="Save", exact=True).click())
    assert [each["name"] for each in settings(setup_page)["mind"]["personas"]] == ["The pirate"]
    saved(setup_page, lambda: setup_page.get_by_role("button", name="Reset to Parley").click())
    expect(persona).to_have_value(before)
    saved(setup_page, lambda: preset.select_option(label="The pirate"))
    saved(setup_page, lambda: setup_page.get_by_role("button", name="Delete this persona").click())
    mind = settings(setup_page)["mind"]
    assert (mind["persona"], mind["personas"]) == (before, [])


def test_voices_are_heard_from_a_gallery_and_recorded_in_the_browser(
    launch: Launch, open_page: Opener, server: str
) -> None:
    def few(route: Route) -> None:
        told = route.fetch().json()
        route.fulfill(
            json=told | {"voices": [{"name": f"en-gb{more}", "label": f"Ann{more}"} for more in ("", "-scotland")]}
        )

    def before(page: Page) -> None:
        page.add_init_script(PLAYED)
        page.route("**/api/engines", few)

    page = open_page(launch(TONE, key="tone"), f"{server}/setup", before=before)
    page.get_by_label("Sample sentence").fill("Yes.")
    saved(page, page.get_by_role("button", name="Hear it: Ann-scotland").click)
    expect(page.get_by_role("radio", name="Ann-scotland")).to_be_checked()
    page.wait_for_function("() => window.played.length === 1")
    assert settings(page)["voice"]["name"] == "en-gb-scotland"
    saved(page, page.get_by_role("radio", name="Default voice").check)

    as_with_csm = "document.getElementById('references').hidden = false"
    page.evaluate(as_with_csm)
    page.get_by_role("button", name="Record", exact=True).click()
    expect(page.locator("#reference-line")).to_contain_text("Recording: 1 of 30 s.")
    page.get_by_role("button", name="Stop recording").click()
    expect(page.locator("#reference-line")).to_contain_text("Added.", timeout=READY_WITHIN)
    (kept,) = settings(page)["voice"]["references"]
    assert kept["recording"] == "My-voice.flac"
    page.evaluate(as_with_csm)
    page.get_by_role("button", name="Remove My-voice.flac").click()
    expect(page.locator("#reference-line")).to_have_text("Removed.")
    assert settings(page)["voice"]["references"] == []


def test_the_page_says_that_built_in_replies_are_no_language_model(setup_page: Page, server: str) -> None:
    expect(setup_page.locator("#builtin-note")).to_contain_text("not a language model")
    setup_page.goto(f"{server}/talk")
    expect(setup_page.locator("#mind")).to_contain_text("not a language model")
    setup_page.get_by_role("link", name="Choose a language model").click()
    expect(setup_page).to_have_url(f"{server}/setup#mind")


def test_a_damaged_settings_file_is_told_on_every_page(
    launch: Launch, open_page: Opener, troubled_server: Callable[[str], str]
) -> None:
    address = troubled_server('{"set_up": tru')
    page = open_page(launch(TONE, key="tone"), f"{address}/setup")
    expect(page.locator(".notice.warning")).to_contain_text("settings file was damaged")
    page.goto(f"{address}/talk")
    expect(page.locator(".notice.warning")).to_contain_text("settings file was damaged")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator(".notice.warning")).to_have_count(0)


def test_an_engine_that_fails_is_told_with_the_way_to_choose_another(
    launch: Launch, open_page: Opener, troubled_server: Callable[[str], str]
) -> None:
    address = troubled_server('{"set_up": true, "ears": {"engine": "trumpet"}}')
    page = open_page(launch(TONE, key="tone"), f"{address}/talk")
    failed = page.locator(".notice.error").filter(has_text="Ears")
    expect(failed).to_contain_text("There is no engine 'trumpet'", timeout=READY_WITHIN)
    failed.get_by_role("link").click()
    expect(page).to_have_url(f"{address}/setup#ears")
    with page.expect_response(lambda response: response.request.method == "PUT"):
        page.get_by_role("radio", name="PocketSphinx").click()
    expect(page.locator("[data-health='ears pocketsphinx']")).to_have_text(re.compile("^Ready"), timeout=READY_WITHIN)
    page.goto(f"{address}/talk")
    wait_until_ready(page)


def test_other_programs_get_an_address_and_the_bounds_of_what_they_may_send(setup_page: Page, server: str) -> None:
    setup_page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    setup_page.get_by_role("button", name="Copy").click()
    expect(setup_page.locator("#saved")).to_have_text("Copied.")
    assert setup_page.evaluate("navigator.clipboard.readText()") == f"{server}/v1"
    enter(setup_page, setup_page.get_by_label("Largest recording, in MB"), "500")
    assert settings(setup_page)["api"]["upload_mb"] == 500
    enter(setup_page, setup_page.get_by_label("Largest recording, in MB"), "0")
    expect(setup_page.locator("[data-error='api.upload_mb']")).not_to_be_empty()
