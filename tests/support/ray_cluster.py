"""A real Ray cluster of one machine, with Ray in an environment of its own: Parley's and what `ray[serve]` adds."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from config.places import ROOT
from deploy.ray_serve import KEY, RAY
from pipeline.workers.deployment import Cluster

PATIENCE_S = 300.0
"""Until something is there; the bound only ends a test that has failed."""

HEAD = """
import sys, ray
port, folder = sys.argv[1:]
ray.init(num_cpus=4, object_store_memory=10**8, dashboard_port=int(port), include_dashboard=True, _temp_dir=folder,
         log_to_driver=False)
print("ready", flush=True)
sys.stdin.read()
"""
"""A cluster that ends with its input."""

READY, ATTEMPTS = "ready", 3

SERVE = ROOT / "deploy" / "serve.yaml"


def environment(folder: Path) -> Path:
    """The Python of a new environment with Ray."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", f"ray[serve]=={RAY}"], check=True)
    ours = next((folder / "lib").glob("python*/site-packages")) / "zz_parley.pth"  # found after what is there itself
    ours.write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


@dataclass(frozen=True)
class RayCluster:
    python: Path
    folder: Path
    dashboard: str
    cluster: Cluster
    environment: Mapping[str, str]
    head: int
    """The id of the cluster's first process."""

    def deploy(self, replicas: int = 2, data: str = "data") -> None:
        """What serve.yaml says, with the engines of the offline profile, in small: two cores are to do it."""
        described = yaml.safe_load(SERVE.read_text(encoding="utf-8"))
        described["http_options"] |= {"host": "127.0.0.1", "port": int(self.cluster.url.rpartition(":")[2])}
        for application in described["applications"]:
            application["args"] |= {"profile": "offline", "data": str(self.folder / data)}
            for deployment in application["deployments"]:
                del deployment["autoscaling_config"]
                deployment |= {"num_replicas": replicas, "ray_actor_options": {"num_cpus": 0.1}}
        file = self.folder / "serve.yaml"
        file.write_text(yaml.safe_dump(described), encoding="utf-8")
        command = [str(self.python), "-m", "deploy.ray_serve", str(file), "--dashboard", self.dashboard]
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True, timeout=PATIENCE_S)

    def replicas(self, stage: str) -> dict[int, str]:
        """By its process, the state of each; those that have none yet are told by 0."""
        with urllib.request.urlopen(f"{self.dashboard}/api/serve/applications/", timeout=60) as answer:
            told: dict[str, Any] = json.load(answer)
        deployments = told.get("applications", {}).get(stage, {}).get("deployments", {})
        return {each.get("pid") or 0: each["state"] for each in deployments.get(stage, {}).get("replicas", ())}

    def running(self, stage: str, replicas: int, without: frozenset[int] = frozenset()) -> Callable[[], bool]:
        """Whether so many are there, all of them ready and none of those."""

        def as_wanted() -> bool:
            states = self.replicas(stage)
            return [*states.values()] == ["RUNNING"] * replicas and not without & states.keys()

        return as_wanted


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.2)


@contextmanager
def ray_cluster(folder: Path, python: Path | None = None) -> Iterator[RayCluster]:
    """Without engines yet; ended with all of its processes. `python` has Parley's packages and Ray; None makes one."""
    python = python or environment(folder / "environment")
    ours = {KEY: "the key", "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    variables = {**os.environ, **ours}
    port, session = free_port(), Path("/tmp") / f"parley-ray-{os.getpid()}"  # a socket's path must be short
    command = [str(python), "-c", HEAD, str(port), str(session)]
    head = _begun(command, variables, folder / "ray.log")
    try:
        address = Cluster(f"http://127.0.0.1:{free_port()}", "the key")
        yield RayCluster(python, folder, f"http://127.0.0.1:{port}", address, variables, head.pid)
    finally:
        family = psutil.Process(head.pid).children(recursive=True)
        head.communicate()
        psutil.wait_procs(family, 20)
        for process in family:
            with suppress(psutil.Error):
                process.kill()
        shutil.rmtree(session, ignore_errors=True)


def _begun(command: list[str], variables: Mapping[str, str], log: Path) -> subprocess.Popen[str]:
    """Ray gives up where its machine is busy for half a minute: then it is begun again."""
    for _ in range(ATTEMPTS):
        with log.open("w") as written:
            pipe = subprocess.PIPE
            head = subprocess.Popen(
                command, cwd=ROOT, env=variables, text=True, stdin=pipe, stdout=pipe, stderr=written
            )
        assert head.stdout is not None
        if head.stdout.readline() == f"{READY}\n":
            return head
        head.wait()
    raise AssertionError(log.read_text(encoding="utf-8"))
