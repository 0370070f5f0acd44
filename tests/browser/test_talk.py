"""The talk page as a person meets it: by voice, by typing, by keyboard, and when something is missing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
import soxr
from playwright.sync_api import Locator, Page, WebSocketRoute, expect

from config.places import ROOT
from tests.browser.conftest import Launch, change, question, serving, wait_until_ready

Opener = Callable[..., Page]
HTML = """<img src="/nowhere" onerror="document.title='broken in'"> & <b>bold</b>"""

WATCH_LEVELS = """
() => {
  window.loudest = 0;
  const meter = document.getElementById("out-level");
  const watch = () => (window.loudest = Math.max(window.loudest, Number(meter.getAttribute("aria-valuenow"))));
  new MutationObserver(watch).observe(meter, { attributes: true });
}
"""


def press_start(page: Page) -> None:
    page.get_by_role("button", name="Start talking").click()


def say(page: Page, words: str) -> None:
    page.get_by_label("Type instead of talking").fill(words)
    page.get_by_role("button", name="Send").click()


def replies(page: Page) -> Locator:
    return page.get_by_role("log").locator(".companion .said")


def test_a_question_asked_aloud_is_shown_answered_and_heard(launch: Launch, open_page: Opener, server: str) -> None:
    page = open_page(launch(question(after=30), key="question"), f"{server}/talk")
    wait_until_ready(page)
    page.evaluate(WATCH_LEVELS)
    press_start(page)
    log = page.get_by_role("log")
    expect(log.locator(".you.final .said").first).to_contain_text("weather")
    reply = log.locator(".companion").first
    expect(reply.locator(".said")).not_to_be_empty()
    expect(page.locator("#timing-total")).to_contain_text("Answered in")
    expect(page.locator("#state")).to_have_text("Listening")
    expect(reply.locator(".unheard")).to_have_count(0)
    assert int(reply.get_attribute("data-played") or 0) > 12_000, "half a second of the reply was played"
    assert page.evaluate("window.loudest") > 20, "what was played was no silence"


def test_speech_over_a_reply_stops_it_and_is_heard(launch: Launch, open_page: Opener, server: str) -> None:
    """The words come again and again: on a busy machine the first reply may come late."""
    more, rate = soundfile.read(ROOT / "tests" / "audio" / "austen_0870.wav")
    words = soxr.resample(more[: 5 * rate], rate, 24_000)
    again = [part for pause in (3, 5, 7) * 3 for part in (words, np.zeros(pause * 24_000))]
    page = open_page(launch(np.concatenate([question(after=2.6), *again]), key="interruption"), f"{server}/talk")
    wait_until_ready(page)
    press_start(page)
    stopped = page.get_by_role("log").locator(".companion").filter(has=page.locator(".unheard:not(:empty)")).first
    expect(stopped.locator(".aside").last).to_contain_text("You")
    expect(page.locator(".you.final").nth(1)).to_be_visible()
    expect(replies(page).nth(1)).not_to_be_empty()


def test_typing_is_answered(talk_page: Page) -> None:
    say(talk_page, "My dog is called Rufus.")
    expect(talk_page.get_by_role("log").locator(".you.final .said")).to_have_text("My dog is called Rufus.")
    expect(replies(talk_page).first).not_to_be_empty()
    expect(talk_page.locator("#state")).to_have_text("Ready when you are")
    expect(talk_page.locator(".unheard")).to_have_count(0)
    assert int(talk_page.locator(".companion").first.get_attribute("data-played") or 0) > 12_000, "it was spoken"
    expect(talk_page.get_by_label("Type instead of talking")).to_have_value("")
    say(talk_page, "What time is it?")
    expect(replies(talk_page)).to_have_count(2)


def test_markup_is_shown_as_it_was_said(talk_page: Page) -> None:
    say(talk_page, HTML)
    expect(talk_page.get_by_role("log").locator(".you.final .said")).to_have_text(HTML)
    expect(replies(talk_page).first).not_to_be_empty()
    expect(talk_page.locator("[role=log] img, [role=log] b")).to_have_count(0)
    expect(talk_page).to_have_title("Talk – Parley")


def test_the_keyboard_does_it_all(talk_page: Page) -> None:
    page = talk_page
    page.locator("body").press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_hidden()
    page.keyboard.press("m")
    expect(page.get_by_role("button", name="Mute")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("m")
    expect(page.get_by_role("button", name="Mute")).to_have_attribute("aria-pressed", "false")
    page.locator("body").click(position={"x": 2, "y": 2})
    page.keyboard.press(" ")
    expect(page.get_by_role("button", name="End conversation")).to_be_visible()
    expect(page.locator("#state")).to_have_text("Listening")
    page.keyboard.press(" ")
    expect(page.get_by_role("button", name="Start talking")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("Type instead of talking")).to_be_focused()
    page.keyboard.type("m ? what can you do, and how do you work?")
    expect(page.get_by_label("Type instead of talking")).to_have_value("m ? what can you do, and how do you work?")


def test_escape_stops_the_reply_and_shows_what_was_not_heard(talk_page: Page) -> None:
    say(talk_page, "What are you?")
    expect(talk_page.locator("#state")).to_have_text("Speaking")
    talk_page.wait_for_function("() => Number(document.querySelector('.companion')?.dataset.played ?? 0) > 0")
    talk_page.keyboard.press("Escape")
    expect(talk_page.locator(".companion .unheard")).not_to_be_empty()
    expect(talk_page.locator(".companion .aside").last).to_contain_text("You")
    expect(talk_page.locator("#state")).to_have_text("Ready when you are")


def test_what_is_typed_over_a_reply_stops_it_and_is_answered(talk_page: Page) -> None:
    say(talk_page, "What are you?")
    expect(talk_page.locator("#state")).to_have_text("Speaking")
    talk_page.wait_for_function("() => Number(document.querySelector('.companion')?.dataset.played ?? 0) > 0")
    say(talk_page, "What time is it?")
    expect(talk_page.locator(".companion .unheard")).not_to_be_empty()
    expect(replies(talk_page).nth(1)).not_to_be_empty()
    expect(talk_page.locator("#state")).to_have_text("Ready when you are")
    expect(talk_page.locator(".companion").nth(1).locator(".unheard")).to_have_count(0)
    expect(talk_page.locator(".notice")).to_have_count(0)


def test_a_refused_microphone_is_explained(launch: Launch, open_page: Opener, server: str) -> None:
    page = open_page(launch(grant=False, key="refused"), f"{server}/talk")
    wait_until_ready(page)
    press_start(page)
    expect(page.locator(".notice.error")).to_contain_text("Your browser is blocking the microphone.")
    expect(page.get_by_role("button", name="Start talking")).to_be_visible()
    say(page, "Hello!")
    expect(replies(page).first).not_to_be_empty()


KEPT_BY_THE_SYSTEM = """
  MediaDevices.prototype.getUserMedia = async () => {
    throw new DOMException("Permission denied by system", "NotAllowedError");
  };
