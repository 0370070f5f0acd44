"""What is deployed in a cluster; tests/integration/test_ray.py does it."""

from __future__ import annotations

import http.server
import importlib.metadata
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.profiles import PROFILES
from config.settings import Settings
from deploy import ray_serve
from pipeline.engine import EngineError
from pipeline.engines.catalogue import wanted
from pipeline.tts.csm_talks import SLOTS
from tests.support.ray_cluster import SERVE

APPLICATIONS: list[dict[str, Any]] = yaml.safe_load(SERVE.read_text(encoding="utf-8"))["applications"]


@pytest.mark.parametrize("application", APPLICATIONS, ids=[each["name"] for each in APPLICATIONS])
def test_a_stage_is_one_application_with_limits_of_its_own(application: dict[str, Any], tmp_path: Path) -> None:
    stage = application["args"]["stage"]
    assert application["name"] == stage and application["route_prefix"] == f"/{stage}"
    assert application["import_path"] == f"{ray_serve.__name__}:{ray_serve.engine.__name__}"
    (deployment,) = application["deployments"]
    assert deployment["name"] == stage
    scaling = deployment["autoscaling_config"]
    assert 2 <= scaling["min_replicas"] < scaling["max_replicas"]
    assert 0 < scaling["target_ongoing_requests"] < deployment["max_ongoing_requests"]
    assert deployment["max_queued_requests"] > 0
    assert {"graceful_shutdown_timeout_s", "health_check_period_s", "health_check_timeout_s"} <= deployment.keys()
    settings = PROFILES[application["args"].get("profile", "offline")].applied_to(Settings())
    place = wanted(stage, settings, tmp_path)
    assert place.target.startswith("pipeline.")
    if place.engine == "CSM":
        assert deployment["max_ongoing_requests"] == SLOTS


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("stage", ["ears", "turns", "voice"])
def test_each_profile_can_be_deployed(profile: Any, stage: str, tmp_path: Path) -> None:
    place = wanted(stage, PROFILES[profile].applied_to(Settings()), tmp_path)
    assert place.engine and place.target


@pytest.mark.parametrize("stage", ["mind", "memory", "engine"])
def test_what_runs_elsewhere_already_is_not_deployed(stage: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="choose ears, turns or voice"):
        wanted(stage, Settings(), tmp_path)


def test_without_a_key_nothing_is_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ray_serve.KEY, raising=False)
    with pytest.raises(EngineError, match=f"Set {ray_serve.KEY} on every machine"):
        ray_serve.key()


@contextmanager
def dashboard(answer: bytes, status: int = 200) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def version_of(installed: str | None) -> Callable[[str], str]:
    def version(package: str) -> str:
        if installed is None:
            raise importlib.metadata.PackageNotFoundError(package)
        return installed

    return version


@pytest.mark.parametrize(
    ("installed", "answer", "sentence"),
    [
        (None, b"", "Ray is not installed: run `pip install 'ray[serve]==2.60.0'`."),
        ("2.60.0", b"hello", "There is no Ray cluster at http://"),
        ("2.60.0", b'{"ray_version": "2.59.1"}', "Ray 2.59.1 runs in the cluster, and Parley wants 2.60.0"),
        ("2.59.1", b'{"ray_version": "2.60.0"}', "Ray 2.59.1 runs here, and Parley wants 2.60.0"),
    ],
)
def test_what_keeps_it_from_being_deployed_is_told_in_a_sentence(
    installed: str | None,
    answer: bytes,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", version_of(installed))
    with dashboard(answer) as address:
        assert ray_serve.main([str(SERVE), "--dashboard", address]) == 1
    told = capsys.readouterr().err.strip()
    assert told.startswith(sentence) and "\n" not in told


def test_a_cluster_that_wants_rays_token_is_left_to_rays_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", version_of("2.60.0"))
    with dashboard(b"", 401) as address:
        ray_serve.check(address)


def test_a_cluster_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", version_of("2.60.0"))
    with dashboard(json.dumps({}).encode()) as address:
        pass
    with pytest.raises(EngineError, match=r"There is no Ray cluster at .* start one"):
        ray_serve.check(address)
