"""What is decided before vLLM starts, and what is made of its last words. It is run itself in tests/integration."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from config.hardware import GB, Gpu
from pipeline.engine import EngineError
from pipeline.llm import Message, Prompt, checkpoint, vllm
from pipeline.llm.checkpoint import positions
from pipeline.llm.openai import OpenAIChat
from pipeline.llm.vllm import Awaited, Vllm, check_card, reason, reserved_port, share_of
from pipeline.workers.supervision import Heartbeat
from tests.support import hub
from tests.support.no_minds import a_file, csm, empty, nothing, silent, whisper
from tests.support.tiny_models import write_llama

PROMPT = Prompt("", (Message("user", "hello"),), None, datetime(2026, 11, 30))
CARD = Gpu("RTX 4090", 24 * GB, 23 * GB)


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (
            "INFO 11-20 starting\n(EngineCore pid=7) ERROR 11-20 12:00:00 [core.py:700] ValueError: Free memory on "
            "device cuda:0 (3.1/8.0 GiB) on startup is less than desired GPU memory utilization (0.9, 7.2 GiB).\n"
            "(APIServer pid=3) RuntimeError: Engine core initialization failed. See root cause above.\n",
            "Free memory on device cuda:0 (3.1/8.0 GiB) on startup is less than desired",
        ),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.\n", "CUDA out of memory."),
        (
            "ValueError: Model architectures ['OddModel'] are not supported for now. Supported architectures: "
            f"dict_keys([{'x, ' * 999}])\n",
            "Model architectures ['OddModel'] are not supported for now.",
        ),
        ("Segmentation fault\n", "Segmentation fault"),
        ("", "it ended without a word"),
    ],
)
def test_the_reason_is_found_in_the_log(log: str, why: str) -> None:
    assert reason(log).startswith(why)
    assert "root cause" not in reason(log) and "Supported" not in reason(log)


def test_the_others_fit_beside_vllm_on_one_card() -> None:
    beside = (1 - share_of(CARD)) * CARD.memory_bytes
    assert 6 * GB < beside < 9 * GB, "CSM and Whisper, loaded or not"
    assert share_of(replace(CARD, free_bytes=4 * GB)) * CARD.memory_bytes < 4 * GB, "never more than is free"
    assert share_of(replace(CARD, free_bytes=0)) == 0.0


def test_a_card_with_too_little_memory_is_told_before_anything_starts() -> None:
    check_card(CARD, "someone/llama", 8 * GB)
    with pytest.raises(EngineError, match=r"someone/llama needs 17\.\d GB of the RTX 4090, but CSM, .* leave only"):
        check_card(CARD, "someone/llama", 15 * GB)


def test_of_two_parleys_on_one_card_the_second_is_told_what_the_first_has_left() -> None:
    check_card(CARD, "someone/llama", 8 * GB)
    taken = share_of(CARD) * CARD.memory_bytes + 7 * GB
    with pytest.raises(EngineError, match="end other programs"):
        check_card(replace(CARD, free_bytes=round(CARD.free_bytes - taken)), "someone/llama", 8 * GB)


def engine(model: str, folder: Path, python: str = sys.executable) -> Vllm:
    return Vllm(model, folder / "vllm.log", python=Path(python))


async def refusal(made: Vllm) -> str:
    with pytest.raises(EngineError) as refused:
        await made.start(lambda progress: None)
    assert made.status.state in ("failed", "stopped") and "\n" not in str(refused.value)
    await made.stop()
    return str(refused.value)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (nothing, "is not a folder: choose a folder with a model"),
        (a_file, "is not a folder: choose a folder with a model"),
        (empty, "is not a language model"),
        (whisper, "has no chat template, so it is not made for conversation"),
        (csm, "is not a language model"),
        (silent, "has no chat template, so it is not made for conversation"),
    ],
)
async def test_what_is_no_model_is_refused_before_vllm_starts(
    tmp_path: Path, model: Callable[[Path], str], sentence: str
) -> None:
    assert sentence in await refusal(engine(model(tmp_path / "model"), tmp_path))
    assert not (tmp_path / "vllm.log").exists()


async def test_a_machine_or_card_that_is_too_small_is_told_before_vllm_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(write_llama(tmp_path / "llama"))
    monkeypatch.setattr(vllm, "ask_nvidia", lambda: (replace(CARD, free_bytes=1), replace(CARD, free_bytes=0)))
    assert "of the RTX 4090" in await refusal(engine(model, tmp_path))
    monkeypatch.setattr(vllm, "ask_nvidia", tuple)
    monkeypatch.setattr(checkpoint, "ROOM_BESIDE", 1e9)
    assert "choose a smaller model" in await refusal(engine(model, tmp_path))
    assert not (tmp_path / "vllm.log").exists()


async def test_where_vllm_is_not_installed(tmp_path: Path) -> None:
    assert "run `python3 setup.py vllm`" in await refusal(engine("someone/llama", tmp_path, "/nowhere/python"))


def use_hub(serving: hub.Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "HF_ENDPOINT": serving.url,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_OFFLINE": "0",
    }.items():
        monkeypatch.setenv(name, value)


async def test_its_model_comes_from_the_hub_with_its_progress_or_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python of the tests has no vLLM: it is started with the model, and says so."""
    told = []
    with hub.serve({"someone/llama": write_llama(tmp_path / "llama")}) as serving:
        use_hub(serving, tmp_path, monkeypatch)
        assert "There is no model someone/else" in await refusal(engine("someone/else", tmp_path))
        serving.gated.add("someone/llama")
        assert "has terms to accept" in await refusal(engine("someone/llama", tmp_path))
        assert not (tmp_path / "vllm.log").exists()
        serving.gated.clear()
        made = engine("someone/llama", tmp_path)
        with pytest.raises(EngineError, match=r"vLLM could not start with someone/llama: No module named 'vllm'"):
            await made.start(lambda progress: told.append(progress))
        await made.stop()
    assert any(progress.what == "fetching someone/llama" and progress.share for progress in told)
    assert not any(progress.what == "ready" for progress in told)


