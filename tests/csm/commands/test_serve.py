"""csm-serve on a tiny checkpoint of random weights: the stock SDK, the document's request, and those who may not."""

import base64
import http.client
import io
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from openai import BadRequestError, OpenAI

from csm.commands import serve
from csm.commands.cli import serve_command
from csm.commands.serve import SpeechServer, sentences
from csm.commands.voices import Voices
from csm.generator import load_csm_1b
from csm.sound.encoders import ENCODERS
from csm.synthesis import Generator
from tests.csm.tiny import write_checkpoint
from tests.support.recordings import AUDIO

KEY = "sixteen-characters"
JFK = AUDIO / "jfk.flac"


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return load_csm_1b("cpu", str(write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "csm")))


@pytest.fixture
def server(generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SpeechServer]:
    """The tiny model does not end by itself, so each sentence takes five frames."""
    monkeypatch.setattr("csm.session.frames_asked", lambda text, most: 5)
    server = SpeechServer(generator, Voices(tmp_path), ("127.0.0.1", 0), slots=2, key=KEY)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def sdk(server: SpeechServer) -> OpenAI:
    return OpenAI(base_url=f"http://127.0.0.1:{server.server_address[1]}/v1", api_key=KEY, max_retries=0)


def ask(server: SpeechServer, tree: Any, path: str = "/generate_audio", **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    sent = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}", **headers}
    connection.request("POST", path, tree if isinstance(tree, bytes) else json.dumps(tree), sent)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, json.loads(body) if "json" in (answer.headers["Content-Type"] or "") else body


FRAMES = 5 * 1920
HEAD = (
    f"POST /generate_audio HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
    "Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{"
).encode()


@pytest.mark.parametrize("format", ENCODERS)
def test_the_stock_sdk_hears_every_format(sdk: OpenAI, format: Any) -> None:
    data = sdk.audio.speech.create(model="csm", voice="alloy", input="Hello there. And again.", response_format=format)
    if format == "pcm":
        assert len(data.content) == 2 * 2 * FRAMES
        return
    with av.open(io.BytesIO(data.content), "r") as file:
        frames = list(file.decode(audio=0))
    seconds = sum(frame.samples / frame.sample_rate for frame in frames)
    assert seconds == pytest.approx(2 * FRAMES / 24_000, abs=0.1)


def test_events_carry_the_same_sound(server: SpeechServer) -> None:
    asked = {"input": "Hello there.", "response_format": "pcm", "stream_format": "sse"}
    status, body = ask(server, asked, "/v1/audio/speech")
    events = [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: ")]
    assert status == 200 and events[-1]["type"] == "speech.audio.done"
    assert len(b"".join(base64.b64decode(event["audio"]) for event in events[:-1])) == 2 * FRAMES


def test_several_are_spoken_together(server: SpeechServer) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda text: ask(server, {"text": text}), ["One is here."] * 4))
    for status, answer in answers:
        assert status == 200
        sound, rate = soundfile.read(io.BytesIO(base64.b64decode(answer["result"]["audio_data"])))
        assert (len(sound), rate) == (FRAMES, 24_000)


def test_a_reference_is_the_voice_and_needs_a_consent(server: SpeechServer) -> None:
    reference = {"audio_data": base64.b64encode(JFK.read_bytes()).decode(), "text": "And so my fellow Americans."}
    status, answer = ask(server, {"text": "Hello there.", "references": [reference]})
    assert status == 400 and answer["error"]["param"] == "consent"
    status, body = ask(server, {"text": "Hello there.", "references": [reference], "consent": True, "stream": True})
    assert status == 200 and body.startswith(b"RIFF\xff\xff\xff\xff")
    assert b"Synthetic speech" in body[:300]


