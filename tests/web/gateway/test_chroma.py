"""The vectors of a gateway's users on one real Chroma server: each finds only their own, and it may go away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import Settings
from pipeline.engines.memories import Memories
from rag import ChromaServer
from tests.support.chroma import Server, served
from tests.web.gateway.conftest import RunningGateway, gateway_served
from tests.web.gateway.test_users import told
from web.address import Address
from web.gateway.limits import Limits
from web.gateway.serve import lender

SECRET = "My hamster is called Zebulon."
QUESTION = "What is my hamster called?"
REPLY = "It is sunny. Shall we go out?"


@pytest.fixture
def chroma(tmp_path: Path) -> Iterator[Server]:
    with served(tmp_path / "server") as server:
        yield server


def held(server: Server) -> list[set[str]]:
    """The texts that each owner's vectors there are of."""
    import chromadb

    client = chromadb.HttpClient(server.host, server.port)
    turns = [each for each in client.list_collections() if ".turn." in each.name]
    return [set(each.get(include=["documents"])["documents"] or ()) for each in turns]


async def settled(served: RunningGateway, token: str) -> None:
    """Wait until every turn of a user has its vectors."""
    async with served.client(token) as client:
        while (await client.get("/api/memory")).json()["size"]["progress"] < 1:  # noqa: ASYNC110  it is told nowhere
            await asyncio.sleep(0)


def recalled(served: RunningGateway) -> str:
    return str(served.engines.mind.prompts[-1].recalled)


async def test_owners_share_a_server_and_nothing_else(tmp_path: Path, tokens: dict[str, str], chroma: Server) -> None:
    async with gateway_served(tmp_path, chroma=chroma) as one, gateway_served(tmp_path, chroma=chroma) as other:
        await told(one, tokens["anna"], SECRET)
        await told(one, tokens["ben"], QUESTION)
        assert "Zebulon" not in recalled(one)
        await settled(one, tokens["ben"])
        await told(other, tokens["anna"], QUESTION)  # she moves to another gateway
        assert "Zebulon" in recalled(other)
        await settled(other, tokens["anna"])
    assert sorted(held(chroma), key=len) == [{QUESTION, REPLY}, {SECRET, QUESTION, REPLY}]


async def test_a_server_that_goes_away_ends_no_talk_and_loses_nothing(
    tmp_path: Path, tokens: dict[str, str], chroma: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag.indexer.RETRY", 0.05)
    async with gateway_served(tmp_path, chroma=chroma) as served:
        await told(served, tokens["anna"], "Hello.")
        chroma.kill()
        await told(served, tokens["anna"], SECRET)
        await told(served, tokens["anna"], QUESTION)
        assert "Zebulon" in recalled(served), "by its words"
        async with served.client(tokens["anna"]) as anna:
            assert (await anna.get("/api/memory")).json()["size"]["turns"] == 6
        async with served.client() as probe:
            assert (await probe.get("/ready")).status_code == 200
        await asyncio.to_thread(chroma.run, tmp_path / "server")
        await settled(served, tokens["anna"])
    assert held(chroma) == [{"Hello.", SECRET, QUESTION, REPLY}]


def test_the_administrator_names_the_server(tmp_path: Path) -> None:
    settings = Settings()
    settings.memory.chroma_host, settings.memory.chroma_port = "chroma.example", 8123
    lent = lender(settings, tmp_path, Memories(), Address("127.0.0.1", 8000), None, Limits())
    assert lent.chroma == ChromaServer("chroma.example", 8123)
    assert lent.settings.memory.chroma_host == "", "which no user is told"
