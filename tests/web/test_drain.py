"""A server that ends lets its conversations finish."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support import virtual_time
from tests.web.conftest import Running
from tests.web.realtime.test_protocol import the
from web.drain import CLOSED, FAREWELL, LAST_WORDS_S, drain
from web.places import NoPlace, Places
from web.realtime import events as wire
from web.realtime import parts
from web.realtime.session import Call, Dismissed, Opening
from web.service import Dismissal


async def talk(places: Places, seconds: float, dismissed: asyncio.Event, more: float = 0.0) -> None:
    """One that ends by itself after so long, or so much later than it is asked to."""
    with places.one():
        try:
            async with asyncio.timeout(seconds):
                await dismissed.wait()
            await asyncio.sleep(more)
        except TimeoutError:
            return


@pytest.mark.parametrize(
    ("seconds", "more", "patience", "over", "told"),
    [
        (600, 0, 3600, 600, False),
        (9000, 12, 3600, 3612, True),
        (9000, 9000, 3600, 3600 + LAST_WORDS_S, True),
        (9000, 5, 0, 5, True),
    ],
    ids=["it ends by itself", "an hour and its last words", "one that does not end", "at once"],
)
def test_conversations_go_on_for_as_long_as_they_may(
    seconds: float, more: float, patience: float, over: float, told: bool
) -> None:
    async def drained() -> tuple[float, list[Dismissal]]:
        places, dismissed, said = Places(5), asyncio.Event(), list[Dismissal]()

        def dismiss(dismissal: Dismissal) -> None:
            said.append(dismissal)
            dismissed.set()

        talking = asyncio.create_task(talk(places, seconds, dismissed, more))
        await asyncio.sleep(0)
        draining = asyncio.create_task(drain(places, dismiss, patience))
        await asyncio.sleep(0)
        with pytest.raises(NoPlace) as refused, places.one():
            pass
        assert (str(refused.value), refused.value.retry_s) == (CLOSED, 1)
        await draining
        ended = asyncio.get_running_loop().time()
        talking.cancel()
        return ended, said

    assert virtual_time.run(drained()) == (over, [FAREWELL] if told else [])


def test_a_server_without_conversations_ends_at_once() -> None:
    async def drained() -> float:
        await drain(Places(5), lambda _: None, 3600)
        return asyncio.get_running_loop().time()

    assert virtual_time.run(drained()) == 0


async def said_last(running: Running, query: str, *, session: dict[str, object] | None = None) -> tuple[list[str], int]:
    """What a client is told from the drain's end on: the transcripts, and the code that closes its connection."""
    said: list[str] = []
    async with running.connect(query) as socket:
        if session is not None:
            await socket.send(json.dumps({"type": "session.update", "session": {"type": "realtime", **session}}))
        await the(socket, "session.created" if session is None else "session.updated")
        draining = asyncio.create_task(drain(running.service.places, running.service.dismiss, 0))
        try:
            while True:
                event = json.loads(await socket.recv())
                if event["type"] in {"response.output_audio_transcript.done", "response.output_text.done"}:
                    said.append(event.get("transcript") or event["text"])
                if event["type"] == "response.done" and "parley" in query:
                    played = {"type": "parley.playback", "response_id": event["response"]["id"], "samples": 1 << 24}
                    await socket.send(json.dumps(played))
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            assert closed.rcvd.reason == FAREWELL.why
            await draining
            return said, closed.rcvd.code


async def test_a_client_is_told_in_words_and_may_come_back(running: Running) -> None:
    assert await said_last(running, "") == ([FAREWELL.sentence], 1012)


async def test_a_client_that_reads_is_told_in_writing(running: Running) -> None:
    assert await said_last(running, "", session={"output_modalities": ["text"]}) == ([FAREWELL.sentence], 1012)


async def test_the_page_hears_it_to_its_end(running: Running) -> None:
    assert await said_last(running, "?parley=1") == ([FAREWELL.sentence], 1012)


async def test_what_only_writes_down_is_told_nothing(running: Running) -> None:
    assert await said_last(running, "?intent=transcription") == ([], 1012)


async def test_nobody_new_comes_meanwhile(running: Running) -> None:
    running.service.places.close(CLOSED)
    with pytest.raises(InvalidStatus) as turned_away:
        await running.connect()
    answer = turned_away.value.response
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert json.loads(answer.body or b"")["error"]["message"] == CLOSED


async def test_what_a_client_has_not_read_yet_still_goes_out(running: Running) -> None:
    call = Call(running.service, Opening(sessions=(parts.Session(output_modalities=["text"]),)))
    calling = asyncio.create_task(call.run())
    call.sent(await call.next())
    running.service.dismiss(FAREWELL)
    while not isinstance(event := await call.next(), wire.ResponseDone):
        await asyncio.sleep(0.01)  # a client that takes its time
        call.sent(event)
    assert not calling.done()
    call.sent(event)
    while not calling.done():
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                call.sent(await call.next())
    assert isinstance(calling.exception(), Dismissed)
