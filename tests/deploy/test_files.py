"""What describes containers is consistent in itself: with the image, with Parley's settings, and from file to file."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from config import Settings
from config.places import ROOT
from deploy.ray_serve import RAY

DEPLOY = ROOT / "deploy"
COMPOSE = sorted(DEPLOY.glob("compose*.yaml"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
DRAIN_S = 3600
LAST_WORDS_S = 30
"""For the sentence that ends a conversation, after the drain."""


def read(file: Path) -> list[dict[str, Any]]:
    return [*yaml.safe_load_all(file.read_text(encoding="utf-8"))]


def manifest(kind: str, name: str) -> dict[str, Any]:
    documents = [document for file in MANIFESTS for document in read(file)]
    (found,) = [each for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def pods() -> list[tuple[str, dict[str, Any]]]:
    cluster = manifest("RayService", "engines")["spec"]["rayClusterConfig"]
    ours = [("ray head", cluster["headGroupSpec"]), *(("ray worker", each) for each in cluster["workerGroupSpecs"])]
    found = [(name, each["template"]["spec"]) for name, each in ours]
    for kind, name in (("Deployment", "gateway"), ("Deployment", "vllm"), ("StatefulSet", "chroma")):
        found.append((name, manifest(kind, name)["spec"]["template"]["spec"]))
    return found


def services(file: Path) -> dict[str, dict[str, Any]]:
    return read(file)[0]["services"]  # type: ignore[no-any-return]


def test_the_administrators_settings_are_settings() -> None:
    settings = Settings.model_validate(json.loads((DEPLOY / "settings.json").read_text(encoding="utf-8")))
    urls = (settings.mind.url, settings.cluster.url)
    reached = {settings.memory.chroma_host, *(urlsplit(url).hostname for url in urls)}
    assert reached == {manifest("Service", name)["metadata"]["name"] for name in ("vllm", "chroma", "ray")}
    assert reached <= services(DEPLOY / "compose.many.yaml").keys()


def first_settings() -> list[str]:
    """The command that writes them, of compose and of Kubernetes; $$ is compose's way to write $."""
    (composed,) = services(DEPLOY / "compose.many.yaml")["settings"]["command"]
    (container,) = dict(pods())["gateway"]["initContainers"]
    return [composed.replace("$$", "$"), container["args"][0]]


@pytest.mark.parametrize("number", [0, 1], ids=["compose", "kubernetes"])
def test_the_first_start_writes_them_with_the_key_and_no_later_one_does(tmp_path: Path, number: int) -> None:
    command = first_settings()[number].replace("/data/", f"{tmp_path}/")
    command = re.sub(r"(?:/settings)?/settings\.json(?= >)", str(DEPLOY / "settings.json"), command)
    for key in ("first-key", "second-key"):
        environment = {**os.environ, "PARLEY_CLUSTER_KEY": key}
        subprocess.run(["sh", "-c", command], env=environment, check=True)
    written = tmp_path / "settings.json"
    assert Settings.model_validate_json(written.read_bytes()).cluster.key.get_secret_value() == "first-key"
    assert written.stat().st_mode & 0o077 == 0


def test_a_gateway_has_the_time_to_drain_everywhere() -> None:
    pod = dict(pods())["gateway"]
    (container,) = pod["containers"]
    assert f"--drain={DRAIN_S}" in container["args"]
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= waits + DRAIN_S + LAST_WORDS_S
    gateways = [each for name, each in services(DEPLOY / "compose.many.yaml").items() if name.startswith("gateway")]
    assert len(gateways) == 2
    for gateway in gateways:
        assert f"--drain={DRAIN_S}" in gateway["command"]
        assert int(gateway["stop_grace_period"].removesuffix("s")) >= DRAIN_S + LAST_WORDS_S


def test_no_pod_of_the_cluster_is_cut_off_before_its_deployments_end() -> None:
    applications = yaml.safe_load(manifest("RayService", "engines")["spec"]["serveConfigV2"])["applications"]
    longest = max(each["graceful_shutdown_timeout_s"] for app in applications for each in app["deployments"])
    ray = [pod for name, pod in pods() if name.startswith("ray")]
    assert ray and all(pod["terminationGracePeriodSeconds"] > longest for pod in ray)


def test_kuberay_is_given_what_serve_is_given() -> None:
    told = yaml.safe_load(manifest("RayService", "engines")["spec"]["serveConfigV2"])
    (given,) = read(DEPLOY / "serve.yaml")
    assert told["applications"] == given["applications"]


def test_a_gateway_is_probed_where_it_tells_and_one_goes_at_a_time() -> None:
    (container,) = dict(pods())["gateway"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/live"
    budget = manifest("PodDisruptionBudget", "gateway")
    labels = manifest("Deployment", "gateway")["spec"]["template"]["metadata"]["labels"]
    assert (budget["spec"]["maxUnavailable"], budget["spec"]["selector"]["matchLabels"]) == (1, labels)


@pytest.mark.parametrize(("name", "pod"), pods(), ids=lambda each: each if isinstance(each, str) else "")
def test_nothing_gains_rights_and_what_is_ours_is_not_root(name: str, pod: dict[str, Any]) -> None:
    for container in [*pod["containers"], *pod.get("initContainers", ())]:
        held = container["securityContext"]
        assert (held["allowPrivilegeEscalation"], held["capabilities"]) == (False, {"drop": ["ALL"]})
        assert container["resources"]["requests"] and container["resources"]["limits"]
        if container["image"].startswith("parley:"):
            assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: file.name)
def test_an_image_of_ours_is_built_writes_to_volumes_alone_and_is_not_open_to_the_network(file: Path) -> None:
    built = {each["image"] for each in services(file).values() if "build" in each}
    for name, each in services(file).items():
        if each["image"].startswith("parley:"):
            assert each["image"] in built, name
            assert each.get("user", "") != "root"
        if "read_only" in each:
            assert {"data:/data", "models:/models"} <= set(each["volumes"])
        for port in each.get("ports", ()):
            assert name == "caddy" or port.startswith("127.0.0.1:"), f"{name} would be open to the network"


@pytest.mark.parametrize("file", [*COMPOSE, *MANIFESTS], ids=lambda file: file.name)
def test_every_image_of_others_is_of_a_named_version(file: Path) -> None:
    images = re.findall(r"image: (\S+)", file.read_text(encoding="utf-8"))
    assert images and not [each for each in images if ":" not in each or each.endswith(":latest")]


def test_vllm_and_ray_are_the_versions_that_parley_names() -> None:
    vllm = re.findall(r"^vllm==(\S+)", (ROOT / "requirements-vllm.txt").read_text(encoding="utf-8"), re.MULTILINE)
    text = "".join(file.read_text(encoding="utf-8") for file in (*COMPOSE, *MANIFESTS))
    assert set(re.findall(r"vllm-openai:v(\S+)", text)) == {*vllm}
    chroma = re.findall(r"^chromadb==(\S+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"chromadb/chroma:(\S+)", text)) == {*chroma}
    assert re.findall(r'rayVersion: "(\S+)"', text) == re.findall(r"ARG RAY=(\S+)", DOCKERFILE) == [RAY]
