"""The server as a process: how it starts, why it cannot, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from config import Settings, SettingsStore
from config.places import ROOT
from config.settings import MindSettings
from web.address import Address
from web.network import lan_addresses
from web.preconditions import ServeError, data_folder, listen
from web.serve import ServeOptions, access_token, load_settings, serve

SCRIPT = """
import sys
from pathlib import Path
from web.serve import ServeOptions, serve
host, port, data, profile = sys.argv[1:]
sys.exit(serve(ServeOptions(host, int(port), Path(data), profile or None, browser=False)))
"""


def start(data: Path, *, host: str = "127.0.0.1", port: int = 0, profile: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, host, str(port), str(data), profile]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Parley is at http://"), line or (process.stderr and process.stderr.read())
    return line.split()[3]


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = start(tmp_path)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_ctrl_c_ends_it_with_all_its_children(serving: subprocess.Popen[str], tmp_path: Path) -> None:
    url = address(serving)
    assert httpx.get(f"{url}/health", timeout=None).status_code == 200  # it serves while the engines load
    process = psutil.Process(serving.pid)
    children = process.children(recursive=True)
    serving.send_signal(signal.SIGINT)
    out, err = serving.communicate(timeout=120)
    assert serving.returncode == 0
    assert "Parley has ended." in out
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(children, timeout=120)
    assert not alive
    for line in (tmp_path / "parley.log").read_text().splitlines() if (tmp_path / "parley.log").exists() else []:
        assert {"at", "level", "logger", "message"} <= set(json.loads(line))
    if os.name == "posix":
        readable = [path for path in tmp_path.rglob("*") if path.stat().st_mode & 0o077]
        assert not readable, "data is for its owner's eyes only"


def test_a_second_ctrl_c_ends_it_at_once(serving: subprocess.Popen[str]) -> None:
    url = address(serving)
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as lingering:
        lingering.sendall(b"GET /health HTTP/1.1\r\n")  # half a request keeps a graceful end waiting
        children = psutil.Process(serving.pid).children(recursive=True)
        serving.send_signal(signal.SIGINT)
        while serving.poll() is None:  # two at once would be taken for one
            serving.send_signal(signal.SIGINT)
        serving.communicate()
    assert serving.returncode == 128 + signal.SIGINT
    _, alive = psutil.wait_procs(children, timeout=120)
    assert not alive


def test_what_prevents_a_start_is_one_sentence(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        process = start(tmp_path, port=taken.getsockname()[1])
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.startswith("Parley cannot start: Port ")
    assert "--port" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"origins": ("nowhere",)},
        {"proxies": ("nobody",)},
        {"otlp": "nothing"},
        {"certificate": (Path("no"), Path("no"))},
    ],
)
def test_what_prevents_a_start_is_told_before_a_first_one_downloads(
    tmp_path: Path, wrong: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    downloaded: list[Path] = []

    def first_profile(data: Path) -> None:
        downloaded.append(data)

    options = ServeOptions(port=0, data=tmp_path, browser=False, **wrong)
    assert serve(options, first_profile) == 1
    assert downloaded == []
    assert capsys.readouterr().err.startswith("Parley cannot start: ")


def test_a_port_in_use() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(ServeError, match="is in use"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(ServeError, match="not an address of this machine"):
        listen("203.0.113.7", 0)
    with pytest.raises(ServeError, match="not an address of this machine"):
        listen("no such host", 0)


def test_a_data_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServeError, match="--data"):
        data_folder(tmp_path / "file" / "data")
    assert data_folder(tmp_path / "new" / "data").is_dir()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_data_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ServeError, match="cannot be written"):
        data_folder(tmp_path)
    tmp_path.chmod(0o700)


def test_a_damaged_settings_file_is_kept_and_told(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"turns": {"silence_ms": "soon"}}')
    settings, _, notice = load_settings(tmp_path, None)
    assert settings.turns.silence_ms == 500
    assert notice is not None
    assert "settings-damaged-" in notice


def test_a_profile_is_chosen_or_refused_and_nothing_is_kept_of_it_yet(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="choose one of: offline"):
        load_settings(tmp_path, "moon")
    SettingsStore(tmp_path).save(Settings(profile="cpu"))
    settings, store, _ = load_settings(tmp_path, "offline")
    assert (settings.profile, settings.mind.engine) == ("offline", "builtin")
    assert store.load().settings.profile == "cpu"
    chosen = Settings(profile="offline", mind=MindSettings(engine="openai", url="http://localhost:11434/v1"))
    SettingsStore(tmp_path).save(chosen)
    settings, _, _ = load_settings(tmp_path, "offline")
    assert settings.mind.engine == "builtin", "also where another engine was chosen since"


def test_the_token_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    token = access_token(tmp_path)
    assert len(token) >= 32
    assert access_token(tmp_path) == token
    assert (tmp_path / "token").stat().st_mode & 0o077 == 0
    (tmp_path / "token").write_text("short")
    with pytest.raises(ServeError, match="too short"):
        access_token(tmp_path)


def test_the_address_that_is_printed() -> None:
    assert Address("127.0.0.1", 8000).url == "http://localhost:8000"
    assert Address("0.0.0.0", 80, "t").url == "http://localhost:80/?token=t"
    assert Address("192.168.1.5", 8000, "t").url == "http://192.168.1.5:8000/?token=t"
    assert Address("fe80::1", 8000, "t").url == "http://[fe80::1]:8000/?token=t"
    assert Address("0.0.0.0", 80, "t").elsewhere(["192.168.1.5"]) == ["http://192.168.1.5:80/?token=t"]
    assert Address("127.0.0.1", 80).elsewhere(["192.168.1.5"]) == []
    assert all(name.count(".") == 3 and not name.startswith("127.") for name in lan_addresses())