"""


def test_a_microphone_that_the_system_keeps_is_not_laid_at_the_pages_door(
    launch: Launch, open_page: Opener, server: str
) -> None:
    """On a Mac the browser itself must be allowed it, which no icon beside the address does."""
    page = open_page(launch(), f"{server}/talk", before=lambda page: page.add_init_script(KEPT_BY_THE_SYSTEM))
    wait_until_ready(page)
    press_start(page)
    expect(page.locator(".notice.error")).to_contain_text("System Settings, Privacy & Security, Microphone")


KEEP_STREAMS = """
  window.streams = [];
  window.missing = false;
  const open = MediaDevices.prototype.getUserMedia;
  MediaDevices.prototype.getUserMedia = async function (constraints) {
    if (window.missing) throw new DOMException("none", "NotFoundError");
    const stream = await open.call(this, constraints);
    window.streams.push(stream);
    return stream;
  };
"""


def test_a_microphone_that_vanishes_is_waited_for_and_opened_again(
    launch: Launch, open_page: Opener, server: str
) -> None:
    page = open_page(launch(), f"{server}/talk", before=lambda page: page.add_init_script(KEEP_STREAMS))
    wait_until_ready(page)
    press_start(page)
    expect(page.locator("#state")).to_have_text("Listening")
    page.evaluate("""() => {
      window.missing = true;
      window.streams[0].getAudioTracks()[0].dispatchEvent(new Event("ended"));
    }""")
    expect(page.locator("#state")).to_have_text("Waiting for the microphone")
    expect(page.locator("#state-more")).to_contain_text("Plug one in")
    page.evaluate("""() => {
      window.missing = false;
      navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
    }""")
    expect(page.locator("#state")).to_have_text("Listening")
    assert page.evaluate("window.streams.length") == 2


def test_a_lost_connection_is_said_and_found_again(launch: Launch, open_page: Opener, server: str) -> None:
    connections: list[WebSocketRoute] = []

    def between(page: Page) -> None:
        def connect(route: WebSocketRoute) -> None:
            connections.append(route)
            route.connect_to_server()

        page.route_web_socket(re.compile(r"/v1/realtime\?parley=1"), connect)

    page = open_page(launch(), f"{server}/talk", before=between)
    wait_until_ready(page)
    seen = page.evaluate_handle("""() => {
      const seen = [];
      const notices = document.getElementById("notices");
      new MutationObserver(() => seen.push(notices.textContent)).observe(notices, { childList: true });
      return seen;
    }""")
    connections[0].close()
    wait_until_ready(page)
    page.wait_for_function("seen => seen.some((text) => text.includes('Lost the connection'))", arg=seen)
    expect(page.locator("#notices")).to_be_empty()
    say(page, "Are you there?")
    expect(replies(page).first).not_to_be_empty()
    assert len(connections) >= 2


@pytest.mark.slow
def test_a_server_that_forgot_the_talk_begins_another_below_it(
    launch: Launch, open_page: Opener, tmp_path: Path
) -> None:
    """Its ids start anew, and what they name is not what stands above by the same ids."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "settings.json").write_text('{"set_up": true, "memory": {"enabled": false}}')
    with serving(data) as address:
        page = open_page(launch(), f"{address}/talk")
        wait_until_ready(page)
        say(page, "Hello.")
        expect(replies(page)).to_have_count(1)
        first = replies(page).inner_text()
    with serving(data, "offline", "--port", str(urlsplit(address).port)):
        wait_until_ready(page)
        expect(page.get_by_role("log")).to_contain_text("Parley no longer has the earlier conversation")
        say(page, "What time is it?")
        expect(replies(page)).to_have_count(2)
        expect(replies(page).last).to_contain_text("It is")
        earlier = replies(page).first.inner_text()  # which may still have grown before the server ended
        assert earlier.startswith(first) and "It is" not in earlier


