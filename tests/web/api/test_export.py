"""A conversation taken away: transcript, records, and the sound of both sides where the user asked for it."""

from __future__ import annotations

import errno
import io
import json
import tempfile
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest

from config import Settings
from tests.web.conftest import Running, served
from tests.web.realtime.test_protocol import LOUD, SILENCE, append, eventually, send, the, until
from web.api import export


def settings(recording: bool) -> Settings:
    chosen = Settings(set_up=True)
    chosen.recording.enabled = recording
    return chosen


async def talked(running: Running) -> str:
    """One turn, heard to its end; the conversation's name."""
    async with running.connect("?parley=1") as socket:
        await append(socket, LOUD, SILENCE)
        name = ""
        samples = 0
        for event in await until(socket, "response.done"):
            if event["type"] == "response.created":
                name, response = event["response"]["conversation_id"], event["response"]["id"]
            if event["type"] == "response.output_audio.delta":
                samples += len(event["delta"]) * 3 // 4 // 2
        await send(socket, "parley.playback", response_id=response, samples=samples)
        await the(socket, "parley.turn")
    await eventually(lambda: not running.service.conversations)
    return str(name)


async def exported(running: Running, name: str) -> zipfile.ZipFile:
    async with running.client() as client:
        answer = await client.get(f"/api/conversations/{name}/export")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    return zipfile.ZipFile(io.BytesIO(answer.content))


async def test_a_conversation_is_its_transcript_and_records(tmp_path: Path) -> None:
    async with served(tmp_path, settings=settings(recording=False)) as running:
        pack = await exported(running, await talked(running))
    assert sorted(pack.namelist()) == ["transcript.txt", "turns.jsonl"]
    lines = pack.read("transcript.txt").decode().splitlines()
    assert [line.partition("] ")[2] for line in lines] == [
        "user: what is the weather in paris",
        "assistant: It is sunny. Shall we go out?",
    ]
    (record,) = (json.loads(line) for line in pack.read("turns.jsonl").splitlines())
    assert record["outcome"] == "completed"
    assert not (tmp_path / "recordings").exists(), "nothing is recorded unless it was asked for"


async def test_a_recorded_one_has_both_sides_on_one_time_axis(tmp_path: Path) -> None:
    async with served(tmp_path, settings=settings(recording=True)) as running:
        name = await talked(running)
        pack = await exported(running, name)
        async with running.client() as client:
            played = await client.get(f"/api/conversations/{name}/sound")
            forgotten = await client.request("DELETE", f"/api/memory/conversations/{name}")
    with wave.open(io.BytesIO(pack.read("user.wav"))) as user, wave.open(io.BytesIO(pack.read("reply.wav"))) as reply:
        assert (user.getframerate(), reply.getframerate()) == (16_000, 24_000)
        assert user.getnframes() == pytest.approx(2 * 16_000, abs=800)
        heard = np.frombuffer(reply.readframes(reply.getnframes()), "<i2")
    sounding = np.flatnonzero(heard)
    assert len(sounding) == pytest.approx(0.4 * 24_000, abs=10), "two clauses of 0.2 s"
    assert sounding[0] / 24_000 > 1.0, "after the user's second of speech"
    with wave.open(io.BytesIO(played.content)) as both:
        mixed = np.frombuffer(both.readframes(both.getnframes()), "<i2")
    assert len(mixed) == pytest.approx(2 * 24_000, abs=1200)
    assert np.abs(mixed[: sounding[0]]).max() > 4000, "the user’s side"
    assert np.abs(mixed[sounding]).max() >= np.abs(heard).max() - 4000, "and the reply’s"
    if forgotten.status_code == 200:
        assert not (tmp_path / "recordings" / name).exists()


@pytest.mark.parametrize("name", ["conv_0123456789abcdef", "..", "%2e%2e%2fsettings", "a" * 200])
async def test_what_is_not_there_cannot_be_taken_away(running: Running, name: str) -> None:
    async with running.client() as client:
        assert (await client.get(f"/api/conversations/{name}/export")).status_code == 404
        assert (await client.get(f"/api/conversations/{name}/sound")).status_code == 404


async def test_nothing_of_it_stays_on_the_disk_however_the_answer_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    async with served(tmp_path / "data", settings=settings(recording=True)) as running:
        name = await talked(running)
        async with running.client() as client:
            for what in ("export", "sound"):
                for wanted, status in (("bytes=0-9", 206), ("bytes=5-1", 400), ("bytes=999999999-", 416)):
                    answer = await client.get(f"/api/conversations/{name}/{what}", headers={"Range": wanted})
                    assert answer.status_code == status
            monkeypatch.setattr(export, "from_pcm16", full)
            assert (await client.get(f"/api/conversations/{name}/sound")).status_code == 500
    assert not [*elsewhere.iterdir()]


def full(data: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
