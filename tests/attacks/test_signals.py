"""A closed terminal says so once or twice: whatever is under way ends in good order, and the last turn is kept."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from config.places import ROOT

SERVER = """
import asyncio, sys
from pathlib import Path
from web.preconditions import listen
from web.serve import Server, server_config

async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.sleep(0.3)
    Path(sys.argv[1]).write_text("ended in good order")
    await send({"type": "lifespan.shutdown.complete"})

with listen("127.0.0.1", 0) as listener:
    asyncio.run(Server(server_config(app), lambda: print("ready", flush=True)).serve(sockets=[listener]))
"""

TALK = """
import asyncio, sys
from pathlib import Path
from pipeline.commands import talk

async def talk_for_ever(*_):
    print("ready", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.3)
        Path(sys.argv[1]).write_text("ended in good order")

talk.talk = talk_for_ever
talk.main([])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("program", [SERVER, TALK], ids=["server", "talk"])
@pytest.mark.parametrize("signals", [["SIGHUP"], ["SIGHUP", "SIGHUP"], ["SIGTERM"]], ids=" ".join)
def test_it_ends_in_good_order(program: str, signals: list[str], tmp_path: Path) -> None:
    started_as_usual = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    ended_in_good_order(f"{started_as_usual}\n{program}", signals, tmp_path / "kept")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("program", [SERVER, TALK], ids=["server", "talk"])
def test_what_a_script_runs_in_the_background_ends_too(program: str, tmp_path: Path) -> None:
    in_the_background = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    ended_in_good_order(f"{in_the_background}\n{program}", ["SIGTERM"], tmp_path / "kept")


def ended_in_good_order(program: str, signals: list[str], kept: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(kept)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "ready\n", process.communicate()[1]
        for name in signals:
            process.send_signal(getattr(signal, name))
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert kept.exists() and kept.read_text() == "ended in good order", errors