def test_a_reload_goes_on_with_the_talk_and_whole_sentences_are_read_out(
    launch: Launch, open_page: Opener, server: str
) -> None:
    page = open_page(launch(), f"{server}/talk")
    wait_until_ready(page)
    say(page, "My dog is called Rufus.")
    announced = page.locator("#announced p")
    expect(announced.first).to_have_text("You: My dog is called Rufus.")
    expect(announced.nth(1)).to_have_text(re.compile(r"^Parley: [A-Z].*[.?!]$"))
    expect(page.get_by_role("log")).to_have_attribute("aria-live", "off")
    press_start(page)
    expect(page.get_by_role("button", name="End conversation")).to_be_visible()
    page.goto(f"{server}/memory")
    page.go_back()
    expect(page.get_by_role("button", name=re.compile("End conversation|Continue"))).to_be_visible()
    expect(page.get_by_role("log").locator(".you .said")).to_have_text(["My dog is called Rufus."])
    page.locator("#talk").click()  # the browser may have wanted a click before there is sound
    say(page, "What is my dog called?")
    expect(replies(page).last).to_contain_text("Rufus")
    page.keyboard.press("Escape")
    if page.get_by_role("button", name="End conversation").is_visible():
        page.get_by_role("button", name="End conversation").click()

    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_role("checkbox", name="Use these keys").uncheck()
    page.get_by_role("button", name="Close").click()
    page.locator("body").press("/")
    expect(page.get_by_label("Type instead of talking")).not_to_be_focused()
    page.get_by_role("button", name="New conversation").click()
    expect(page.get_by_role("log").locator(".entry")).to_have_count(0)
    wait_until_ready(page)
    page.reload()
    wait_until_ready(page)
    expect(page.get_by_role("log").locator(".entry")).to_have_count(0)


