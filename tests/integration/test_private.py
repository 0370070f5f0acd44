"""Nothing leaves the machine: a talk in a network of its own, where every packet is seen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from config.packages import ALWAYS, PIPER_JOE, SMOLLM2_135M, WHISPER_BASE
from config.places import ROOT
from config.private import SWITCHES
from pipeline.models.fetching import fetched
from tests.support.real_models import folder
from tests.support.recordings import recording

ENTER = ("unshare", "--map-root-user", "--net", "--")
"""Into a network that nothing comes out of."""

WATCHED = """
import ipaddress, json, socket, subprocess, sys, threading

# Every address is here: whatever is sent to whomever comes by at "lo".
for command in ("link set lo up", "route add local default dev lo", "-6 route add local default dev lo"):
    subprocess.run(["ip", *command.split()], check=True)

ETH_P_ALL, ETH_P_IP, TCP, UDP, DNS = 0x0003, 0x0800, 6, 17, 53
LAST = ("192.0.2.9", 9)
packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
packets.bind(("lo", ETH_P_ALL))
sent = []

def watch():
    while True:
        packet, (_, kind, *_) = packets.recvfrom(1 << 16)
        v4 = kind == ETH_P_IP
        protocol, head = (packet[9], 4 * (packet[0] & 15)) if v4 else (packet[6], 40)
        address = ipaddress.ip_address(packet[16:20] if v4 else packet[24:40])
        port = int.from_bytes(packet[head + 2 : head + 4], "big")
        if (str(address), port) == LAST:
            return
        # A resolver may live on this machine.
        if protocol in (TCP, UDP) and (not address.is_loopback or port == DNS):
            sent.append(f"{address} port {port}: {packet[head:]!r}")

watching = threading.Thread(target=watch)
watching.start()
done = subprocess.run(json.loads(sys.argv[1]), stdout=sys.stderr)
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", LAST)
watching.join()
json.dump({"status": done.returncode, "sent": sorted(set(sent))}, sys.stdout)
"""


SPOKEN = """
import asyncio, sys
from pathlib import Path
from benchmarks.simulated_user import headset, load
from tests.support.product import ask, started

async def question(port):
    async with headset(port) as user:
        await user.speak(load("weather_question.wav"))
        await user.turn_done.wait()
        return user.tracks.records[-1]

with started(Path(sys.argv[1]), "--profile", "small") as product:
    product.wait_until()
    assert {engine["engine"] for engine in product.health()["engines"].values()} >= {"whisper", "llama", "piper"}
    spoken = asyncio.run(question(product.port))
    assert "weather" in spoken["user"] and spoken["heard"], spoken
    with product.conversation() as socket:
        assert ask(socket, "My dog is called Rufus.")
    product.get("/api/memory/search?q=Rufus")
    for page in ("talk", "setup", "memory", "api/settings"):
        product.get(f"/{page}")
"""
"""A visit to a server with the engines of a first start: a question aloud, a sentence typed, every page."""


def watched(*command: str, home: Path, **variables: str) -> list[str]:
    """What a command, which must succeed, sends to anybody but its own machine, and each look-up."""
    environment = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    done = subprocess.run(
        [*ENTER, sys.executable, "-c", WATCHED, json.dumps(command)],
        cwd=ROOT,
        env=environment | {"HOME": str(home), "PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["status"] == 0, done.stderr
    sent: list[str] = told["sent"]
    return sent


@pytest.fixture(autouse=True)
def own_network() -> None:
    if not all(map(shutil.which, ("unshare", "ip"))) or subprocess.run([*ENTER, "true"], check=False).returncode:
        pytest.skip("a network of its own needs Linux with unshare, ip and user namespaces")


def test_what_is_sent_would_be_seen(tmp_path: Path) -> None:
    ask = "import socket; socket.create_connection(('198.51.100.7', 443), 9)"
    script = f"try:\n {ask}\nexcept OSError:\n pass"
    seen = watched(sys.executable, "-c", script, home=tmp_path)
    assert any(packet.startswith("198.51.100.7 port 443") for packet in seen)


def test_the_commands_of_csm_tell_nobody_either() -> None:
    code = "import os, csm.commands.cli; print(*os.environ)"
    environment = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert {"HF_HUB_DISABLE_TELEMETRY", "ORT_DISABLE_TELEMETRY", "DO_NOT_TRACK"} <= set(done.stdout.split())


def test_a_talk_asks_nobody_and_keeps_nothing_elsewhere(tmp_path: Path) -> None:
    for model in ALWAYS:
        fetched(model, lambda progress: None)
    home = tmp_path / "home"
    home.mkdir()
    talk = ["talk", "--data", str(tmp_path / "data"), "--profile", "offline"]
    sounds = ["--input", str(recording("weather_question.wav")), "--output", str(tmp_path / "reply.wav")]
    assert watched(sys.executable, str(ROOT / "main.py"), *talk, *sounds, home=home) == []
    assert (tmp_path / "reply.wav").stat().st_size > 10_000
    assert kept(home) == set()


@pytest.mark.slow
@pytest.mark.xdist_group("small")
def test_a_visit_to_the_default_profile_asks_nobody_and_keeps_nothing_elsewhere(tmp_path: Path) -> None:
    models = {folder(model).parent.parent for model in (WHISPER_BASE, SMOLLM2_135M, PIPER_JOE)}
    home = tmp_path / "home"
    home.mkdir()
    assert watched(sys.executable, "-c", SPOKEN, str(tmp_path / "data"), home=home, HF_HOME=str(*models)) == []
    assert kept(home) == set()


def kept(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