async def test_it_can_be_stopped_while_the_model_is_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub.serve({"someone/llama": write_llama(tmp_path / "llama")}) as serving:
        serving.wait_after["model.safetensors"] = 1000
        use_hub(serving, tmp_path, monkeypatch)
        made = engine("someone/llama", tmp_path)
        starting = asyncio.create_task(made.start(lambda progress: None))
        await asyncio.to_thread(serving.paused.wait)
        await made.stop()
        with pytest.raises(EngineError, match="stopped while it was loading"):
            await starting


STAND_IN = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event
args = dict(zip(sys.argv[5::2], sys.argv[6::2]))
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(json.dumps({"data": [{"id": args["--served-model-name"]}]}).encode())
    def do_POST(self):
        if "chat" in self.path:
            Event().wait()
        self.do_GET()
print("serving", flush=True)
ThreadingHTTPServer((args["--host"], int(args["--port"])), Handler).serve_forever()
"""
"""Takes vLLM's options and answers something: for what is looked at here, the port and the name. Its engine hangs."""


async def answers(made: Vllm, url: str) -> None:
    """Until it answers, or has ended."""
    assert made._process is not None
    answering, ended = asyncio.ensure_future(made._answers(url)), asyncio.ensure_future(made._process.wait())
    await asyncio.wait({answering, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    answering.cancel()
    assert made._process.returncode is None, made._last_words()


async def spawned(made: Vllm, model: Path) -> tuple[int, str]:
    """Start the process and wait until it answers; its id, and its key."""
    made._folder = model
    with reserved_port() as port:
        made._url, key = await made._spawn(port)
        await answers(made, made._url)
    assert made._process is not None
    return made._process.pid, key


async def test_two_at_once_have_ports_and_keys_of_their_own(tmp_path: Path) -> None:
    model = str(write_llama(tmp_path / "llama"))
    python = stand_in(tmp_path)
    begun = []
    both = [Vllm(model, tmp_path / str(place) / "vllm.log", python=python) for place in range(2)]
    try:
        for made in both:
            made._folder = Path(model)
            with reserved_port() as port:
                begun.append(await made._spawn(port))
                await answers(made, begun[-1][0])
        (url, key), (other_url, other_key) = begun
        assert url != other_url and key != other_key
        assert all(made.status.memory_bytes for made in both)
    finally:
        for made in both:
            await made.stop()
    assert all(made._process is None for made in both)


@pytest.mark.skipif(sys.platform != "linux", reason="vLLM runs on Linux only")
async def test_one_that_hangs_is_killed_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "HEARTBEAT", Heartbeat(every_s=0.05, hung_s=0.5, lost_s=60.0))
    made = Vllm("tiny", tmp_path / "vllm.log", python=stand_in(tmp_path))
    try:
        pid, _ = await spawned(made, write_llama(tmp_path / "llama"))
        dying = asyncio.create_task(made._death(print))
        psutil.Process(pid).suspend()
        await dying
        assert made.status.last_error == "vLLM no longer answered." and not psutil.pid_exists(pid)
    finally:
        await made.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="vLLM runs on Linux only")
