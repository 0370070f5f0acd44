"""Whether the server lives and is ready, as a proxy or Kubernetes asks."""

from __future__ import annotations

from pathlib import Path

from tests.web.conftest import Running, served
from tests.web.scripted import ScriptedEngines


async def test_a_probe_needs_neither_token_nor_name(tmp_path: Path) -> None:
    async with served(tmp_path, token="secret") as running, running.client(headers={"Host": "10.1.2.3"}) as probe:
        for path in ("/live", "/ready"):
            answer = await probe.get(path)
            assert (answer.status_code, answer.text) == (200, f"{path[1:]}\n")
        assert (await probe.post("/ready")).status_code == 421, "only what a probe asks comes before the guard"


async def test_it_is_ready_once_its_engines_are(tmp_path: Path) -> None:
    engines = ScriptedEngines()
    engines.failing = "Whisper is not here."
    async with served(tmp_path, engines) as running, running.client() as probe:
        loading = await probe.get("/ready")
        assert (loading.status_code, loading.text) == (503, "still loading\n")
        assert loading.headers["retry-after"] == "1"
        assert (await probe.get("/live")).status_code == 200
        engines.failing = ""
        assert (await probe.get("/ready")).status_code == 200


async def test_full_is_ready_and_closed_is_not(running: Running) -> None:
    running.service.places.most = 0
    async with running.client() as probe:
        assert (await probe.get("/ready")).status_code == 200
        running.service.places.close("It restarts.")
        assert (await probe.get("/ready")).text == "It restarts.\n"
