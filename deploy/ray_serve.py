"""Parley's engines as deployments of Ray Serve (docs/SCALING.md): `python -m deploy.ray_serve deploy/serve.yaml`.

Each replica is a worker as there is one on a single machine, in a process below Ray's, and a socket for each talker or
request. Gateways reach it by Serve's proxy; nothing of theirs is unpickled, here or there.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from config.places import DATA, ROOT
from config.profiles import PROFILES
from config.store import SettingsStore
from pipeline.engine import EngineError
from pipeline.engines.catalogue import wanted
from pipeline.workers.replica import Replica

RAY = "2.60.0"
"""The version that was tried; docs/DEPENDENCIES.md says why not another."""

KEY = "PARLEY_CLUSTER_KEY"
"""Variable of the environment with the key that gateways must show."""

DASHBOARD = "http://127.0.0.1:8265"

ANSWER_S = 10.0
"""Within which the head of a cluster that is there answers."""


async def seat(socket: WebSocket) -> None:
    """Of a talker, at the replica of this process."""
    from ray import serve

    engine: Engine = serve.get_replica_context().servable_object
    await engine.replica.serve(socket)


app = Starlette(routes=[WebSocketRoute("/seat", seat)])


class Engine:
    """A replica. Ray Serve makes it, asks for its health, and gives it its requests."""

    async def __init__(self, stage: str, profile: str = "", data: str = "") -> None:  # type: ignore[misc]  # Serve's way
        """
        Args:
            stage: ears, turns or voice.
            profile: the engines of that profile; by default those of the settings.
            data: folder of the settings and of what the engine reads; by default data/ beside this folder.
        """
        folder = Path(data) if data else DATA
        settings = SettingsStore(folder).load().settings
        if profile:
            settings = PROFILES[profile].applied_to(settings)  # type: ignore[index]
        self.replica = Replica(wanted(stage, settings, folder), key())
        await self.replica.start()

    async def check_health(self) -> None:
        """A worker that cannot be started again is Ray's to replace, and perhaps on another machine."""
        status = self.replica.status
        if status.state == "failed":
            raise EngineError(status.last_error or f"{status.engine} has failed.")

    async def __del__(self) -> None:
        await self.replica.stop()


def key() -> str:
    """Raises EngineError where there is none: engines that are open to all are nobody's wish."""
    if not (key := os.environ.get(KEY, "")):
        raise EngineError(f"Set {KEY} on every machine of the cluster to a long random text, and on the gateways too.")
    return key


def engine(args: Mapping[str, str]) -> Any:
    """For serve.yaml: the application of one stage.

    Args:
        args: those of Engine, by their names.
    """
    from ray import serve

    stage = args["stage"]
    deployment = serve.deployment(name=stage)(serve.ingress(app)(Engine))
    return deployment.bind(**args)


def main(argv: Sequence[str]) -> int:
    """Deploy what a file describes, or replace what it has changed."""
    parser = argparse.ArgumentParser(prog="python -m deploy.ray_serve", description="Deploy engines in a Ray cluster.")
    parser.add_argument("file", type=Path, help="what to deploy, like deploy/serve.yaml")
    parser.add_argument("--dashboard", default=DASHBOARD, metavar="URL", help=f"of the cluster's head ({DASHBOARD})")
    options = parser.parse_args(argv)
    try:
        check(options.dashboard)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    command = [sys.executable, "-m", "ray.serve.scripts", "deploy", "--address", options.dashboard, str(options.file)]
    return subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode


def check(dashboard: str) -> None:
    """Whether this machine can deploy, and in that cluster. Raises EngineError."""
    try:
        ours = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        raise EngineError(f"Ray is not installed: run `pip install 'ray[serve]=={RAY}'`.") from None
    try:
        with urllib.request.urlopen(f"{dashboard.rstrip('/')}/api/version", timeout=ANSWER_S) as answer:
            theirs = json.load(answer)["ray_version"]
    except urllib.error.HTTPError:
        return  # it wants Ray's token, which Ray's own command has, and says so where that is wrong
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"There is no Ray cluster at {dashboard} ({error}): start one with `ray start --head`, or give its address "
            "with --dashboard."
        ) from error
    for where, version in (("here", ours), ("in the cluster", theirs)):
        if version != RAY:
            raise EngineError(f"Ray {version} runs {where}, and Parley wants {RAY}: `pip install 'ray[serve]=={RAY}'`.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
