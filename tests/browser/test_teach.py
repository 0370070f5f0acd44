"""The page on which CSM is taught a voice: a tiny model with random weights learns recordings of no words."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import soundfile
import torch
from playwright.sync_api import Page, expect

from csm.training.dataset import Clip, read_clips, write_clips
from tests.browser.conftest import Launch, serving
from tests.csm.tiny import voice, write_checkpoint

ID = "anna-b-lee-b"
PERSON = "Anna <b>Lee</b>"
A_STEP_IS_KEPT = re.compile(r"Step ([3-9]|\d\d) of")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """With a tiny CSM to be taught."""
    data = tmp_path / "data"
    data.mkdir()
    model = write_checkpoint(tmp_path / "model")
    settings = {"set_up": True, "voice": {"engine": "csm", "model": str(model)}, "memory": {"enabled": False}}
    (data / "settings.json").write_text(json.dumps(settings))
    return data


@pytest.fixture
def server(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("CSM_VOICES", str(tmp_path / "voices"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with serving(data) as address:
        yield address


def recordings(folder: Path, count: int = 3) -> list[Path]:
    """Two pieces of noise in each, with a pause between."""
    quiet = torch.zeros(12_000)
    files = []
    for number in range(count):
        sound = torch.cat([quiet, voice(1.5, seed=2 * number), quiet, voice(1.2, seed=2 * number + 1), quiet])
        files.append(folder / f"reading {number}.wav")
        soundfile.write(files[-1], sound.numpy(), 24_000)
    return files


def agree(page: Page) -> None:
    page.get_by_label("Full name of the speaker").fill(PERSON)
    page.get_by_label("This is my own voice").check()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()


def begin(page: Page, files: list[Path], steps: int) -> None:
    """From the consent to the start of the training."""
    agree(page)
    page.locator("#files").set_input_files(files)
    expect(page.locator("#recordings li")).to_have_count(len(files))
    page.get_by_role("button", name="Prepare the recordings").click()
    for number in range(1, len(files) + 1):
        words = page.get_by_label(f"What is said in clip {number}", exact=True)
        words.fill(f"These are the words of clip {number}.")
        words.blur()
        expect(page.locator("#clip-line")).to_have_text(f"Clip {number} saved.")
    page.get_by_label("Steps").fill(str(steps))
    page.get_by_role("button", name="Start training").click()


def trainer() -> psutil.Process:
    """The process that trains, among this one's descendants."""
    for process in psutil.Process().children(recursive=True):
        if "csm.commands.training" in process.cmdline():
            return process
    raise AssertionError("nothing is trained")


def taught(data: Path) -> Path:
    """A voice half taught, as the commands leave it."""
    folder = data / "taught" / "ben"
    for name in ("recordings", "prepared/clips", "training/samples", "training/checkpoints/step-000002"):
        (folder / name).mkdir(parents=True)
    about = {"person": "Ben", "agreed_at": "2026-11-30T01:00:00+00:00", "steps": 4, "step_s": 80.0, "memory": 6 << 30}
    (folder / "about.json").write_text(json.dumps(about))
    first = Clip(f"{0:016x}", "Hello.", 0, "", "train", 3.0, 1.0, 1.0, "<i>one.wav", 0.0, "", 0, "")
    others = (replace(first, id=f"{n:016x}", text="", start=3.0 * n, dropped="no text") for n in range(1, 60))
    write_clips(folder / "prepared", [first, *others])
    lines = "".join(f"{n},1,{7 - n},{4 - n},1e-4,1,90,{6.5 if n == 2 else ''},{4 if n == 2 else ''},\n" for n in (1, 2))
    head = "step,epoch,code0,depth,learning_rate,gradient,seconds,held_out_code0,held_out_depth,likeness\n"
    (folder / "training" / "metrics.csv").write_text(head + lines)
    (folder / "training" / "checkpoints" / "step-000002" / "progress.json").write_text('{"step": 2, "held_out": 10.5}')
    soundfile.write(folder / "training" / "samples" / "step-000002-1.wav", voice(0.5).numpy(), 24_000)
    soundfile.write(folder / "prepared" / "clips" / f"{0:016x}.flac", voice(0.5).numpy(), 24_000)
    return folder


