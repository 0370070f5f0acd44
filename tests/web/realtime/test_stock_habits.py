"""What stock clients do, and did not survive: each of these was refused, lost or told in a way that broke one."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from pipeline.conversation import events
from tests.web.conftest import Running, served
from tests.web.realtime.wire import LOUD, SILENCE, Client, Told
from tests.web.scripted import ScriptedEngines
from web.realtime import events as wire
from web.realtime.narrator import Narrator


async def test_a_spoken_items_transcript_is_there_before_its_words_are(client: Client) -> None:
    """agents-realtime in Node ends over an item with sound that has no `transcript` at all."""
    await client.speak(LOUD, SILENCE)
    item = (await client.the("conversation.item.added"))["item"]
    assert item["content"] == [{"type": "input_audio", "transcript": None}]
    assert (await client.the("response.created"))["response"]["usage"] is None


async def test_what_is_asked_before_the_session_is_there_is_done_when_it_is(tmp_path: Path) -> None:
    """openai-agents sends session.update before session.created, and not again."""
    engines = ScriptedEngines()
    engines.failing = "loading"
    async with served(tmp_path, engines) as running, running.connect() as socket:
        client = Client(socket)
        await client.error()
        await client.send("session.update", session={"type": "realtime", "instructions": "Be brief.", "colour": "red"})
        await client.send("conversation.item.delete", item_id="nothing", event_id="mine")
        engines.failing = ""
        engines.change()
        first, second, *_ = await client.until("session.updated")
        assert first["type"] == "session.created"
        assert second["error"]["param"] == "session.colour", "which waits for it as well"
        error = await client.error()
        assert (error["event_id"], error["code"]) == ("mine", "item_delete_invalid_item_id")


FIELDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"threshold": 1.0}, {"threshold": 0.95}),
    ({"threshold": None, "prefix_padding_ms": None, "silence_duration_ms": None}, {}),
    ({"silence_duration_ms": 20_000}, {"silence_duration_ms": 20_000}),
    ({"silence_duration_ms": 0, "prefix_padding_ms": 9000}, {"silence_duration_ms": 100, "prefix_padding_ms": 9000}),
    ({"interrupt_response": False}, {"interrupt_response": False}),
    ({"interrupt_response": None, "create_response": None}, {"interrupt_response": True, "create_response": True}),
    ({"idle_timeout_ms": 6000}, {}),
]


async def test_the_published_fields_of_turn_detection_are_taken(client: Client) -> None:
    for given, expected in FIELDS:
        session = await client.update(audio={"input": {"turn_detection": {"type": "server_vad", **given}}})
        told = session["audio"]["input"]["turn_detection"]
        assert {name: told[name] for name in expected} == expected, given


async def test_the_published_fields_of_a_session_are_taken(client: Client) -> None:
    session = await client.update(
        instructions="Be brief. " * 5000,
        tracing="auto",
        prompt=None,
        reasoning={"effort": "low"},
        truncation="auto",
        include=["item.input_audio_transcription.logprobs"],
        max_output_tokens="inf",
        parallel_tool_calls=True,
        tools=None,
        audio={
            "input": {
                "noise_reduction": None,
                "transcription": {
                    "model": "gpt-4o-transcribe", "delay": "low", "keywords": ["Ann"], "languages": ["en"], "prompt": ""
                },
            },
            "output": {"speed": 1.2, "voice": {"id": "voice_1"}, "format": None},
        },
    )  # fmt: skip
    assert len(session["instructions"]) == 50_000
    assert (await client.update(max_output_tokens=50))["max_output_tokens"] == 50


async def test_one_field_that_is_not_possible_does_not_lose_the_rest(client: Client) -> None:
    given = {
        "instructions": "Be brief.",
        "dance": True,
        "tools": [{"type": "mcp", "server_label": "a", "server_url": "http://a/"}, {"type": "function", "name": "b"}],
        "audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 7, "silence_duration_ms": 900}}},
    }  # fmt: skip
    await client.send("session.update", session={"type": "realtime", **given}, event_id="mine")
    told = await client.until("session.updated")
    errors = [event["error"] for event in told if event["type"] == "error"]
    assert {error["param"] for error in errors} == {
        "session.dance",
        "session.tools.0",
        "session.audio.input.turn_detection.threshold",
    }
    assert {error["event_id"] for error in errors} == {"mine"}
    assert "setup page" in next(error["message"] for error in errors if error["param"] == "session.tools.0")
    session = told[-1]["session"]
    assert session["instructions"] == "Be brief."
    assert session["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 900
    assert [tool["name"] for tool in session["tools"]] == ["b"]


async def test_what_is_left_out_of_turn_detection_stays_as_it_was(client: Client) -> None:
    async def updated(**vad: Any) -> Told:
        await client.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": vad}}})
        return (await client.the("session.updated"))["session"]["audio"]["input"]["turn_detection"]  # type: ignore[no-any-return]

    first = await updated(type="server_vad", threshold=0.3, silence_duration_ms=900, create_response=False)
    assert await updated(type="server_vad", threshold=7) == first, "one that is not possible is left out"
    assert await updated(type="server_vad", silence_duration_ms=700) == {**first, "silence_duration_ms": 700}
    assert "silence_duration_ms" not in await updated(type="server_vad", silence_duration_ms=None)
    other = await updated(type="semantic_vad", eagerness="low")
    assert (other["type"], other["create_response"]) == ("semantic_vad", True), "of another kind it begins anew"


async def test_items_are_put_where_they_are_wanted(running: Running, client: Client) -> None:
    """LiveKit writes its own history: at the root, after any item, and echoes of what it said."""
    second = await client.write("second")
    first = await client.write("first", previous_item_id="root")
    await client.send(
        "conversation.item.create",
        previous_item_id=first["id"],
        item={"id": "mid", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "mid"}]},
    )
    added = await client.the("conversation.item.added")
    assert (added["previous_item_id"], second["id"]) == (first["id"], second["id"])
    await client.send("response.create")
    await client.until("response.done")
    assert [message.text for message in running.engines.mind.prompts[-1].history] == ["first", "mid", "second"]


CODES: list[tuple[str, dict[str, Any], str]] = [
    ("conversation.item.retrieve", {"item_id": "x"}, "item_retrieve_invalid_item_id"),
    ("conversation.item.delete", {"item_id": "x"}, "item_delete_invalid_item_id"),
    ("conversation.item.truncate", {"item_id": "x", "audio_end_ms": 0}, "item_truncate_invalid_item_id"),
    ("input_audio_buffer.commit", {}, "input_audio_buffer_commit_empty"),
    ("response.cancel", {}, "response_cancel_not_active"),
]


async def test_errors_have_the_codes_that_clients_look_for(client: Client) -> None:
    for type, fields, code in CODES:
        await client.send(type, **fields)
        error = await client.error()
        assert error["code"] == code
    assert error["message"].startswith("Cancellation failed")
    item = {"id": "mine", "type": "message", "role": "system", "content": [{"type": "input_text", "text": "Hi."}]}
    await client.send("conversation.item.create", item=item)
    await client.send("conversation.item.create", item=item)
    assert (await client.error())["code"] == "item_create_duplicate_item_id"
    await client.send("conversation.item.create", item={**item, "id": "other"}, previous_item_id="nothing")
    assert (await client.error())["code"] == "item_create_invalid_previous_item_id"


async def test_a_truncation_may_be_late_and_round_up(running: Running, client: Client) -> None:
    running.engines.voice.seconds = 0.2001  # 2401 samples: no whole milliseconds
    await client.speak(LOUD, SILENCE)
    reply = (await client.the("response.done"))["response"]["output"][0]["id"]
    await client.send("conversation.item.truncate", item_id=reply, content_index=0, audio_end_ms=401)
    assert (await client.the("conversation.item.truncated"))["item_id"] == reply
    await client.send("conversation.item.truncate", item_id=reply, content_index=0, audio_end_ms=210)
    await client.send("conversation.item.retrieve", item_id=reply)
    item = (await client.the("conversation.item.retrieved"))["item"]
    assert item["content"][0]["transcript"] == "It is sunny."


async def test_a_reply_that_was_taken_back_can_still_be_truncated(running: Running, client: Client) -> None:
    running.engines.voice.seconds = 60.0
    await client.speak(LOUD, SILENCE)
    reply = (await client.the("response.output_audio.delta"))["item_id"]
    await client.speak(LOUD, SILENCE)  # the user goes on: the reply never was
    while (await client.the("conversation.item.deleted"))["item_id"] != reply:
        pass
    await client.send("conversation.item.truncate", item_id=reply, content_index=0, audio_end_ms=10)
    assert (await client.the("conversation.item.truncated"))["audio_end_ms"] == 10


async def test_a_replys_tokens_are_counted(client: Client) -> None:
    await client.speak(LOUD, SILENCE)
    usage = (await client.the("response.done"))["response"]["usage"]
    assert usage["input_token_details"]["audio_tokens"] >= 10  # a second of speech
    assert usage["output_token_details"] == {"audio_tokens": 8, "text_tokens": 12}  # 0.4 s; 29 letters
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 20


async def test_a_reply_that_may_not_be_interrupted_is_not(running: Running, client: Client) -> None:
    vad = {"type": "server_vad", "interrupt_response": False}
    await client.update(audio={"input": {"turn_detection": vad}})
    await client.write("Tell me a story")
    await client.send("response.create")
    await client.until("response.output_audio.delta")
    await client.speak(LOUD, SILENCE)
    assert (await client.the("response.done"))["response"]["status"] == "completed"
    async with asyncio.TaskGroup() as tasks:  # what was said over it is answered
        answered = tasks.create_task(client.the("response.done"))
        while not answered.done():  # the conversation's clock is the sound that it gets
            await client.speak(SILENCE[:2400])
            await asyncio.sleep(0.01)
    assert answered.result()["response"]["status"] == "completed"
    assert "what is the weather in paris" in [each.text for each in running.engines.mind.prompts[-1].history]


def test_the_words_of_turns_that_overlap_are_kept_apart() -> None:
    narrator = Narrator("c")
    happened: list[events.Event] = [
        events.SpeechStarted(1, 0, 0),
        events.PartialTranscript(1, 0, "good morning", 12),
        events.SpeechStopped(1, 0, 16_000, "silence"),
        events.SpeechStarted(2, 0, 32_000),
        events.PartialTranscript(2, 0, "how are", 7),
        events.UserSaid(1, 0, "good morning Ann"),
        events.SpeechStopped(2, 0, 64_000, "silence"),
        events.UserSaid(2, 0, "how are you"),
    ]
    told = [each for event in happened for each in narrator.tell(event)]
    deltas = [(each.item_id, each.delta) for each in told if isinstance(each, wire.TranscriptionDelta)]
    assert deltas == [
        ("item_user_1", "good morning"),
        ("item_user_2", "how are"),
        ("item_user_1", " Ann"),
        ("item_user_2", " you"),
    ]
    seconds = [each.usage.seconds for each in told if isinstance(each, wire.TranscriptionCompleted)]
    assert seconds == [1.0, 2.0]


async def test_a_client_of_the_beta_is_spoken_to_in_its_names(running: Running) -> None:
    async with running.connect(additional_headers={"OpenAI-Beta": "realtime=v1"}) as socket:
        client = Client(socket)

        async def until(last: str) -> list[dict[str, Any]]:
            seen: list[dict[str, Any]] = []
            while not seen or seen[-1]["type"] != last:
                seen.append(json.loads(await socket.recv()))
            return seen

        session = (await until("session.created"))[-1]["session"]
        assert session["modalities"] == ["audio", "text"]
        assert session["input_audio_format"] == "pcm16"
        beta = {
            "modalities": ["text", "audio"],
            "voice": "alloy",
            "input_audio_format": "pcm16",
            "input_audio_transcription": {"model": "whisper-1"},
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 300},
            "temperature": 0.8,
            "max_response_output_tokens": "inf",
            "tools": [],
        }
        await client.send("session.update", session=beta)
        session = (await until("session.updated"))[-1]["session"]
        assert session["turn_detection"]["silence_duration_ms"] == 300
        await client.speak(LOUD, SILENCE)
        told = await until("response.done")
    names = {event["type"] for event in told}
    assert {"conversation.item.created", "response.audio.delta", "response.audio_transcript.done"} <= names
    assert not {name for name in names if "output_audio" in name or name.endswith(("item.added", "item.done"))} - {
        "response.output_item.added",
        "response.output_item.done",
    }
    assert told[-1]["response"]["output"][0]["content"][0]["type"] == "audio"


async def test_a_recording_is_an_item_of_its_words(running: Running, client: Client) -> None:
    part = {"type": "input_audio", "audio": base64.b64encode(LOUD.tobytes()).decode()}
    item = {"type": "message", "role": "user", "content": [part]}
    await client.send("conversation.item.create", item=item)
    added = (await client.the("conversation.item.added"))["item"]
    assert added["content"] == [{"type": "input_audio", "transcript": "what is the weather in paris"}]
    await client.send("response.create")
    await client.the("response.done")
    assert running.engines.mind.prompts[-1].history[-1].text == "what is the weather in paris"
    for wrong, code in (
        ({"type": "input_image", "image_url": "data:image/png;base64,"}, "image_not_supported"),
        ({"type": "input_audio", "audio": "%%%"}, "invalid_audio"),
    ):
        await client.send("conversation.item.create", item={**item, "content": [wrong]})
        assert (await client.error())["code"] == code
    pictured = {**item, "content": [{"type": "input_text", "text": "What is this?"}, {"type": "input_image"}]}
    await client.send("response.create", response={"input": [pictured]})
    assert (await client.error())["param"] == "response.input"
