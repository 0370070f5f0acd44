"""Voices made from recordings, by the stock SDK: never without a consent, which outlives them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError, ConflictError, NotFoundError

from tests.web.api.audio.conftest import silence, tone
from tests.web.api.audio.test_generate import Imitator
from tests.web.api.audio.test_speech import error
from tests.web.api.audio.test_transcriptions import Writing
from tests.web.conftest import Running

SAMPLE = ("ann.wav", tone(4.0))


@pytest.fixture
async def sdk(running: Running) -> AsyncIterator[AsyncOpenAI]:
    running.engines.ears = Writing()
    async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_a_voice_from_its_consent_to_its_end(running: Running, sdk: AsyncOpenAI) -> None:
    voice = running.engines.voice = Imitator()
    consent = await sdk.audio.voice_consents.create(name="Ann", language="en-US", recording=SAMPLE)
    assert consent.object == "audio.voice_consent"
    made = await sdk.audio.voices.create(name="Ann", audio_sample=SAMPLE, consent=consent.id)
    assert (made.object, made.type, made.name) == ("audio.voice", "audio_sample", "Ann")
    assert (await sdk.audio.voice_consents.retrieve(consent.id)).name == "Ann"
    assert [each.id async for each in sdk.audio.voice_consents.list()] == [consent.id]

    for name in (made.id, "Ann", {"id": made.id}):
        await sdk.audio.speech.create(model="tts-1", voice=name, input="Hello.")  # type: ignore[arg-type]
        assert voice.texts == [running.engines.ears.text], "its words were written down by the ears"
        assert [file.name for file in voice.files] == ["sample.flac"]

    async with running.client() as client:
        offered = (await client.get("/v1/audio/voices")).json()
        assert {"id": made.id, "name": "Ann"} in offered["voices"]

    with pytest.raises(ConflictError, match="delete the voice first"):
        await sdk.audio.voice_consents.delete(consent.id)
    assert (await sdk.delete(f"/audio/voices/{made.id}", cast_to=httpx.Response)).json()["deleted"] is True
    assert [each.id async for each in sdk.audio.voice_consents.list()] == [consent.id], "it is kept"
    assert not [*(running.data / "voices" / "made").iterdir()]
    assert (await sdk.audio.voice_consents.update(consent.id, name="Ann B.")).name == "Ann B."
    assert (await sdk.audio.voice_consents.delete(consent.id)).deleted
    assert not [*(running.data / "voices" / "consents").iterdir()]
    with pytest.raises(NotFoundError):
        await sdk.audio.voice_consents.retrieve(consent.id)


async def test_without_a_consent_there_is_no_voice(running: Running, sdk: AsyncOpenAI) -> None:
    for consent in ("", "cons_0000000000000000", "../../settings"):
        with pytest.raises(BadRequestError, match="no such consent"):
            await sdk.audio.voices.create(name="Ann", audio_sample=SAMPLE, consent=consent)
    assert not (running.data / "voices" / "made").exists()


async def test_what_is_no_voice_is_told(sdk: AsyncOpenAI) -> None:
    consent = await sdk.audio.voice_consents.create(name="Ann", language="en-US", recording=SAMPLE)
    for sample, why in (
        (("a.wav", silence(4.0)), "Nobody speaks"),
        (("a.wav", tone(1.0)), "1.00 s long"),
        (("a.wav", tone(61.0)), "longer than 60 seconds"),
        (("a.wav", b"nothing"), "is not a recording"),
    ):
        with pytest.raises(BadRequestError, match=why):
            await sdk.audio.voices.create(name="Ann", audio_sample=sample, consent=consent.id)
    with pytest.raises(BadRequestError, match="name is missing"):
        await sdk.audio.voices.create(name=" ", audio_sample=SAMPLE, consent=consent.id)
    await sdk.audio.voices.create(name="Ann", audio_sample=SAMPLE, consent=consent.id)
    with pytest.raises(ConflictError, match="already"):
        await sdk.audio.voices.create(name="Ann", audio_sample=SAMPLE, consent=consent.id)
    with pytest.raises(BadRequestError, match="Only CSM-1B"):
        await sdk.audio.speech.create(model="tts-1", voice="Ann", input="Hello.")


async def test_silence_is_no_consent_and_paths_are_no_ids(running: Running, sdk: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError, match="say that you agree"):
        await sdk.audio.voice_consents.create(name="Ann", language="en-US", recording=("a.wav", silence(4.0)))
    kept = running.data / "settings.json"
    kept.write_text("{}")
    async with running.client() as client:
        for id in ("..%2F..%2Fsettings.json", "..", "voice_x"):
            answer = await client.delete(f"/v1/audio/voices/{id}", headers={"Content-Type": "application/json"})
            assert answer.status_code in (404, 405)
        answer = await client.get("/v1/audio/voices/nobody")
        assert answer.status_code == 404
        error(answer)
    assert kept.exists()


def test_recordings_are_for_their_owners_eyes(tmp_path: Path) -> None:
    """By the umask that the server begins with; what is damaged or another's is passed over."""
    from web.voices import Voices

    voices = Voices(tmp_path)
    folder = tmp_path / "voices" / "made" / "voice_0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "about.json").write_text("{")
    assert voices.all() == []
    (folder / "about.json").write_text(
        '{"id": "voice_ffffffffffffffff", "name": "x", "text": "x", "consent": "x", "created_at": 1}'
    )
    assert voices.all() == [], "an id that is not its folder's"


async def test_a_field_twice_is_told_and_a_delete_needs_no_body(running: Running, sdk: AsyncOpenAI) -> None:
    consent = await sdk.audio.voice_consents.create(name="Ann", language="en-US", recording=("a.wav", tone(4.0)))
    async with running.client() as client:
        for fields in ({"text": ["a", "b"]}, {"text[]": "a"}, {"name": ["a", "b"]}):
            data = {"name": "Ann", "consent": consent.id, **fields}
            answer = await client.post("/v1/audio/voices", data=data, files={"audio_sample": ("a.wav", tone(4.0))})
            assert (answer.status_code, error(answer)["message"][-13:]) == (400, "must be text.")
        gone = await client.delete(f"/v1/audio/voice_consents/{consent.id}")
        assert gone.status_code == 200, "curl sends no type without a body"
        foreign = await client.delete("/v1/audio/voices/nobody", headers={"Origin": "http://evil.example"})
        assert foreign.status_code == 403


async def test_a_name_that_means_a_voice_already_is_not_taken(sdk: AsyncOpenAI) -> None:
    consent = await sdk.audio.voice_consents.create(name="Ann", language="en-US", recording=SAMPLE)
    for name in ("alloy", "Alloy", "af_heart", "parley", "en-gb", "en-gb+f3"):
        with pytest.raises(
            ConflictError, match=f"There is already a voice named {re.escape(name)}: choose another name"
        ):
            await sdk.audio.voices.create(name=name, audio_sample=SAMPLE, consent=consent.id)


async def test_of_two_voices_of_one_name_at_once_one_is_made(sdk: AsyncOpenAI) -> None:
    consent = await sdk.audio.voice_consents.create(name="Ann", language="en-US", recording=SAMPLE)
    making = [sdk.audio.voices.create(name=name, audio_sample=SAMPLE, consent=consent.id) for name in ("Ann", "ann")]
    made = await asyncio.gather(*making, return_exceptions=True)
    assert sum(isinstance(each, ConflictError) for each in made) == 1
