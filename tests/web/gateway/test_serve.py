"""What keeps a gateway from starting, and from being ready, each in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.engine import EngineStatus
from start import parley
from web.gateway.serve import GatewayOptions, lacking, serve_gateway


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"header": "X-User"}, "Anyone could name themselves in X-User: say with --proxy"),
        ({"proxies": ("nonsense",)}, "is not an address"),
        ({"public": ("nonsense",)}, "nonsense"),
        ({"profile": "nonsense"}, "The profile nonsense is not part of this version"),
        ({"port": 70_000}, "70000 is not a port"),
    ],
    ids=["a header from anybody", "a proxy", "an address", "a profile", "a port"],
)
def test_what_is_wrong_is_told_and_nothing_is_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], sentence: str
) -> None:
    assert serve_gateway(GatewayOptions(**{"data": tmp_path, "port": 0, **options})) == 1
    told = capsys.readouterr().err
    assert told.startswith("The gateway cannot start: ")
    assert sentence in told


def test_a_file_of_users_that_is_damaged_lets_nobody_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "users.json").write_text("{")
    assert serve_gateway(GatewayOptions(data=tmp_path, port=0)) == 1
    assert "mend it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (EngineStatus("memory", "ready"), None),
        (EngineStatus("memory", "ready", "There is no model for meaning."), None),
        (EngineStatus("memory", "loading"), "The memory is not ready yet."),
        (EngineStatus("memory", "failed", "It cannot be opened."), "It cannot be opened."),
    ],
    ids=["ready", "by words alone", "loading", "failed"],
)
def test_it_is_ready_once_memories_can_be_asked(status: EngineStatus, why: str | None) -> None:
    class Opened:
        def __init__(self) -> None:
            self.status = status

    memories: Any = Opened()
    assert lacking(memories) == why


def test_the_commands_are_understood() -> None:
    options = parley.gateway_parser().parse_args(["--drain", "60", "--user-header", "X-User", "--proxy", "10.0.0.2"])
    assert (options.drain, options.user_header, options.proxy) == (60, "X-User", ["10.0.0.2"])
    assert parley.gateway_parser().parse_args([]).drain == 3600
    with pytest.raises(SystemExit):
        parley.users_parser().parse_args(["destroy"])
