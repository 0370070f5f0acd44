"""The wire: a conversation as a client sees it, over a real WebSocket."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from tests.web.conftest import Running, served
from tests.web.scripted import ScriptedEngines
from web.realtime import connection

LOUD = (np.sin(np.arange(24_000) / 10) * 8000).astype("<i2")
"""A second that the scripted voice activity takes for speech."""
SILENCE = np.zeros(24_000, "<i2")


async def send(socket: ClientConnection, type: str, **fields: Any) -> None:
    await socket.send(json.dumps({"type": type, **fields}))


async def append(socket: ClientConnection, *sounds: np.ndarray) -> None:
    for sound in sounds:
        await send(socket, "input_audio_buffer.append", audio=base64.b64encode(sound.tobytes()).decode())


async def until(socket: ClientConnection, *types: str) -> list[dict[str, Any]]:
    """Every event up to the first of one of these types, that one included."""
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not seen or seen[-1]["type"] not in types:
            seen.append(json.loads(await socket.recv()))
    return seen


async def the(socket: ClientConnection, type: str) -> dict[str, Any]:
    return (await until(socket, type))[-1]


def types(events: list[dict[str, Any]]) -> list[str]:
    """In order, repeated ones once."""
    names = [event["type"] for event in events]
    return [name for place, name in enumerate(names) if place == 0 or names[place - 1] != name]


async def eventually(true: Callable[[], object]) -> None:
    """For what the server does after it has answered, and tells nobody."""
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110  there is nothing to wait on from outside
            await asyncio.sleep(0.01)


async def test_a_spoken_turn_is_told_in_the_protocols_order(socket: ClientConnection) -> None:
    await the(socket, "session.created")
    await append(socket, SILENCE[:12_000], LOUD, SILENCE)
    events = await until(socket, "response.done")
    assert types(events) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    said = next(event for event in events if event["type"].endswith("transcription.completed"))
    assert said["transcript"] == "what is the weather in paris"
    started = next(event for event in events if event["type"].endswith("speech_started"))
    stopped = next(event for event in events if event["type"].endswith("speech_stopped"))
    assert started["item_id"] == stopped["item_id"] == said["item_id"]
    assert 0 <= started["audio_start_ms"] <= 500  # half a second of silence came first, and the pre-roll is in it
    assert 1400 <= stopped["audio_end_ms"] <= 1700
    done = events[-1]["response"]
    assert done["status"] == "completed"
    assert done["output"][0]["content"][0]["transcript"] == "It is sunny. Shall we go out?"


async def test_the_sound_of_a_reply_arrives_whole(socket: ClientConnection) -> None:
    await append(socket, LOUD, SILENCE)
    events = await until(socket, "response.done")
    deltas = [base64.b64decode(event["delta"]) for event in events if event["type"] == "response.output_audio.delta"]
    samples = np.frombuffer(b"".join(deltas), "<i2")
    assert len(samples) == 2 * 4800  # two clauses of 0.2 s
    assert np.all(np.abs(samples - 0.25 * 32767) <= 1)


async def test_a_client_that_asks_is_told_what_our_page_needs(running: Running) -> None:
    async with running.connect("?parley=1") as socket:
        seen = await until(socket, "session.created")
        assert "parley.engines" in types(seen) or "parley.engines" in types(await until(socket, "parley.engines"))
        await append(socket, LOUD, SILENCE)
        events = await until(socket, "response.done")
        response = events[-1]["response"]["id"]
        # The reply is not over before it was played, however long ago it was sent.
        await send(socket, "parley.playback", response_id=response, samples=4800)
        await send(socket, "parley.playback", response_id=response, samples=9600)
        events += await until(socket, "parley.turn")
        events += await until(socket, "parley.state")
    assert {"parley.state", "parley.level", "parley.transcript", "parley.reply"} <= set(types(events))
    states = [event["state"] for event in events if event["type"] == "parley.state"]
    assert states == ["thinking", "speaking", "listening"]
    reply = next(event for event in events if event["type"] == "parley.reply")
    assert (reply["outcome"], reply["heard"]) == ("completed", "It is sunny. Shall we go out?")
    record = next(event["record"] for event in events if event["type"] == "parley.turn")
    assert record["user"] == "what is the weather in paris"
    assert record["marks"]["first_heard"] >= record["marks"]["speech_ended"]


async def test_a_session_can_ask_for_the_messages_of_our_page(socket: ClientConnection) -> None:
    await the(socket, "session.created")
    await send(socket, "session.update", session={"type": "realtime", "parley": {}})
    await the(socket, "session.updated")
    await append(socket, SILENCE)
    assert (await the(socket, "parley.level"))["peak"] == 0


async def test_it_speaks_from_the_first_sound_and_not_only_when_all_is_made(running: Running) -> None:
    running.engines.voice.seconds = 60.0  # more than is made ahead, so that the reply is never made whole here
    async with running.connect("?parley=1") as socket:
        await append(socket, LOUD, SILENCE)
        delta = await the(socket, "response.output_audio.delta")
        await send(socket, "parley.playback", response_id=delta["response_id"], samples=100)
        assert (await the(socket, "parley.state"))["state"] == "speaking"


async def test_a_stock_client_is_never_told_anything_of_parley(socket: ClientConnection) -> None:
    await append(socket, LOUD, SILENCE)
    events = await until(socket, "response.done")
    assert not [event for event in events if event["type"].startswith("parley.")]


async def test_what_a_silent_client_heard_is_what_real_time_allows(running: Running) -> None:
    async with running.connect() as socket:
        await append(socket, LOUD, SILENCE)
        await until(socket, "response.done")
        await eventually(lambda: running.service.turns.last(1))
    record = running.service.turns.last(1)[0]
    assert (record.outcome, record.heard) == ("completed", "It is sunny. Shall we go out?")
    # 0.4 s of sound take 0.4 s to be heard, though they were sent at once.
    assert record.marks["reply_done"] - record.marks["first_sent"] >= 0.39
    assert record.marks["reply_made"] - record.marks["first_sent"] < 0.39


BAD = [
    ("hello", "invalid_json", None),
    ("[1, 2]", "invalid_json", None),
    ("[" * 100_000, "invalid_json", None),
    ('{"event_id": "e1"}', "missing_type", "type"),
    ('{"type": "response.dance", "event_id": "e1"}', "unknown_event", "type"),
    ('{"type": 7, "event_id": "e1"}', "unknown_event", "type"),
    ('{"type": "input_audio_buffer.append", "event_id": "e1"}', "invalid_value", "audio"),
    ('{"type": "input_audio_buffer.append", "audio": "%%%", "event_id": "e1"}', "invalid_audio", "audio"),
    ('{"type": "input_audio_buffer.append", "audio": "AAAA", "event_id": "e1"}', "invalid_audio", "audio"),
    ('{"type": "input_audio_buffer.append", "audio": 5, "event_id": "e1"}', "invalid_value", "audio"),
    ('{"type": "input_audio_buffer.commit", "event_id": "e1"}', "input_audio_buffer_commit_empty", None),
    ('{"type": "parley.soundcard.stop", "event_id": "e1"}', "parley_not_asked_for", None),
    ('{"type": "response.cancel", "event_id": "e1"}', "response_cancel_not_active", None),
    ('{"type": "response.create", "respond": 1, "event_id": "e1"}', "invalid_value", "respond"),
    (
        '{"type": "conversation.item.delete", "item_id": "x", "event_id": "e1"}',
        "item_delete_invalid_item_id",
        "item_id",
    ),
    ('{"type": "session.update", "session": 5, "event_id": "e1"}', "invalid_value", "session"),
]


async def test_bad_messages_get_one_error_each_and_the_connection_survives_them(socket: ClientConnection) -> None:
    await the(socket, "session.created")
    for text, code, param in BAD:
        await socket.send(text)
        answer = json.loads(await socket.recv())
        assert answer["type"] == "error", text
        error = answer["error"]
        assert (error["code"], error.get("param")) == (code, param), text
        assert error["message"].endswith("."), text
        assert error.get("event_id") == ("e1" if "e1" in text else None)
    await socket.send(b"\x00\x01")
    assert (await the(socket, "error"))["error"]["code"] == "invalid_message"
    await append(socket, LOUD, SILENCE)
    assert (await the(socket, "response.done"))["response"]["status"] == "completed"


async def test_a_message_too_large_ends_only_its_own_connection(running: Running) -> None:
    async with running.connect() as other, running.connect() as socket:
        await the(socket, "session.created")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.send("x" * (100 << 20))
            await until(socket, "never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        await the(other, "session.created")
        await append(other, LOUD, SILENCE)
        await the(other, "response.done")


async def test_typed_text_is_a_turn(socket: ClientConnection) -> None:
    await the(socket, "session.created")
    content = [{"type": "input_text", "text": "Hello there"}]
    await send(socket, "conversation.item.create", item={"type": "message", "role": "user", "content": content})
    item = (await the(socket, "conversation.item.added"))["item"]
    assert item["content"] == content
    await send(socket, "response.create", response={"metadata": {"mine": "yes"}})
    done = await the(socket, "response.done")
    assert done["response"]["metadata"] == {"mine": "yes"}
    await send(socket, "conversation.item.retrieve", item_id=item["id"])
    assert (await the(socket, "conversation.item.retrieved"))["item"]["id"] == item["id"]


async def test_the_clients_own_turns(running: Running) -> None:
    """turn_detection null: nothing happens until commit, and no reply before response.create."""
    async with running.connect() as socket:
        await the(socket, "session.created")
        session = {"type": "realtime", "instructions": "Be brief.", "audio": {"input": {"turn_detection": None}}}
        await send(socket, "session.update", session=session)
        updated = (await the(socket, "session.updated"))["session"]
        assert updated["instructions"] == "Be brief."
        assert updated["audio"]["input"]["turn_detection"] is None
        await append(socket, LOUD, SILENCE)
        await send(socket, "input_audio_buffer.commit")
        events = await until(socket, "conversation.item.input_audio_transcription.completed")
        assert "input_audio_buffer.speech_started" not in types(events)
        assert types(events)[0] == "input_audio_buffer.committed"
        await send(socket, "response.create")
        await the(socket, "response.done")
    assert running.engines.mind.prompts[-1].persona == "Be brief."
    assert [message.text for message in running.engines.mind.prompts[-1].history] == ["what is the weather in paris"]


async def history_after(running: Running, socket: ClientConnection) -> list[str]:
    """What the mind is told was said, when it is asked once more."""
    await send(socket, "response.create")
    await until(socket, "response.output_item.added")
    return [message.text for message in running.engines.mind.prompts[-1].history]


@pytest.mark.parametrize(("heard_ms", "kept"), [(0, []), (100, []), (5200, ["It is sunny."])])
async def test_truncation_keeps_in_history_what_was_heard(running: Running, heard_ms: int, kept: list[str]) -> None:
    running.engines.voice.seconds = 5.0
    async with running.connect() as socket:
        await append(socket, LOUD, SILENCE)
        reply = (await the(socket, "response.output_item.added"))["item"]["id"]
        await until(socket, "response.done")  # all was sent, and is being played
        await send(socket, "conversation.item.truncate", item_id=reply, content_index=0, audio_end_ms=10**9)
        assert (await the(socket, "error"))["error"]["param"] == "audio_end_ms"
        await send(socket, "conversation.item.truncate", item_id=reply, content_index=1, audio_end_ms=heard_ms)
        assert (await the(socket, "error"))["error"]["param"] == "content_index"
        await send(socket, "conversation.item.truncate", item_id=reply, content_index=0, audio_end_ms=heard_ms)
        assert (await the(socket, "conversation.item.truncated"))["audio_end_ms"] == heard_ms
        assert await history_after(running, socket) == ["what is the weather in paris", *kept]


@pytest.mark.parametrize(("heard_ms", "kept"), [(0, []), (210, ["It is sunny."])])
async def test_a_client_knows_better_than_the_estimate_what_was_heard(
    running: Running, heard_ms: int, kept: list[str]
) -> None:
    async with running.connect() as socket:
        await append(socket, LOUD, SILENCE)
        reply = (await the(socket, "response.done"))["response"]["output"][0]["id"]
        await eventually(lambda: running.service.turns.last(1))  # by the estimate all 400 ms were heard
        await send(socket, "conversation.item.truncate", item_id=reply, content_index=0, audio_end_ms=heard_ms)
        await the(socket, "conversation.item.truncated")
        assert await history_after(running, socket) == ["what is the weather in paris", *kept]


async def test_what_a_client_deletes_is_forgotten_in_this_conversation(running: Running) -> None:
    async with running.connect() as socket:
        await append(socket, LOUD, SILENCE)
        reply = (await the(socket, "response.done"))["response"]["output"][0]["id"]
        await eventually(lambda: running.service.turns.last(1))
        await send(socket, "conversation.item.delete", item_id=reply)
        await the(socket, "conversation.item.deleted")
        assert await history_after(running, socket) == ["what is the weather in paris"]


async def test_cancel_stops_a_reply(running: Running) -> None:
    running.engines.voice.seconds = 60.0
    async with running.connect() as socket:
        await append(socket, LOUD, SILENCE)
        await until(socket, "response.output_audio.delta")
        await send(socket, "response.create")
        assert (await the(socket, "error"))["error"]["code"] == "conversation_already_has_active_response"
        await send(socket, "response.cancel")
        done = (await the(socket, "response.done"))["response"]
    assert done["status"] == "cancelled"
    assert done["status_details"]["reason"] == "client_cancelled"


async def test_speaking_over_a_reply_stops_it(running: Running) -> None:
    running.engines.voice.seconds = 60.0
    async with running.connect() as socket:
        await the(socket, "session.created")
        content = [{"type": "input_text", "text": "Tell me a story"}]
        await send(socket, "conversation.item.create", item={"type": "message", "role": "user", "content": content})
        await send(socket, "response.create")
        await until(socket, "response.output_audio.delta")
        await append(socket, LOUD, SILENCE)
        events = await until(socket, "response.done")
        assert "input_audio_buffer.speech_started" in types(events)
        assert events[-1]["response"]["status"] == "cancelled"
        assert events[-1]["response"]["status_details"]["reason"] == "turn_detected"
        assert events[-1]["response"]["output"][0]["status"] == "incomplete"
        await the(socket, "response.created")  # what was said over it is answered
    assert running.service.turns.last(5)[-1].outcome == "interrupted"


async def test_who_goes_on_at_once_had_not_finished(running: Running) -> None:
    running.engines.voice.seconds = 60.0
    async with running.connect() as socket:
        await append(socket, LOUD, SILENCE)
        first = await until(socket, "response.output_audio.delta")
        await append(socket, LOUD, SILENCE)
        events = await until(socket, "response.created")
    committed = [event["item_id"] for event in first + events if event["type"] == "input_audio_buffer.committed"]
    reply = next(event["item"]["id"] for event in first if event["type"] == "response.output_item.added")
    deleted = [event["item_id"] for event in events if event["type"] == "conversation.item.deleted"]
    assert len(committed) == 2
    assert set(deleted) == {reply, committed[0]}
    assert running.service.turns.last(5)[-1].outcome == "withdrawn"


async def test_several_conversations_at_once_keep_apart(running: Running) -> None:
    async with running.connect() as first, running.connect() as second:
        await append(first, LOUD, SILENCE)
        await until(first, "response.done")
        await the(second, "session.created")
        await append(second, SILENCE)
        await send(second, "input_audio_buffer.clear")
        assert types(await until(second, "input_audio_buffer.cleared")) == ["input_audio_buffer.cleared"]
        assert running.service.conversations == 2


async def test_one_conversation_too_many_is_refused_with_a_reason(running: Running) -> None:
    running.service.places.most = 1
    async with running.connect() as first:
        await the(first, "session.created")
        with pytest.raises(InvalidStatus) as turned_away:
            await running.connect()
        answer = turned_away.value.response
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert json.loads(answer.body or b"")["error"]["code"] == "too_many_conversations"
        async with running.connect("?parley=1") as page:  # a browser does not tell its page of an answer like that
            assert (await the(page, "error"))["error"]["code"] == "too_many_conversations"
            with pytest.raises(ConnectionClosed) as closed:
                await page.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
    await eventually(lambda: not running.service.conversations)
    async with running.connect() as third:
        await the(third, "session.created")


async def test_a_client_that_stops_reading_is_closed_and_keeps_its_turns(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.realtime.connection.PATIENCE", 0.5)
    async with running.connect("?parley=1", max_queue=1) as socket:
        await the(socket, "session.created")
        await append(socket, LOUD, SILENCE)
        done = await the(socket, "response.done")
        await send(socket, "parley.playback", response_id=done["response"]["id"], samples=9600)
        await until(socket, "parley.turn")
        content = [{"type": "input_text", "text": "x" * 20_000}]
        item = {"type": "message", "role": "user", "content": content, "id": "long"}
        await send(socket, "conversation.item.create", item=item)
        socket.transport.pause_reading()
        for _ in range(2000):  # 40 MB of answers: more than the buffers between the two hold
            await send(socket, "conversation.item.retrieve", item_id="long")
        await eventually(lambda: not running.service.conversations)
        socket.transport.abort()
    assert running.service.turns.last(5)[-1].heard == "It is sunny. Shall we go out?"


async def test_an_engine_that_fails_is_told_and_the_conversation_goes_on(running: Running) -> None:
    running.engines.mind.error = "The mind has gone."
    async with running.connect() as socket:
        await append(socket, LOUD, SILENCE)
        error = (await the(socket, "error"))["error"]
        assert (error["type"], error["message"]) == ("server_error", "The mind has gone.")
        running.engines.mind.error = ""
        await append(socket, LOUD, SILENCE)
        events = await until(socket, "response.done")
        events += [] if "sunny" in json.dumps(events) else await until(socket, "response.done")
        assert "It is sunny." in json.dumps(events)


async def test_while_the_engines_load_a_client_waits_and_is_told(tmp_path: Path) -> None:
    engines = ScriptedEngines()
    engines.failing = "espeak-ng is not installed."
    async with served(tmp_path, engines) as running, running.connect() as socket:
        assert (await the(socket, "error"))["error"]["message"].endswith("espeak-ng is not installed.")
        engines.failing = ""
        engines.change()
        await the(socket, "session.created")


async def say(socket: ClientConnection, words: str) -> dict[str, Any]:
    """Typed, answered, and the answer heard to its end, as a page reports; the events in between end with its own."""
    await send(
        socket,
        "conversation.item.create",
        item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": words}]},
    )
    await send(socket, "response.create")
    done = (await the(socket, "response.done"))["response"]
    await send(socket, "parley.playback", response_id=done["id"], samples=9600)
    return (await the(socket, "parley.reply")) | {"heard_as": done["id"]}


async def test_a_page_comes_back_to_its_conversation(running: Running) -> None:
    async with running.connect("?parley=1") as socket:
        name = (await the(socket, "session.created"))["session"]["id"]
        first = await say(socket, "My dog is called Rufus.")
    await eventually(lambda: not running.service.conversations)

    async with running.connect(f"?parley=1&conversation={name}") as socket:
        assert (await the(socket, "session.created"))["session"]["id"] == name
        said = (await the(socket, "parley.past"))["said"]
        assert [(each["role"], each["text"]) for each in said] == [
            ("user", "My dog is called Rufus."),
            ("assistant", "It is sunny. Shall we go out?"),
        ]
        second = await say(socket, "What is he called?")
        assert second["heard_as"] != first["heard_as"], "no reply has the id of an earlier one"
        assert any("Rufus" in message.text for message in running.engines.mind.prompts[-1].history)
        async with running.connect(f"?parley=1&conversation={name}") as other:
            assert (await the(other, "session.created"))["session"]["id"] == name
            assert len((await the(other, "parley.past"))["said"]) == 4
            with pytest.raises(ConnectionClosed) as closed:
                await the(socket, "never")
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4001
    await eventually(lambda: not running.service.conversations)
    assert [record.turn for record in running.service.turns.last(5)] == [2, 1]

    await running.service.forget(conversation=name)
    async with running.connect(f"?parley=1&conversation={name}") as socket:
        assert (await the(socket, "session.created"))["session"]["id"] != name, "what was forgotten is no past"


async def test_a_client_that_says_nothing_gives_its_place_to_others(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SILENT_S", 0.5)
    async with running.connect() as silent, running.connect("?parley=1") as page:
        assert (await the(silent, "error"))["error"]["code"] == "session_expired"
        with pytest.raises(ConnectionClosed) as closed:
            await until(silent, "never")
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1000
        await send(page, "session.update", session={"type": "realtime"})
        await the(page, "session.updated")


async def test_a_refused_connection_is_no_error_of_the_server(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        async with running.connect(origin=Origin("https://evil.example")):
            pass
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