async def test_one_whose_engine_hangs_behind_a_healthy_server_is_killed_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "HEARTBEAT", Heartbeat(every_s=0.05, hung_s=0.5, lost_s=60.0))
    made = Vllm("tiny", tmp_path / "vllm.log", python=stand_in(tmp_path))
    try:
        pid, key = await spawned(made, write_llama(tmp_path / "llama"))
        made._server, made._state = OpenAIChat(f"{made._url}/v1", "tiny", api_key=key), "ready"
        dying = asyncio.create_task(made._death(print))
        with pytest.raises(EngineError, match="disconnected"):
            [piece async for piece in made.reply(PROMPT)]
        await dying
        assert made.status.last_error == "vLLM no longer answered." and not psutil.pid_exists(pid)
    finally:
        await made.stop()


async def test_an_engine_is_alive_while_pieces_come_or_none_is_awaited() -> None:
    awaited, more = Awaited(), asyncio.Event()

    async def two() -> AsyncGenerator[str, None]:
        yield "one"
        await more.wait()
        yield "two"

    assert awaited.heard() and awaited.heard(), "nobody asks"
    async with aclosing(awaited.of(two())) as reply:
        await anext(reply)
        awaited.heard()
        assert awaited.heard(), "the listener takes their time"
        second = asyncio.ensure_future(anext(reply))
        await asyncio.sleep(0)
        assert awaited.heard() and not awaited.heard() and not awaited.heard()
        more.set()
        assert await second == "two" and awaited.heard()
    assert awaited.heard() and awaited.heard()


@pytest.mark.skipif(sys.platform != "linux", reason="vLLM runs on Linux, and so does what socket(7) says")
def test_a_reserved_port_is_given_to_nobody_else() -> None:
    with reserved_port() as port:
        with socket.socket() as other, pytest.raises(OSError):
            other.bind(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            pass  # who was told of it has SO_REUSEADDR, listens and is reached


async def test_no_more_context_is_asked_for_than_the_model_has(tmp_path: Path) -> None:
    made = Vllm("tiny", tmp_path / "vllm.log", python=stand_in(tmp_path), context=8192)
    try:
        pid, _ = await spawned(made, write_llama(tmp_path / "llama"))
        command = psutil.Process(pid).cmdline()
        assert command[command.index("--max-model-len") + 1] == "4096"
    finally:
        await made.stop()


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"text_config": {"max_position_embeddings": 32768}}, 32768),
        ({"model_type": "mamba"}, None),
    ],
)
def test_how_much_a_model_reads_is_in_its_configuration(tmp_path: Path, config: dict[str, Any], most: int) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert positions(tmp_path) == most


def stand_in(folder: Path) -> Path:
    script = folder / "python"
    (folder / "server.py").write_text(STAND_IN)
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder / "server.py"}" "$@"\n')
    script.chmod(0o755)
    return script
