"""`/v1/audio/transcriptions` with scripted ears: forms, formats, streams, and what is no recording."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
import webvtt

from pipeline.audio import Samples
from pipeline.stt import CannotFulfil, TranscriptionWishes, Word, Written
from tests.web.api.audio.conftest import silence, tone, video
from tests.web.api.audio.test_speech import error
from tests.web.conftest import Running
from tests.web.scripted import ScriptedEars

PATH = "/v1/audio/transcriptions"


class Writing(ScriptedEars):
    """Ears that know when each word was said."""

    def __init__(self) -> None:
        super().__init__("It is warm, <b>Tom & Ann</b>. Is it sunny?")
        self.wishes: list[TranscriptionWishes] = []

    async def write_down(self, sound: Samples, wishes: TranscriptionWishes) -> Written:
        self.wishes.append(wishes)
        if wishes.language == "xx":
            raise CannotFulfil("Whisper does not know the language 'xx'.")
        spoken = self.text.split()
        words = [Word(f" {word}", 0.1 * number, 0.1 * number + 0.1) for number, word in enumerate(spoken)]
        return Written(self.text, tuple(words), "en", -0.2, 0.01)


@pytest.fixture
def ears(running: Running) -> Writing:
    running.engines.ears = Writing()
    return running.engines.ears  # type: ignore[no-any-return]


async def sent(
    client: httpx.AsyncClient, fields: Mapping[str, Any] | None = None, *, path: str = PATH, file: bytes | None = None
) -> httpx.Response:
    """A form as clients send it, with a second of speech."""
    files = {"file": ("speech.wav", tone() if file is None else file)}
    return await client.post(path, files=files, data={"model": "whisper-1", **(fields or {})})


@pytest.mark.parametrize("path", [PATH, "/audio/transcriptions"])
async def test_json_is_the_text(client: httpx.AsyncClient, ears: Writing, path: str) -> None:
    answer = await sent(client, path=path)
    assert answer.json() == {"text": ears.text, "usage": {"type": "duration", "seconds": 1}}


async def test_a_films_sound_is_written_down(client: httpx.AsyncClient, ears: Writing) -> None:
    assert (await sent(client, file=video())).json()["text"] == ears.text


async def test_text_is_nothing_else(client: httpx.AsyncClient, ears: Writing) -> None:
    answer = await sent(client, {"response_format": "text"})
    assert answer.text == f"{ears.text}\n"
    assert answer.headers["content-type"].startswith("text/plain")


async def test_srt_is_read_by_a_library(client: httpx.AsyncClient, ears: Writing) -> None:
    text = (await sent(client, {"response_format": "srt"})).text
    cues = webvtt.from_buffer(io.StringIO(text), format="srt").captions
    assert [cue.raw_text for cue in cues] == ["It is warm, <b>Tom & Ann</b>.", "Is it sunny?"]
    assert re.findall(r"^\d+$", text, re.MULTILINE) == ["1", "2"]
    assert all(cue.start < cue.end for cue in cues)
    assert cues[0].end <= cues[1].start


async def test_vtt_is_read_by_a_library_and_has_no_markup_of_ours(client: httpx.AsyncClient, ears: Writing) -> None:
    answer = await sent(client, {"response_format": "vtt"})
    assert answer.headers["content-type"].startswith("text/vtt")
    cues = webvtt.from_string(answer.text).captions
    assert [cue.raw_text for cue in cues] == ["It is warm, &lt;b&gt;Tom &amp; Ann&lt;/b&gt;.", "Is it sunny?"]
    assert cues[0].end_in_seconds <= cues[1].start_in_seconds


async def test_verbose_json_has_segments_where_nothing_is_said_of_them(
    client: httpx.AsyncClient, ears: Writing
) -> None:
    verbose = (await sent(client, {"response_format": "verbose_json"})).json()
    assert {"task", "language", "duration", "text", "segments", "usage"} == set(verbose)
    assert (verbose["task"], verbose["language"], verbose["duration"]) == ("transcribe", "en", 1.0)
    first, second = verbose["segments"]
    assert (first["id"], second["id"]) == (0, 1)
    assert 0 <= first["start"] < first["end"] <= second["start"] < second["end"]
    assert first["avg_logprob"] == -0.2 and first["no_speech_prob"] == 0.01


@pytest.mark.parametrize("name", ["timestamp_granularities[]", "timestamp_granularities"])
async def test_words_are_told_where_they_are_asked_for(client: httpx.AsyncClient, ears: Writing, name: str) -> None:
    verbose = (await sent(client, {"response_format": "verbose_json", name: "word"})).json()
    assert "segments" not in verbose
    assert [word["word"] for word in verbose["words"]] == [word.strip("<>.,?!") for word in ears.text.split()]
    both = (await sent(client, {"response_format": "verbose_json", name: ["word", "segment"]})).json()
    assert both["words"] and both["segments"]


async def test_marks_between_words_are_no_words(client: httpx.AsyncClient, ears: Writing) -> None:
    ears.text = "Hello , Ann 's “dear” $5 C++ — !"
    verbose = (await sent(client, {"response_format": "verbose_json", "timestamp_granularities[]": "word"})).json()
    assert [word["word"] for word in verbose["words"]] == ["Hello", "Ann", "s", "dear", "$5", "C++"]


async def test_a_stream_is_of_no_other_shape(client: httpx.AsyncClient, ears: Writing) -> None:
    answer = await sent(client, {"response_format": "srt", "stream": "true"})
    assert answer.status_code == 400 and "leave out response_format srt" in error(answer)["message"]


async def test_deltas_joined_are_the_text(client: httpx.AsyncClient, ears: Writing) -> None:
    answer = await sent(client, {"stream": "true"})
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [event["type"] for event in events] == ["transcript.text.delta", "transcript.text.done"]
    assert "".join(event["delta"] for event in events[:-1]) == events[-1]["text"] == ears.text


async def test_wishes_reach_the_ears(client: httpx.AsyncClient, ears: Writing) -> None:
    await sent(client, {"language": "de-AT", "prompt": "Parley", "temperature": "0.4"})
    await sent(client, {"language": "", "temperature": ""}, path="/v1/audio/translations")
    assert ears.wishes == [TranscriptionWishes("de", "Parley", False, 0.4), TranscriptionWishes(None, "", True, 0.0)]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "docx"}, "response_format"),
        ({"temperature": "9"}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"timestamp_granularities[]": "syllable"}, "timestamp_granularities.0"),
        ({"stream": "perhaps"}, "stream"),
        ({"language": "xx"}, "language"),
    ],
)
async def test_what_is_wrong_is_told(
    client: httpx.AsyncClient, ears: Writing, fields: dict[str, str], param: str | None
) -> None:
    answer = await sent(client, fields)
    assert answer.status_code == 400
    assert error(answer)["param"] == param


@pytest.mark.parametrize("file", [b"", b"no recording at all", tone(format="FLAC")[:300]])
async def test_what_is_no_recording_is_told(client: httpx.AsyncClient, ears: Writing, file: bytes) -> None:
    answer = await sent(client, file=file)
    assert answer.status_code == 400
    assert error(answer)["param"] == "file"


async def test_a_form_without_a_file_is_told(client: httpx.AsyncClient, ears: Writing) -> None:
    for options in ({"files": {"other": ("a.wav", tone())}}, {"files": {"file": (None, "text")}}):
        answer = await client.post(PATH, **options)
        assert answer.status_code == 400
        assert error(answer)["param"] == "file"
    answer = await client.post(PATH, content=b"--x", headers={"Content-Type": "multipart/form-data"})
    assert answer.status_code == 400
    error(answer)


async def test_silence_is_an_empty_text(client: httpx.AsyncClient, running: Running, ears: Writing) -> None:
    answer = await sent(client, file=silence(3.0))
    assert answer.json()["text"] == ""
    assert not ears.wishes, "nothing was listened to"
    assert (await sent(client, {"response_format": "srt"}, file=silence(1.0))).text.strip() == ""
    assert webvtt.from_string((await sent(client, {"response_format": "vtt"}, file=silence(1.0))).text).captions == []


async def test_ears_that_know_no_words_write_down_what_they_can(client: httpx.AsyncClient, running: Running) -> None:
    assert (await sent(client)).json()["text"] == running.engines.ears.text
    answer = await sent(client, {"response_format": "verbose_json", "timestamp_granularities[]": "word"})
    assert "choose Whisper" in error(answer)["message"]
    assert (await sent(client, path="/v1/audio/translations")).status_code == 400


async def test_what_is_larger_than_the_setting_is_refused_and_a_setting_makes_room(
    client: httpx.AsyncClient, running: Running, ears: Writing
) -> None:
    running.service.settings.api.upload_mb = 1
    large = tone(30.0)
    assert len(large) > 1_400_000
    refused = await sent(client, file=large)
    assert refused.status_code == 413
    error(refused)
    running.service.settings.api.upload_mb = 2
    assert (await sent(client, file=large)).status_code == 200


async def test_what_is_longer_than_the_setting_is_refused(
    client: httpx.AsyncClient, running: Running, ears: Writing
) -> None:
    running.service.settings.api.longest_h = 0.5 / 3600
    answer = await sent(client)
    assert answer.status_code == 400
    assert "is longer than" in error(answer)["message"]


async def test_an_upload_that_is_cut_off_leaves_nothing_behind(running: Running, ears: Writing) -> None:
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: {running.host}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        "Content-Length: 100000\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    )
    _, writer = await asyncio.open_connection("127.0.0.1", running.address.port)
    writer.write(head.encode() + tone()[:1000])
    await writer.drain()
    writer.close()
    async with running.client() as client:
        assert (await sent(client)).status_code == 200
    assert len(ears.wishes) == 1


async def test_a_foreign_page_cannot_send_a_form(running: Running, client: httpx.AsyncClient, ears: Writing) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = await client.post(PATH, files={"file": ("a.wav", tone())}, headers=headers)
        assert answer.status_code == 403
        error(answer)
    assert not ears.wishes
    settings = await client.post("/api/notices", files={"file": ("a.wav", tone())})
    assert settings.status_code == 415, "elsewhere forms are refused as ever"