INSECURE = """
  Object.defineProperty(window, "isSecureContext", { value: false });
  Object.defineProperty(Navigator.prototype, "mediaDevices", { value: undefined });
  Object.defineProperty(BaseAudioContext.prototype, "audioWorklet", { value: undefined });
  Crypto.prototype.randomUUID = undefined;
"""


def test_without_https_the_page_says_what_to_do_and_typing_is_answered_aloud(
    launch: Launch, open_page: Opener, server: str
) -> None:
    page = open_page(launch(), f"{server}/talk", before=lambda page: page.add_init_script(INSECURE))
    insecure = page.locator(".notice", has_text="Browsers only allow the microphone on secure pages.")
    expect(insecure).to_be_visible()  # beside that of what is loading
    wait_until_ready(page)
    say(page, "My dog is called Rufus.")
    expect(page.locator("#state")).to_have_text("Speaking")
    expect(page.locator("#state")).to_have_text("Ready when you are")
    assert int(page.locator(".companion").first.get_attribute("data-played") or 0) > 12_000, "it was spoken"
    expect(page.locator(".unheard")).to_have_count(0)
    press_start(page)
    expect(page.locator(".notice.error")).to_contain_text("Start Parley with --https")
    expect(insecure).to_have_count(1)


def test_the_words_being_spoken_stay_in_view_on_a_phone(launch: Launch, open_page: Opener, server: str) -> None:
    page = open_page(launch(), f"{server}/talk", viewport={"width": 390, "height": 700})
    page.evaluate(
        """async () => {
          const { Transcript } = await import("/static/js/talk/transcript.js");
          const at = (id) => document.getElementById(id);
          const transcript = new Transcript(at("transcript"), at("opening"), at("announced"));
          transcript.reply("long", "This is a sentence of some length. ".repeat(60));
          transcript.made("long", 1000);
          for (let played = 0; played <= 500; played += 50) {
            transcript.played("long", played);
            await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
          }
        }"""
    )
    seen = page.evaluate("""() => {
      const [line] = document.querySelector(".ahead").getClientRects();
      const frame = document.getElementById("transcript").getBoundingClientRect();
      return line.top >= frame.top && line.top <= frame.bottom;
    }""")
    assert seen


def test_sentences_that_come_at_once_are_read_out_as_one(launch: Launch, open_page: Opener, server: str) -> None:
    """One after the other Orca reads them in the wrong order, as Chromium tells of both at once."""
    page = open_page(launch(), f"{server}/talk")
    page.evaluate(
        """async () => {
          const { Transcript } = await import("/static/js/talk/transcript.js");
          const at = (id) => document.getElementById(id);
          const transcript = new Transcript(at("transcript"), at("opening"), at("announced"));
          transcript.user("item", "My dog is called Rufus.");
          transcript.reply("one", "Rufus, what a good name. ");
          transcript.reply("one", "Tell me more.");
        }"""
    )
    announced = page.locator("#announced p")
    expect(announced).to_have_text(["You: My dog is called Rufus.", "Parley: Rufus, what a good name. Tell me more."])


