"""Gateways that share a folder: a user is at one of them at a time, and goes on at another with what was said."""

from __future__ import annotations

import asyncio
import errno
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.web.gateway.conftest import gateway_served
from tests.web.realtime.test_protocol import eventually, say, the
from web.drain import FAREWELL
from web.gateway import accounts
from web.gateway.home import Home, HomeTaken

SECRET = "My dog is called Rufus."


@pytest.mark.parametrize(
    ("draining", "code"), [(False, 4001), (True, 1012)], ids=["by another window", "from a gateway that drains"]
)
async def test_a_user_goes_on_at_another_gateway(
    tmp_path: Path, tokens: dict[str, str], draining: bool, code: int
) -> None:
    async with gateway_served(tmp_path) as one, gateway_served(tmp_path) as other:
        async with one.connect(tokens["anna"]) as before:
            talk = (await the(before, "session.created"))["session"]["id"]
            await say(before, SECRET)
            last_hour = asyncio.create_task(one.drain(3600)) if draining else None
            async with other.connect(tokens["anna"], f"?parley=1&conversation={talk}") as after:
                assert (await the(after, "session.created"))["session"]["id"] == talk
                past = (await the(after, "parley.past"))["said"]
                assert [each["text"] for each in past] == [SECRET, "It is sunny. Shall we go out?"]
                await say(after, "What is he called?")
                with pytest.raises(ConnectionClosed) as closed:
                    await the(before, "never")
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == code
        assert any("Rufus" in message.text for message in other.engines.mind.prompts[-1].history)
        assert [*one.gateway.here] == []
        if last_hour is not None:
            await last_hour  # which is over, as nobody talks there any more


async def test_other_users_are_not_disturbed_by_that(tmp_path: Path, tokens: dict[str, str]) -> None:
    async with (
        gateway_served(tmp_path) as one,
        gateway_served(tmp_path) as other,
        one.connect(tokens["ben"]) as ben,
    ):
        await the(ben, "session.created")
        for gateway in (one, other, one):
            async with gateway.client(tokens["anna"]) as anna:
                assert (await anna.get("/api/memory")).status_code == 200
        await say(ben, "Hello.")


async def test_a_gateway_that_keeps_a_user_is_waited_for_and_then_told_of(
    tmp_path: Path, tokens: dict[str, str]
) -> None:
    home = Home(tmp_path / "users" / "anna")
    await home.take(0)
    async with gateway_served(tmp_path, patience_s=0) as served, served.client(tokens["anna"]) as anna:
        refused = await anna.get("/api/memory")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "another server" in refused.json()["error"]["message"]
        assert home.wanted()
        home.release()
        assert (await anna.get("/api/memory")).status_code == 200
        assert not home.wanted()


async def test_a_home_has_one_holder(tmp_path: Path) -> None:
    first, second = Home(tmp_path), Home(tmp_path)
    await first.take(0)
    with pytest.raises(HomeTaken):
        await second.take(0)
    first.release()
    await second.take(0)
    assert not second.wanted()
    second.release()
    second.release()


async def test_a_shared_disk_that_is_away_for_a_moment_does_not_hold_a_user_for_ever(
    tmp_path: Path, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exists, failed = Path.exists, list[Path]()

    def away(path: Path) -> bool:
        if path.name == ".wanted" and not failed:
            failed.append(path)
            raise OSError(errno.ESTALE, "Stale file handle")
        return exists(path)

    async with gateway_served(tmp_path) as one, gateway_served(tmp_path) as other:
        async with one.client(tokens["anna"]) as anna:
            monkeypatch.setattr(Path, "exists", away)
            assert (await anna.get("/api/memory")).status_code == 200
            await eventually(lambda: failed)
        async with other.client(tokens["anna"]) as anna:
            assert (await anna.get("/api/memory")).status_code == 200


async def test_everybody_is_told_when_the_gateway_ends(tmp_path: Path, tokens: dict[str, str]) -> None:
    async with gateway_served(tmp_path) as served:
        async with served.connect(tokens["anna"], "") as anna, served.connect(tokens["ben"], "") as ben:
            await the(anna, "session.created")
            await the(ben, "session.created")
            draining = asyncio.create_task(served.drain(0))
            for socket in (anna, ben):
                said = await the(socket, "response.output_audio_transcript.done")
                assert said["transcript"] == FAREWELL.sentence
                with pytest.raises(ConnectionClosed) as closed:
                    await the(socket, "never")
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1012
            await draining
        async with served.client() as probe:
            assert (await probe.get("/ready")).status_code == 503
            assert (await probe.get("/live")).status_code == 200
        async with served.client(tokens["anna"]) as anna_reads:
            assert (await anna_reads.get("/api/memory")).status_code == 200, "what is not a talk goes on"


@pytest.mark.slow  # half a minute: hundreds of turns while users move
async def test_a_rolling_update_loses_no_turn(tmp_path: Path) -> None:
    """Users type turn after turn, and connect again wherever they are let in, while one gateway takes the place of
    the other: every turn whose reply was heard is in the memory, once and in order."""
    tokens = [accounts.add(tmp_path / "users.json", f"user{number}") for number in range(3)]
    async with gateway_served(tmp_path) as old, gateway_served(tmp_path) as new:
        moved, said = asyncio.Event(), {token: list[str]() for token in tokens}

        async def talk(token: str) -> str:
            conversation: str = ""
            number = 0
            while True:
                gateway = new if old.places.closed else old
                with suppress(ConnectionClosed, InvalidStatus):
                    async with gateway.connect(token, f"?parley=1&conversation={conversation}") as socket:
                        conversation = (await the(socket, "session.created"))["session"]["id"]
                        while gateway is old or not moved.is_set():
                            words, number = f"This is number {number}.", number + 1
                            reply = await say(socket, words)
                            # The farewell may come first; then the words may have been too late for an answer.
                            if reply["outcome"] == "completed" and reply["heard"] != FAREWELL.sentence:
                                said[token].append(words)
                        return conversation

        talking = [asyncio.create_task(talk(token)) for token in tokens]
        await eventually(lambda: all(len(each) >= 2 for each in said.values()))
        await old.drain(0)
        before = {token: len(each) for token, each in said.items()}
        await eventually(lambda: all(len(said[token]) >= before[token] + 2 for token in tokens))
        moved.set()
        for token, conversation in zip(tokens, await asyncio.gather(*talking), strict=True):
            async with new.client(token) as client:
                asked = {"conversation": conversation, "limit": "200"}
                turns = (await client.get("/api/memory/turns", params=asked)).json()["turns"]
            remembered = [turn["text"] for turn in turns if turn["speaker"] == "user"]
            assert [words for words in remembered if words in said[token]] == said[token]
