"""A phone on the network: Chromium as one, over https at this machine's own address, with a fake microphone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Playwright, expect

from tests.browser.conftest import Launch, question, serving, wait_until_ready
from web.network import lan_addresses

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not lan_addresses(), reason="this machine is in no network")]

CALL = """
async (key) => {
  const peer = new RTCPeerConnection();
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
  peer.addTrack(microphone.getTracks()[0]);
  const sound = new AudioContext(), loudness = sound.createAnalyser();
  peer.ontrack = ({ streams }) => {
    const player = new Audio();
    player.srcObject = streams[0];
    player.play();
    sound.createMediaStreamSource(streams[0]).connect(loudness);
  };
  const channel = peer.createDataChannel("oai-events"), told = [];
  window.told = told;
  const over = new Promise((done) => {
    channel.onmessage = ({ data }) => {
      told.push(JSON.parse(data).type);
      if (told.at(-1) === "output_audio_buffer.stopped") done();
    };
  });
  let loudest = 0;
  const samples = new Float32Array(loudness.fftSize);
  const watching = setInterval(() => {
    loudness.getFloatTimeDomainData(samples);
    loudest = Math.max(loudest, ...samples.map(Math.abs));
  }, 20);
  await peer.setLocalDescription();
  const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/sdp" };
  const answer = await fetch("/v1/realtime/calls", { method: "POST", headers, body: peer.localDescription.sdp });
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  await over;
  clearInterval(watching);
  peer.close();
  return { status: answer.status, location: answer.headers.get("location"), told, loudest };
}
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """As the code has it that a phone scans."""
    data = tmp_path_factory.mktemp("phone") / "data"
    data.mkdir()
    (data / "settings.json").write_text('{"set_up": true}')
    with serving(data, "offline", "--https") as local:
        token = (data / "token").read_text().strip()
        yield f"https://{lan_addresses()[0]}:{urlsplit(local).port}/?token={token}"


def test_a_phone_talks_over_the_network(
    launch: Launch, open_page: Callable[..., Page], playwright: Playwright, address: str
) -> None:
    pixel = {**playwright.devices["Pixel 7"], "ignore_https_errors": True}
    page = open_page(launch(question(after=30), key="phone"), address, **pixel)
    wait_until_ready(page)
    assert page.evaluate("isSecureContext") and "token" not in page.url
    page.get_by_role("button", name="Start talking").click()
    log = page.get_by_role("log")
    expect(log.locator(".you.final .said").first).to_contain_text("weather")
    expect(log.locator(".companion .said").first).not_to_be_empty()
    expect(page.locator("#timing-total")).to_contain_text("Answered in")

    page.goto(address.replace("/?", "/setup?"))
    expect(page.get_by_alt_text("A QR code")).to_be_visible()
    assert page.evaluate("document.querySelector('img.code').naturalWidth") > 100


def test_a_phone_calls_by_webrtc(
    launch: Launch, open_page: Callable[..., Page], playwright: Playwright, address: str
) -> None:
    pixel = {**playwright.devices["Pixel 7"], "ignore_https_errors": True}
    page = open_page(launch(question(after=30), key="call"), address, **pixel)
    wait_until_ready(page)
    call = page.evaluate(CALL, address.partition("token=")[2])
    assert (call["status"], call["location"].startswith("/v1/realtime/calls/rtc_")) == (201, True)
    assert "conversation.item.input_audio_transcription.completed" in call["told"]
    assert call["loudest"] > 0.02


def test_over_plain_http_a_phone_is_told_what_to_do_and_reads_the_reply(
    open_page: Callable[..., Page], launch: Launch, playwright: Playwright, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "settings.json").write_text('{"set_up": true}')
    with serving(data, "offline", "--host", "0.0.0.0") as local:
        token = (data / "token").read_text().strip()
        address = f"http://{lan_addresses()[0]}:{urlsplit(local).port}/?token={token}"
        page = open_page(launch(), address, **playwright.devices["Pixel 7"])
        wait_until_ready(page)
        assert not page.evaluate("isSecureContext")
        notice = page.locator(".notice", has_text="Browsers only allow the microphone on secure pages.")
        expect(notice).to_contain_text("Start Parley with --https")
        page.get_by_role("button", name="Start talking").click()
        expect(page.locator(".notice.error")).to_contain_text("Start Parley with --https")
        expect(notice).to_have_count(1)
        page.get_by_label("Type instead of talking").fill("What time is it?")
        page.get_by_role("button", name="Send").click()
        said = page.locator(".companion .said")
        expect(said).to_contain_text("It is")
        expect(said).to_be_in_viewport()