def test_a_kept_voice_is_known_by_its_name(server: SpeechServer, sdk: OpenAI) -> None:
    server.voices.add("jfk", JFK, "And so my fellow Americans.")
    assert [voice["id"] for voice in sdk.get("/audio/voices", cast_to=dict)["voices"]] == ["jfk"]
    assert sdk.audio.speech.create(model="csm", voice="jfk", input="Hello.", response_format="pcm").content
    with pytest.raises(BadRequestError, match="no voice 'anna'"):
        sdk.audio.speech.create(model="csm", voice="anna", input="Hello.")


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({}, "input"), ({"input": " "}, "input"), ({"input": "a" * 10_001}, "input"), ({"input": "😀"}, None),
        ({"input": "Hi.", "response_format": "aac"}, "response_format"), ({"input": "Hi.", "speed": 2}, "speed"),
        ({"input": "Hi.", "response_format": ["mp3"]}, "response_format"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(server: SpeechServer, asked: dict[str, Any], param: str | None) -> None:
    status, answer = ask(server, asked, "/v1/audio/speech")
    assert status == 400
    assert answer["error"]["param"] == param and answer["error"]["message"].endswith(".")


def test_who_may_not_ask_is_turned_away(server: SpeechServer) -> None:
    asked = {"text": "Hello."}
    assert ask(server, asked, Authorization="Bearer wrong")[0] == 401
    assert ask(server, asked, Origin="http://evil.example")[0] == 403
    assert ask(server, asked, Host="evil.example")[0] == 421
    assert ask(server, asked, **{"Content-Type": "text/plain"})[0] == 415
    assert ask(server, b"[" * 100_000)[0] == 400
    assert ask(server, asked, **{"Content-Length": "9" * 5_000})[0] == 413
    assert ask(server, asked, "/elsewhere")[0] == 404


def test_too_many_are_told_when_to_come_again(server: SpeechServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_most", 0)
    status, answer = ask(server, {"text": "Hello."})
    assert status == 429 and answer["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize(
    ("seconds", "rate", "channels", "told"),
    [
        (90, 24_000, 1, "longer than 60 s"),
        (1, 655_350, 1, "this one has 1 at 655350 Hz"),
        (1, 24_000, 9, "this one has 9 at 24000 Hz"),
    ],
)
def test_a_small_reference_that_stands_for_much_is_not_decoded(
    server: SpeechServer, seconds: int, rate: int, channels: int, told: str
) -> None:
    file = io.BytesIO()
    soundfile.write(
        file, np.zeros((seconds * rate, channels), np.float32), rate, format="FLAC" if channels < 9 else "WAV"
    )
    reference = {"audio_data": base64.b64encode(file.getvalue()).decode(), "text": "And so."}
    status, answer = ask(server, {"text": "Hello.", "references": [reference], "consent": True})
    assert status == 400 and told in answer["error"]["message"]


def test_the_text_of_a_reference_is_limited(server: SpeechServer) -> None:
    reference = {"audio_data": base64.b64encode(JFK.read_bytes()).decode(), "text": "And so. " * 1_251}
    status, answer = ask(server, {"text": "Hello.", "references": [reference], "consent": True})
    assert status == 400 and "10000 characters" in answer["error"]["message"]


@pytest.mark.parametrize("sent", [b"", b"POST /generate_audio HT", b"POST /x HTTP/1.1\r\nX: ", HEAD])
def test_a_byte_now_and_then_keeps_no_connection(
    server: SpeechServer, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "PATIENCE_S", 0.3)
    with socket.create_connection(("127.0.0.1", server.server_address[1])) as slow:
        slow.sendall(sent)
        slow.settimeout(0.01)
        while True:
            with suppress(TimeoutError):
                assert slow.recv(1) == b""
                break
            slow.sendall(b" " if sent else b"G")
        assert ask(server, {"text": "One is here."})[0] == 200


def test_sentences_are_said_one_by_one_and_long_ones_are_cut() -> None:
    assert list(sentences("One. Two!\n\nThree? “Four.” 五。六")) == ["One.", "Two!", "Three?", "“Four.”", "五。", "六"]
    assert max(map(len, sentences("word, " * 500))) <= serve.SAID_AT_ONCE


def test_beyond_this_computer_a_key_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve_command(["--host", "0.0.0.0", "--key", "short"]) == 2
    assert "a key is needed" in capsys.readouterr().err
    assert serve_command(["--slots", "0"]) == 2
