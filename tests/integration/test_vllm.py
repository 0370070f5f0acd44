"""The real vLLM, as Parley's child, on a tiny Llama with random weights: only the plumbing is looked at."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import psutil
import pytest

from pipeline.llm import Message, Prompt
from pipeline.llm.vllm import PYTHON, Vllm
from tests.support.tiny_models import write_llama

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("vllm"),
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PYTHON.exists(), reason="vLLM is not installed: `python3 setup.py vllm`"),
]

PROMPT = Prompt("Be brief.", (Message("user", "Hello!"),), None, datetime(2026, 11, 20, 12, tzinfo=UTC), max_tokens=40)
PATIENCE_S = 240.0


def servers() -> list[psutil.Process]:
    living = (child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE)
    return [child for child in living if "vllm" in " ".join(child.cmdline())]


def below(process: psutil.Process) -> list[psutil.Process]:
    """The server and everything under it, resource trackers of Python's own left out."""
    family = [process, *process.children(recursive=True)]
    return [member for member in family if "resource_tracker" not in " ".join(member.cmdline())]


async def test_it_starts_replies_is_cancelled_restarted_and_gone(tmp_path: Path) -> None:
    mind = Vllm(str(write_llama(tmp_path / "llama")), tmp_path / "vllm.log", context=512)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await mind.start(lambda progress: None)
        assert mind.status.state == "ready"
        (server,) = servers()
        family = below(server)
        assert len(family) > 1, "an API server and its engine"

        pieces = [piece async for piece in mind.reply(PROMPT)]
        assert len(pieces) > 1, "streamed, and not at once"

        assert mind._server is not None and mind._server._counts.exact, "it counts tokens for us"
        roles: tuple[Literal["user", "assistant"], ...] = ("user", "assistant")
        talk = tuple(Message(roles[place % 2], f"turn {place} of a long talk") for place in range(101))
        assert [piece async for piece in mind.reply(replace(PROMPT, history=talk))], "a talk longer than the context"

        async with aclosing(mind.reply(PROMPT)) as reply:
            await anext(reply)
        assert [piece async for piece in mind.reply(PROMPT)], "a reply after one that was cancelled"

        os.kill(server.pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE_S):
            while not (mind.status.restarts == 1 and mind.status.state == "ready"):  # noqa: ASYNC110 - another program
                await asyncio.sleep(0.2)
        assert [piece async for piece in mind.reply(PROMPT)], "a reply after a restart"
        (server,) = servers()
        family += below(server)
    finally:
        await mind.stop()
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, 20)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