def test_what_the_circle_says_stays_within_it_on_a_phone(launch: Launch, open_page: Opener, server: str) -> None:
    page = open_page(launch(), f"{server}/talk", viewport={"width": 390, "height": 844})
    wait_until_ready(page)
    page.get_by_label("Type instead of talking").fill("Hello.")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".companion .said")).not_to_be_empty()  # begun: the circle makes room for what is said
    expect(page.locator("#state")).to_have_text("Ready when you are")  # while words arrive, a click can miss it
    press_start(page)
    label, circle = page.locator("#talk-label"), page.locator("#talk")
    expect(label).to_have_text("End conversation")
    inner, outer = label.bounding_box(), circle.bounding_box()
    assert inner and outer and inner["width"] <= 0.53 * outer["width"], (inner, outer)


def test_muting_is_silence_and_unmuting_is_not(launch: Launch, open_page: Opener, server: str) -> None:
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(24_000 * 60) / 24_000)
    page = open_page(launch(tone, key="tone"), f"{server}/talk")
    wait_until_ready(page)
    press_start(page)
    level = page.get_by_role("meter", name="Microphone level")
    expect(level).not_to_have_attribute("aria-valuenow", "0")
    page.get_by_role("button", name="Mute").click()
    expect(page.locator("#state")).to_have_text("Muted")
    expect(level).to_have_attribute("aria-valuenow", "0")
    page.get_by_role("button", name="Mute").click()
    expect(level).not_to_have_attribute("aria-valuenow", "0")


def test_the_volume_is_used_and_kept(talk_page: Page) -> None:
    talk_page.get_by_label("Volume").fill("30")
    talk_page.reload()
    expect(talk_page.get_by_label("Volume")).to_have_value("30")


def test_the_theme_follows_the_switch_and_is_kept(talk_page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = talk_page.evaluate(ground)
    switch = talk_page.get_by_role("button", name="Theme")
    switch.click()
    switch.click()
    expect(switch).to_have_text("Theme: dark")
    dark = talk_page.evaluate(ground)
    assert dark != light
    talk_page.reload()
    assert talk_page.evaluate(ground) == dark


def test_without_a_sound_card_it_says_so_and_does_not_pretend_to_listen(
    launch: Launch, open_page: Opener, server: str
) -> None:
    page = open_page(launch(), f"{server}/setup")
    if page.request.get(f"{server}/api/soundcard/devices").json().get("inputs"):
        pytest.skip("this computer has a sound card")
    change(page, audio={"place": "soundcard"})
    try:
        page.reload()
        page.get_by_role("button", name="Try it").click()
        expect(page.locator("#listen-line")).to_contain_text(
            re.compile("sound card|PortAudio|microphone", re.IGNORECASE)
        )
        expect(page.locator("#listen-line")).not_to_contain_text("Press")
        page.goto(f"{server}/talk")
        wait_until_ready(page)
        press_start(page)
        expect(page.locator(".notice.error")).not_to_be_empty()
        expect(page.get_by_role("button", name="Start talking")).to_be_visible()
        expect(page.locator("#state")).to_have_text("Ready when you are")
    finally:
        change(page, audio={"place": "browser"})


def test_with_reduced_motion_nothing_moves_by_itself(launch: Launch, open_page: Opener, server: str) -> None:
    still = """async () => {
      const canvas = document.getElementById("orb");
      const frames = new Set();
      for (let i = 0; i < 20; i += 1) {
        await new Promise((resolve) => requestAnimationFrame(resolve));
        frames.add(canvas.toDataURL());
      }
      return frames.size === 1;
    }"""
    page = open_page(launch(), f"{server}/talk", reduced_motion="reduce")
    wait_until_ready(page)
    # The circle is drawn anew when its place changes, as while the page settles; what moves by itself is never still.
    page.wait_for_function(still)
    page.emulate_media(reduced_motion="no-preference")
    assert not page.evaluate(still)
