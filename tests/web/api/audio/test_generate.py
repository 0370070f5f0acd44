"""`/generate_audio` as the document of the Cerebrium deployment has it, its sample code and the client of ours."""

from __future__ import annotations

import asyncio
import base64
import io
import sys
import uuid
from pathlib import Path

import httpx
import numpy as np
import pytest
import requests
import soundfile

from config.places import ROOT
from pipeline.audio import MOUTH_RATE, Samples
from pipeline.tts import Spoken
from tests.web.api.audio.conftest import TOKEN, tone
from tests.web.api.audio.test_speech import Mute, error
from tests.web.conftest import Running, served
from tests.web.scripted import ScriptedEngines, ScriptedVoice

PATH = "/generate_audio"
TEXT = "Hello, this is a test of the CSM voice model."


def wav(data: bytes) -> Samples:
    sound, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == MOUTH_RATE
    return sound  # type: ignore[no-any-return]


def documents_sample(endpoint: str, token: str, file: Path) -> None:
    """The document's "Sample code", with its steps in their order."""
    payload = {"text": TEXT}
    response = requests.post(endpoint, json=payload, headers={"Authorization": f"Bearer {token}"}, timeout=60)
    assert response.status_code == 200
    result = response.json()["result"]
    audio_data = result["audio_data"]
    with file.open("wb") as f:
        f.write(base64.b64decode(audio_data))


@pytest.mark.parametrize("path", [PATH, "/v4/p-1234/csm/generate_audio"])
async def test_the_documents_sample_code_runs(guarded: Running, tmp_path: Path, path: str) -> None:
    file = tmp_path / "output.wav"
    await asyncio.to_thread(documents_sample, guarded.url + path, TOKEN, file)
    assert len(wav(file.read_bytes())) == 0.2 * MOUTH_RATE


async def test_the_answer_has_the_documents_shape(client: httpx.AsyncClient) -> None:
    answer = (await client.post(PATH, json={"text": TEXT})).json()
    assert set(answer) == {"run_id", "result", "run_time_ms"}
    assert uuid.UUID(answer["run_id"])
    assert answer["result"]["format"] == "wav" and answer["result"]["encoding"] == "base64"
    assert answer["run_time_ms"] > 0
    data = base64.b64decode(answer["result"]["audio_data"])
    assert int.from_bytes(data[4:8], "little") == len(data) - 8, "its length is known here"
    assert int.from_bytes(data[40:44], "little") == len(data) - 44


async def test_a_stream_is_the_wav_itself(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, json={"text": TEXT, "stream": True})
    assert answer.headers["content-type"] == "audio/wav"
    assert len(wav(answer.content)) == 0.2 * MOUTH_RATE


@pytest.mark.parametrize(("times", "status"), [(1, 200), (2, 503)])
async def test_an_empty_result_is_tried_once_more(tmp_path: Path, times: int, status: int) -> None:
    engines = ScriptedEngines()
    engines.voice = Mute(times)
    async with served(tmp_path, engines) as server, server.client() as client:
        assert (await client.post(PATH, json={"text": "Hello."})).status_code == status


class Imitator(ScriptedVoice):
    """Speaks as loud as the recordings that it is given."""

    def speaker_like(self, references: list[tuple[Path, str]]) -> Imitator:
        self.files = [file for file, _ in references]
        self.texts = [text for _, text in references]
        self.loud = max(float(np.abs(soundfile.read(file)[0]).max()) for file in self.files)
        return self

    async def speak(self, text: str):  # type: ignore[no-untyped-def]  # an async generator, as it is above
        yield Spoken(np.full(4800, self.loud, np.float32))


async def test_references_are_the_voice_and_are_gone_afterwards(tmp_path: Path) -> None:
    engines = ScriptedEngines()
    voice = engines.voice = Imitator()
    reference = {"audio_data": base64.b64encode(tone(2.0)).decode(), "text": "What Ann says."}
    async with served(tmp_path, engines) as server, server.client() as client:
        asked = {"text": "Hello.", "references": [reference]}
        refused = await client.post(PATH, json=asked)
        assert refused.status_code == 400 and error(refused)["param"] == "consent"
        for stream in (False, True):
            answer = await client.post(PATH, json={**asked, "consent": True, "stream": stream})
            assert answer.status_code == 200
            assert voice.texts == ["What Ann says."]
            assert not any(file.exists() for file in voice.files)
        for broken in ("no base64!", base64.b64encode(b"no recording").decode()):
            asked["references"] = [{"audio_data": broken, "text": "x"}]
            assert (await client.post(PATH, json={**asked, "consent": True})).status_code == 400


async def test_a_voice_that_cannot_imitate_says_so(client: httpx.AsyncClient) -> None:
    reference = {"audio_data": base64.b64encode(tone(2.0)).decode(), "text": "What Ann says."}
    answer = await client.post(PATH, json={"text": "Hello.", "references": [reference], "consent": True})
    assert answer.status_code == 400
    assert "choose it on the setup page" in error(answer)["message"]


@pytest.mark.parametrize("text", ["", "😀", "a" * 10_001])
async def test_a_text_that_cannot_be_said_is_told(client: httpx.AsyncClient, text: str) -> None:
    answer = await client.post(PATH, json={"text": text})
    assert answer.status_code == 400
    assert error(answer)["param"] == "text"


async def run(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "examples" / "client.py"), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_the_client_keeps_what_it_hears_and_says_what_went_wrong(guarded: Running, tmp_path: Path) -> None:
    file, endpoint = tmp_path / "said.wav", ("--endpoint", guarded.url + PATH)
    for stream in ((), ("--stream",)):
        status, told = await run(*endpoint, "--token", TOKEN, "--text", "Hello.", "--output", str(file), *stream)
        assert status == 0 and str(file) in told
        assert len(wav(file.read_bytes())) == 0.2 * MOUTH_RATE
    status, told = await run(*endpoint, "--token", "wrong")
    assert status == 1 and "Error 401: Send the token" in told
