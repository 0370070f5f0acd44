"""Measurements that are read only on request: engines, queues, memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from config.hardware import resident
from pipeline.engine import EngineStatus
from web.places import Places

SERVER = "server"
"""The name of the serving process, beside those of the engines."""


class WaitingLine(Protocol):
    """A queue for one kind of work: some of it is done at once, the rest waits."""

    @property
    def working(self) -> int: ...

    @property
    def waiting(self) -> int: ...


class RunningEngines(Protocol):
    def health(self) -> Mapping[str, EngineStatus]: ...

    def busy(self) -> Mapping[str, int]: ...


@dataclass(frozen=True, slots=True)
class Reading:
    places: int
    """Conversations that this machine can hold at once."""
    engines: Mapping[str, EngineStatus]
    busy: Mapping[str, int]
    """By stage, how many utterances are being heard, written or spoken."""
    working: Mapping[str, int]
    waiting: Mapping[str, int]
    """By kind, requests from other programs."""
    memory: Mapping[str, int]
    """Bytes used by the server, and by each stage's processes."""


def read(engines: RunningEngines, lines: Mapping[str, WaitingLine], places: Places) -> Reading:
    health = engines.health()
    own = {SERVER: resident(os.getpid())} | {stage: status.memory_bytes for stage, status in health.items()}
    return Reading(
        places.most,
        health,
        engines.busy(),
        {kind: line.working for kind, line in lines.items()},
        {kind: line.waiting for kind, line in lines.items()},
        {process: size for process, size in own.items() if size is not None},
    )


class Readings(Collector):
    """Converts a reading to Prometheus metrics."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        now = self._read()
        yield GaugeMetricFamily("parley_talk_places", "Conversations that this machine can hold at once.", now.places)
        ready = GaugeMetricFamily("parley_engine_ready", "1 if the engine is loaded.", labels=["stage", "engine"])
        restarts = CounterMetricFamily(
            "parley_engine_restarts", "Processes that were restarted because they died or hung.", labels=["stage"]
        )
        for stage, status in now.engines.items():
            ready.add_metric([stage, status.engine], float(status.state == "ready"))
            restarts.add_metric([stage], status.restarts)
        yield ready
        yield restarts
        yield _gauge("parley_engine_busy", "Utterances being heard, written or spoken now.", "stage", now.busy)
        yield _gauge("parley_queue_working", "Requests from other programs being processed.", "kind", now.working)
        yield _gauge("parley_queue_waiting", "Requests from other programs waiting.", "kind", now.waiting)
        yield _gauge("parley_memory_bytes", "Resident memory.", "process", now.memory)


def _gauge(name: str, about: str, label: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, about, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
