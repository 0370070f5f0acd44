"""The dashboard asks only for what `/metrics` exports, by labels and values that there are."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from config.places import ROOT
from pipeline.engine import EngineStatus
from web.metrics.metrics import STEPS, Metrics
from web.metrics.readings import Reading, Readings

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "parley.json").read_text(encoding="utf-8"))
PROMQL = {"sum", "by", "rate", "increase", "histogram_quantile", "le", "label_values"}
GRAFANA = {"job", "instance"}
"""Labels that Prometheus itself adds."""


def exported() -> dict[str, set[str]]:
    """Every sample's name, and its labels."""
    metrics = Metrics()
    metrics.tool("done")
    metrics.refused("no_place")
    engines = {"ears": EngineStatus("whisper", "ready")}
    reading = Reading(1, engines, {"ears": 0}, {"hearing": 0}, {"hearing": 0}, {"server": 1})
    metrics.registry.register(Readings(lambda: reading))
    found = {sample.name: {*sample.labels} for family in metrics.registry.collect() for sample in family.samples}
    return found | {"parley_turns_total": {"outcome"}}


def queries() -> list[str]:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    found = [target["expr"] for panel in panels for target in panel["targets"]]
    return [*found, *(each["definition"] for each in DASHBOARD["templating"]["list"] if "definition" in each)]


@pytest.mark.parametrize("query", queries())
def test_a_query_names_what_is_exported(query: str) -> None:
    known = exported()
    words = set(re.findall(r"[a-z_]{2,}", re.sub(r'"[^"]*"|\[[^]]*\]', "", query)))
    named = {word for word in words if word.startswith(("parley_", "process_"))}
    assert len(named) == 1
    assert named <= known.keys()
    labels = words - named - PROMQL - GRAFANA
    assert labels <= known[named.pop()]
    assert set(re.findall(r'step="([^"]*)"', query)) <= set(STEPS)


def test_panels_stand_beside_each_other() -> None:
    places = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places)) and max(x for x, _ in places) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
