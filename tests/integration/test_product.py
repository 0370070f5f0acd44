"""The product as a user runs it: restarts, crashes, and what is remembered through them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from config.places import ROOT
from tests.support.product import ask, await_event, hear_out, started, type_in
from tests.support.recordings import recording

pytestmark = pytest.mark.slow


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=60)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_it_knows_tomorrow_what_was_said_today(tmp_path: Path) -> None:
    with started(tmp_path) as product:
        product.wait_until()
        with product.conversation() as socket:
            assert "Rufus" in ask(socket, "My dog is called Rufus.")
        workers = product.workers()
        assert len(workers) >= 3
        product.process.send_signal(signal.SIGINT)
        assert product.process.wait(60) == 0
    assert gone(workers), "Ctrl-C ends every child"

    with started(tmp_path) as product:
        product.wait_until()
        with product.conversation() as socket:
            assert "Rufus" in ask(socket, "What is my dog called?")


def test_a_kill_in_the_middle_of_a_turn_loses_no_finished_turn(tmp_path: Path) -> None:
    with started(tmp_path) as product:
        product.wait_until()
        with product.conversation() as socket:
            ask(socket, "My dog is called Rufus.")
            type_in(socket, "My cat is called Minka.")
            await_event(socket, "response.output_audio.delta")
            workers = product.workers()
            product.kill()
    assert gone(workers), "no worker outlives its parent"

    with started(tmp_path) as product:
        product.wait_until()
        with product.conversation() as socket:
            assert "Rufus" in ask(socket, "What is my dog called?")


def test_when_every_worker_is_killed_the_conversation_goes_on(tmp_path: Path) -> None:
    with started(tmp_path) as product:
        product.wait_until()
        with product.conversation() as socket:
            ask(socket, "My dog is called Rufus.")
            for worker in product.workers():
                os.kill(worker.pid, signal.SIGKILL)
            type_in(socket, "Hello!")
            assert hear_out(socket)["outcome"] in ("completed", "failed"), "a reply, or a reason, and no silence"
            product.wait_until()
            assert "Rufus" in ask(socket, "What is my dog called?")
        restarts = [engine["restarts"] for engine in product.health()["engines"].values()]
        assert sum(restarts) >= 3


def test_a_damaged_settings_file_is_put_aside_and_told(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"profile": "offline", "mind": {"temperature": "hot"}}')
    with started(tmp_path) as product:
        product.wait_until()
        assert "damaged" in product.get("/api/notices")
    assert len(list(tmp_path.glob("settings-damaged-*.json"))) == 1


def test_a_second_start_is_not_asked_to_install_anything(tmp_path: Path) -> None:
    with started(tmp_path) as product:
        product.wait_until()
        product.process.send_signal(signal.SIGINT)
        assert product.process.wait(60) == 0
        printed = product.printed()
    assert "Setting up" not in printed
    assert f"http://localhost:{product.port}" in printed


@pytest.mark.parametrize(
    ("same", "words"),
    [
        ("port", "Port {port} is in use, perhaps by Parley itself: open http://localhost:{port}, or choose another"),
        ("data", "Parley is already running with the data folder {data}: use that one, or choose another"),
    ],
)
def test_a_second_parley_is_told_and_the_first_goes_on(tmp_path: Path, same: str, words: str) -> None:
    data = tmp_path / "data"
    with started(data) as first:
        first.wait_until()
        port, folder = (first.port, tmp_path / "other") if same == "port" else (0, data)
        second = subprocess.run(
            [sys.executable, "main.py", "--no-browser", "--port", str(port), "--data", str(folder)],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert second.returncode == 1
        assert second.stderr.startswith(f"Parley cannot start: {words.format(port=first.port, data=data)}")
        assert len(second.stderr.splitlines()) == 1
        with first.conversation() as socket:
            assert ask(socket, "Hello!")


def test_a_conversation_from_a_file_beside_a_running_parley_is_held_but_not_remembered(tmp_path: Path) -> None:
    with started(tmp_path) as first:
        first.wait_until()
        question = str(recording("weather_question.wav"))
        talk = subprocess.run(
            [sys.executable, "main.py", "talk", "--input", question, "--data", str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert talk.returncode == 0
        assert "This turn will not be remembered: The memory in" in talk.stderr
        with first.conversation() as socket:
            assert ask(socket, "Hello!")


def test_the_reply_can_be_heard_out(tmp_path: Path) -> None:
    with started(tmp_path) as product:
        product.wait_until()
        with product.conversation() as socket:
            type_in(socket, "Are you a language model?")
            reply = hear_out(socket)
        assert reply["outcome"] == "completed"
        assert "not a language model" in reply["text"]
