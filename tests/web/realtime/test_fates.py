"""Every `response.create` has one fate: one `response.done`, or one `error` under its own name."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator

import numpy as np
import pytest

from pipeline.llm import Prompt
from pipeline.stt import Transcript
from tests.web.conftest import Running
from tests.web.realtime.test_protocol import eventually
from tests.web.realtime.wire import LOUD, SILENCE, Client
from web.realtime.pcm import ENCODINGS


async def spoken(client: Client) -> None:
    """A turn that nobody answers unasked."""
    await client.update(audio={"input": {"turn_detection": None}})
    await client.speak(LOUD, SILENCE)
    await client.send("input_audio_buffer.commit")
    await client.the("input_audio_buffer.committed")


class SlowHearing:
    """Words that are understood when the test says so."""

    understood = asyncio.Event()

    async def feed(self, samples: object) -> None:
        pass

    async def finish(self) -> Transcript:
        await self.understood.wait()
        return Transcript("what is the weather in paris", 28)

    async def close(self) -> None:
        pass


@pytest.fixture
def hearing(running: Running, monkeypatch: pytest.MonkeyPatch) -> SlowHearing:
    SlowHearing.understood = asyncio.Event()
    monkeypatch.setattr(running.engines.ears, "listen", SlowHearing, raising=False)
    return SlowHearing()


async def test_of_two_at_once_the_second_is_refused_by_its_name_and_leaves_the_first_alone(client: Client) -> None:
    await client.write("Hello")
    await client.send("response.create", event_id="one", response={"metadata": {"n": "1"}})
    await client.send("response.create", event_id="two", response={"metadata": {"n": "2"}})
    told = await client.until("response.done")
    (error,) = [event["error"] for event in told if event["type"] == "error"]
    assert (error["event_id"], error["code"]) == ("two", "conversation_already_has_active_response")
    assert [event["type"] for event in told].count("response.created") == 1
    assert told[-1]["response"]["metadata"] == {"n": "1"}
    assert told[-1]["response"]["status"] == "completed"


@pytest.mark.parametrize("understood", [False, True])
async def test_what_is_cancelled_at_once_is_done_once_and_the_next_is_answered(
    running: Running, hearing: SlowHearing, *, understood: bool
) -> None:
    async with running.connect() as socket:
        client = Client(socket)
        await client.the("session.created")
        await spoken(client)
        if understood:
            hearing.understood.set()
            await client.the("conversation.item.input_audio_transcription.completed")
        await client.send("response.create", response={"metadata": {"n": "1"}})
        await client.send("response.cancel")
        done = (await client.the("response.done"))["response"]
        assert (done["status"], done["metadata"]) == ("cancelled", {"n": "1"})
        assert done["status_details"]["reason"] == "client_cancelled"
        await client.send("response.cancel")
        assert (await client.error())["code"] == "response_cancel_not_active"
        hearing.understood.set()
        await client.send("response.create", response={"metadata": {"n": "2"}})
        told = await client.until("response.done")
    assert (told[-1]["response"]["status"], told[-1]["response"]["metadata"]) == ("completed", {"n": "2"})
    assert [event["type"] for event in told].count("response.created") == 1
    last = running.engines.mind.prompts[-1].history
    assert [message.text for message in last] == ["what is the weather in paris"]


async def test_what_was_typed_stays_said_when_its_reply_is_cancelled(running: Running, hearing: SlowHearing) -> None:
    async with running.connect() as socket:
        client = Client(socket)
        await client.the("session.created")
        await spoken(client)
        await client.write("and tomorrow?")
        await client.send("response.create")
        await client.send("response.cancel")
        await client.the("response.done")
        hearing.understood.set()
        await client.the("conversation.item.input_audio_transcription.completed")
        await client.write("well?")
        await client.send("response.create")
        assert (await client.the("response.done"))["response"]["status"] == "completed"
    said = [message.text for message in running.engines.mind.prompts[-1].history]
    assert sorted(said) == ["and tomorrow?", "well?", "what is the weather in paris"]


async def test_a_reply_apart_disturbs_nothing_and_is_not_remembered(running: Running, client: Client) -> None:
    await client.write("My name is Ann.")
    await client.send("response.create")
    first = (await client.the("response.done"))["response"]
    running.engines.mind.text = "Small talk."
    given = [
        {"type": "item_reference", "id": first["output"][0]["id"]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What was that?"}]},
    ]
    options = {
        "conversation": "none",
        "metadata": {"topic": "yes"},
        "output_modalities": ["text"],
        "instructions": "Name the topic.",
        "input": given,
    }
    await client.send("response.create", response=options)
    told = await client.until("response.done")
    response = told[-1]["response"]
    assert (response["conversation_id"], response["metadata"]) == (None, {"topic": "yes"})
    assert response["output"][0]["content"] == [{"type": "output_text", "text": "Small talk. "}]
    assert not [event for event in told if event["type"].startswith("conversation.item")]
    prompt = running.engines.mind.prompts[-1]
    assert prompt.persona == "Name the topic."
    assert [each.text for each in prompt.history] == ["It is sunny. Shall we go out?", "What was that?"]
    await client.write("And mine?")
    await client.send("response.create")
    await client.until("response.done")
    assert "Small talk." not in [each.text for each in running.engines.mind.prompts[-1].history]


async def test_a_reply_apart_is_cancelled_by_its_name_alone(
    running: Running, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(prompt: Prompt) -> AsyncGenerator[str, None]:
        yield "Well"
        await asyncio.Event().wait()

    monkeypatch.setattr(running.engines.mind, "reply", never)
    for number in "12":
        options = {"conversation": "none", "metadata": {"n": number}, "output_modalities": ["text"], "input": []}
        await client.send("response.create", response=options)
    ids = [(await client.the("response.created"))["response"]["id"] for _ in "12"]
    await client.send("response.cancel", response_id=ids[1])
    done = (await client.the("response.done"))["response"]
    assert (done["id"], done["status"], done["metadata"]) == (ids[1], "cancelled", {"n": "2"})


async def test_a_reply_can_be_made_from_what_it_is_given_in_place_of_what_was_said(
    running: Running, client: Client
) -> None:
    await client.write("Forget me.")
    await client.send("response.create", response={"input": [], "instructions": "Greet."})
    assert (await client.the("response.done"))["response"]["conversation_id"]
    assert running.engines.mind.prompts[-1].history == ()
    await client.write("Who was that?")
    await client.send("response.create")
    await client.until("response.done")
    said = [each.text for each in running.engines.mind.prompts[-1].history]
    assert said == ["Forget me.", "It is sunny. Shall we go out?", "Who was that?"]


async def test_a_mind_that_fails_gives_a_failed_response(running: Running, client: Client) -> None:
    running.engines.mind.error = "The mind has gone."
    await client.write("Hello")
    await client.send("response.create", response={"output_modalities": ["text"]})
    done = (await client.the("response.done"))["response"]
    assert (done["status"], done["status_details"]["error"]["message"]) == ("failed", "The mind has gone.")


async def test_a_written_reply_comes_whole_and_without_sound(running: Running, client: Client) -> None:
    await client.update(output_modalities=["text"])
    await client.speak(LOUD, SILENCE)
    told = await client.until("response.done")
    text = "".join(event["delta"] for event in told if event["type"] == "response.output_text.delta")
    assert text.strip() == "It is sunny. Shall we go out?"
    assert not [event for event in told if event["type"].startswith("response.output_audio")]
    assert told[-1]["response"]["output"][0]["content"] == [{"type": "output_text", "text": text}]
    await client.write("And?")
    await client.send("response.create")
    await client.until("response.done")
    assert "It is sunny. Shall we go out?" in [each.text for each in running.engines.mind.prompts[-1].history]


async def test_a_transcription_session_is_heard_and_never_answered(running: Running) -> None:
    async with running.connect("?intent=transcription") as socket:
        client = Client(socket)
        session = (await client.the("session.created"))["session"]
        assert session["type"] == "transcription"
        await client.send("session.update", session={"type": "transcription", "audio": {"input": {}}})
        await client.the("session.updated")
        await client.speak(LOUD, SILENCE)
        said = await client.the("conversation.item.input_audio_transcription.completed")
        assert said["transcript"] == "what is the weather in paris"
        await client.send("response.create", event_id="mine")
        assert (await client.error())["event_id"] == "mine"
    assert running.engines.mind.prompts == []


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
async def test_a_telephone_speaks_and_hears(running: Running, client: Client, kind: str) -> None:
    encoding = ENCODINGS[kind]
    await client.update(audio={"input": {"format": {"type": kind}}, "output": {"format": {"type": kind}}})
    tone = (0.3 * np.sin(np.arange(8000))).astype(np.float32)
    for sound in (tone, np.zeros(8000, np.float32)):
        payload = base64.b64encode(encoding.encode(sound)).decode()
        await client.send("input_audio_buffer.append", audio=payload)
    told = await client.until("response.done")
    deltas = [each["delta"] for each in told if each["type"] == "response.output_audio.delta"]
    heard = encoding.decode(b"".join(base64.b64decode(delta) for delta in deltas))
    assert len(heard) == 3200  # 0.4 s
    assert np.abs(heard[200:-200] - 0.25).max() < 0.02
    await eventually(lambda: running.service.turns.last(1))
    assert running.service.turns.last(1)[0].heard == "It is sunny. Shall we go out?"
