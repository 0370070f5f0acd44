"""What `/metrics` gives, read by Prometheus' own parser."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

Exported = dict[tuple[str, str], float]
"""By the sample's name and its labels' values, in the order of the labels' names, joined by a space."""


def parsed(text: str) -> Exported:
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {(each.name, " ".join(value for _, value in sorted(each.labels.items()))): each.value for each in samples}


async def exported(client: httpx.AsyncClient) -> Exported:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    return parsed(answer.text)
