"""What a load test loads on this machine: gateways, on their own or with a Ray cluster, and what computes there."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.simulated_user import wait_until_ready
from config import SettingsStore
from config.settings import ClusterSettings, Settings
from tests.support.product import Product, running
from tests.support.ray_cluster import ray_cluster, wait_until
from web.gateway import accounts

WORKER = "pipeline.workers.process"
"""The module that an engine's worker runs; the engine's name is the last word of its command."""
STAGES = ("ears", "turns", "voice")
"""What of the engines is in the cluster."""
USERS, SERVER, CLUSTER, ELSEWHERE = "users", "server", "cluster", "elsewhere"
"""Whose processor seconds are counted, besides each engine's."""


def own_work() -> Counter[str]:
    """Processor seconds of the users alone, for a server elsewhere."""
    return Counter({USERS: sum(os.times()[:2])})


def local_work(servers: Sequence[int], cluster: int | None = None) -> Callable[[], Counter[str]]:
    """Args: servers: the process ids of the gateways or of Parley; cluster: that of a Ray cluster's first process."""

    def busy() -> Counter[str]:
        seconds = own_work()
        for root, whose in [*((server, SERVER) for server in servers), *([(cluster, CLUSTER)] if cluster else [])]:
            top = psutil.Process(root)
            for process in [top, *top.children(recursive=True)]:
                with suppress(psutil.Error):  # it has just ended
                    command, times = process.cmdline(), process.cpu_times()
                    seconds[command[-1] if WORKER in command else whose] += times.user + times.system
        everything = psutil.cpu_times()
        idle = everything.idle + getattr(everything, "iowait", 0.0) + getattr(everything, "guest", 0.0)
        seconds[ELSEWHERE] = sum(everything) - idle - sum(seconds.values())
        return seconds

    return busy


@contextmanager
def gateways(
    count: int, profile: str, cluster: ClusterSettings | None = None, users: int = 256
) -> Iterator[tuple[list[Product], list[str]]]:
    """Start gateways on one data folder, with a place for each of that many users; yield them and the users' tokens.

    Args:
        cluster: where the engines of its stages are; None is in workers of each gateway.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        tokens = [accounts.add(Path(folder) / accounts.FILE_NAME, f"user{number}") for number in range(users)]
        if cluster is not None:
            SettingsStore(Path(folder)).stage(Settings(cluster=cluster)).keep()
        command = ("gateway", "--data", folder, "--profile", profile, "--most", str(users))
        products = [opened.enter_context(running(*command)) for _ in range(count)]
        for product in products:
            wait_until_ready(product.port, product.process)
        yield products, tokens


@contextmanager
def in_ray(python: Path, replicas: int = 2) -> Iterator[tuple[ClusterSettings, int]]:
    """Start a Ray cluster on this machine with the offline engines; yield where it is, and its first process's id."""
    with tempfile.TemporaryDirectory() as folder, ray_cluster(Path(folder), python) as ray:
        ray.deploy(replicas)
        for stage in STAGES:
            wait_until(ray.running(stage, replicas))
        yield ClusterSettings(url=ray.cluster.url, key=ray.cluster.key, stages=[*STAGES]), ray.head