def test_what_is_there_is_shown_corrected_and_kept(
    launch: Launch, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "settings.json").write_text('{"set_up": true, "memory": {"enabled": false}}')
    folder = taught(data)
    with serving(data) as address:
        page = open_page(launch(), f"{address}/teach")
        expect(page.locator("#clips li")).to_have_count(50)
        expect(page.locator("#cost")).to_contain_text("The rest takes about 3 min here, 80 s a step, and 6.0 GB")
        expect(page.get_by_role("button", name="Continue after step 2")).to_be_disabled()
        expect(page.locator(".notice")).to_contain_text("CSM-1B is not on this computer yet")
        expect(page.locator("#plots figure")).to_have_count(3)
        shown = page.get_by_role("img", name="First code of each frame: learnt 5, at first 6; held out 6.5")
        expect(shown).to_be_visible()
        expect(page.get_by_role("button", name="Hear sentence 1 after step 2")).to_be_visible()
        expect(page.locator("#clips li").first).to_contain_text("<i>one.wav")
        with page.expect_response("**/clips/0000000000000000") as heard:
            page.get_by_role("button", name="Hear clip 1", exact=True).press("Enter")
        assert heard.value.ok
        page.get_by_label("What is said in clip 2", exact=True).fill("Written <here>, by hand.")
        page.get_by_label("What is said in clip 2", exact=True).blur()
        expect(page.locator("#clips-line")).to_contain_text("2 of 60 clips")
        page.get_by_label("Learn it").first.uncheck()
        expect(page.locator("#clips-line")).to_contain_text("1 of 60 clips")
        first, second, *_ = read_clips(folder / "prepared")
        assert (first.text, first.dropped) == ("Hello.", "by hand")
        assert (second.text, second.dropped) == ("Written <here>, by hand.", "")

        page.get_by_role("link", name="Another voice").click()
        expect(page.locator("#consent-words")).to_contain_text("A voice belongs to a person.")
        agree(page)
        (tmp_path / "words.wav").write_bytes(b"no sound")
        page.locator("#files").set_input_files([*recordings(tmp_path, 1), tmp_path / "words.wav"])
        expect(page.locator("#recordings li")).to_have_count(1)
        expect(page.locator("#recordings-error")).to_contain_text("words.wav ")
        page.get_by_role("button", name="Record", exact=True).click()
        expect(page.locator("#recordings-line")).to_contain_text("Recording: 0:01.")
        page.get_by_role("button", name="Stop recording").click()
        expect(page.get_by_role("button", name="Remove recorded-here.wav")).to_be_visible()
        expect(page.get_by_role("button", name="Record", exact=True)).to_be_visible()
        expect(page.get_by_role("navigation", name="Voices being taught")).to_contain_text(PERSON)
        page.get_by_role("button", name="Delete recordings and training").click()
        with page.expect_response(lambda response: response.request.method == "DELETE") as deleted:
            page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        assert deleted.value.ok
        expect(page.locator("#clips li")).to_have_count(50)
        assert [path.name for path in (data / "taught").iterdir()] == ["ben"]


@pytest.mark.slow
def test_from_recordings_to_a_voice_among_the_others(
    launch: Launch, open_page: Callable[..., Page], server: str, tmp_path: Path
) -> None:
    page = open_page(launch(), f"{server}/setup")
    page.get_by_role("link", name="Teach it a voice").click()
    begin(page, recordings(tmp_path), steps=3)
    expect(page.locator("#work-line")).to_have_text("Training: done.")
    expect(page.locator("#plots figure")).to_have_count(3)
    assert page.get_by_role("img", name="First code of each frame: learnt").count() == 1
    expect(page.get_by_role("button", name="Hear sentence 1 after step 2")).to_be_visible()
    page.reload()
    expect(page.locator("#cost")).to_have_text("The training is complete.")
    page.get_by_role("button", name="Speak in this voice").click()
    expect(page.locator("#use-line")).to_have_text(f"Parley now speaks as {PERSON}.")
    voices = page.request.get(f"{server}/api/voices/library").json()["voices"]
    assert [(voice["name"], voice["learnt"]) for voice in voices] == [(ID, True)]
    kept = tmp_path / "voices" / ID / "adapter"
    assert f"{PERSON} agreed" in json.loads((kept / "adapter_config.json").read_text())["csm_consent"]
    settings = page.request.get(f"{server}/api/settings").json()["settings"]
    assert settings["voice"]["adapter"] == str(kept)
    assert not (kept / "state.pt").exists()


@pytest.mark.slow
def test_paused_killed_and_resumed(launch: Launch, open_page: Callable[..., Page], server: str, tmp_path: Path) -> None:
    page = open_page(launch(), f"{server}/teach")
    begin(page, recordings(tmp_path), steps=36)  # of which every third is kept
    expect(page.locator("#work-figures")).to_contain_text(A_STEP_IS_KEPT)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#work-line")).to_have_text("Training: paused.")
    assert trainer().status() == psutil.STATUS_STOPPED
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(page.locator("#work-line")).to_have_text("Training…")
    expect(page.locator("#work-figures")).to_contain_text(A_STEP_IS_KEPT)
    os.kill(trainer().pid, signal.SIGKILL)
    expect(page.locator("#work-line")).to_contain_text("Another program ended")
    page.reload()
    page.get_by_role("button", name="Continue after step").click()
    expect(page.locator("#work-line")).to_have_text("Training…")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#work-line")).to_have_text("Training: stopped. Your progress is saved.")
    expect(page.get_by_role("button", name="Continue after step")).to_be_visible()
