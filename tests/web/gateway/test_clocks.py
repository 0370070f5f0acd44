"""Gateways whose clocks differ by an hour: who is where, what is valid and what was said last do not depend on them."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from tests.web.gateway.conftest import gateway_served
from tests.web.realtime.test_protocol import say, the


async def test_turns_stay_in_the_order_in_which_they_were_said(
    tmp_path: Path, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = timedelta(0)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            return super().now(tz) + ahead

    monkeypatch.setattr("pipeline.conversation.conversation.datetime", Clock)
    said, talk = list[str](), ""
    async with gateway_served(tmp_path) as one, gateway_served(tmp_path) as other:
        for number, gateway in enumerate((one, other, one, other)):
            ahead = timedelta(hours=1 if gateway is one else 0)
            async with gateway.connect(tokens["anna"], f"?parley=1&conversation={talk}") as socket:
                talk = (await the(socket, "session.created"))["session"]["id"]
                if said:
                    past = [each["text"] for each in (await the(socket, "parley.past"))["said"]]
                    assert past[::2] == said
                said.append(f"This is number {number}.")
                await say(socket, said[-1])
            told = gateway.engines.mind.prompts[-1].now
            assert abs(told - datetime.now().astimezone() - ahead) < timedelta(minutes=5), "today is the gateway's"
        async with other.client(tokens["anna"]) as anna:
            turns = (await anna.get("/api/memory/turns", params={"conversation": talk})).json()["turns"]
            texts = [turn["text"] for turn in turns if turn["text"] in said]
            assert texts in (said, said[::-1])
