"""Gateways as an administrator runs them: processes of their own on one data folder, and the stock client of OpenAI."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from openai import OpenAI
from openai.resources.realtime.realtime import RealtimeConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support.product import READY_S, Product, running
from web.drain import FAREWELL
from web.gateway import accounts

pytestmark = pytest.mark.slow


@contextmanager
def gateway(data: Path, *arguments: str) -> Iterator[Product]:
    """One that is ready."""
    with running("gateway", "--data", str(data), "--profile", "offline", *arguments) as product:
        until = time.monotonic() + READY_S
        while probe(product, "/ready").status_code != 200:
            assert time.monotonic() < until, product.printed()
            time.sleep(0.1)
        yield product


def probe(product: Product, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{product.port}{path}", timeout=60)


@contextmanager
def talk(product: Product, token: str, conversation: str = "") -> Iterator[tuple[RealtimeConnection, str]]:
    """With the stock client, which reads and writes; and the conversation's id."""
    sdk = OpenAI(base_url=f"http://127.0.0.1:{product.port}/v1", api_key=token, max_retries=0)
    query = {"conversation": conversation} if conversation else {}
    with sdk, sdk.realtime.connect(model="parley", extra_query=query) as connection:
        created = connection.recv()
        assert created.type == "session.created"
        yield connection, str(created.session.id)  # type: ignore[union-attr]


def ask(connection: RealtimeConnection, words: str, modality: Literal["text", "audio"]) -> None:
    connection.conversation.item.create(
        item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": words}]}
    )
    connection.response.create(response={"output_modalities": [modality]})


def answer(connection: RealtimeConnection) -> str:
    """The text of the next reply."""
    for event in connection:
        if event.type == "response.done":
            return json.dumps(event.response.model_dump()["output"])
    raise AssertionError("the connection ended")


def until(connection: RealtimeConnection, type: str) -> Any:
    for event in connection:
        if event.type == type:
            return event
    raise AssertionError("the connection ended")


@pytest.fixture
def token(tmp_path: Path) -> str:
    return accounts.add(tmp_path / "users.json", "anna")


def test_a_gateway_that_dies_loses_no_finished_turn(tmp_path: Path, token: str) -> None:
    stranger = accounts.add(tmp_path / "users.json", "ben")
    with gateway(tmp_path) as one, gateway(tmp_path) as other:
        with talk(one, token) as (before, conversation):
            ask(before, "My dog is called Rufus.", "text")
            assert "Rufus" in answer(before)
            ask(before, "Tell me about yourself.", "audio")
            until(before, "response.output_audio.delta")
            one.kill()
            with pytest.raises(ConnectionClosed):
                while True:
                    before.recv()
        with talk(other, token, conversation) as (after, same):
            assert same == conversation
            ask(after, "What is my dog called?", "text")
            assert "Rufus" in answer(after)
        with talk(other, stranger) as (ben, _):
            ask(ben, "What is my dog called?", "text")
            assert "Rufus" not in answer(ben)


def test_a_gateway_that_drains_lets_a_talk_finish_and_takes_no_other(tmp_path: Path, token: str) -> None:
    with gateway(tmp_path, "--drain", "3600") as product:
        with talk(product, token) as (connection, _):
            product.process.send_signal(signal.SIGTERM)
            while probe(product, "/ready").status_code != 503:
                time.sleep(0.05)
            assert probe(product, "/live").status_code == 200
            with pytest.raises(InvalidStatus) as refused, connect(
                f"ws://127.0.0.1:{product.port}/v1/realtime", additional_headers={"Authorization": f"Bearer {token}"}
            ):  # fmt: skip
                pass
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["retry-after"] == "1"
            ask(connection, "My dog is called Rufus.", "text")
            assert "Rufus" in answer(connection)
            assert product.process.poll() is None
        assert product.process.wait(60) == 0, "it ends with the last talk"


def test_after_its_patience_it_says_goodbye(tmp_path: Path, token: str) -> None:
    with gateway(tmp_path, "--drain", "0") as product:
        with talk(product, token) as (connection, _):
            product.process.send_signal(signal.SIGTERM)
            assert until(connection, "response.output_audio_transcript.done").transcript == FAREWELL.sentence
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    connection.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, FAREWELL.why)
        assert product.process.wait(60) == 0
