"""A turn's trace, as a real collector receives it."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services

from pipeline.turns.record import TurnRecord
from tests.web.conftest import served
from tests.web.gateway.conftest import gateway_served
from tests.web.metrics.test_exported import talk
from web.gateway import accounts
from web.metrics.traces import NoCollector, Traces
from web.serve import ServeOptions, serve

MARKS = {
    "speech_started": 100.0,
    "speech_ended": 102.0,
    "transcript_final": 101.9,
    "recalled": 102.05,
    "decided": 102.3,
    "first_token": 102.1,
    "first_clause": 102.2,
    "first_sample": 102.35,
    "first_heard": 102.4,
    "reply_done": 104.0,
}


class Collector(services.TraceServiceServicer):
    def __init__(self) -> None:
        self.received: queue.Queue[Any] = queue.Queue()

    def Export(self, request: Any, context: Any) -> Any:
        self.received.put(request)
        return messages.ExportTraceServiceResponse()

    def spans(self) -> dict[str, Any]:
        """Of one turn, by their names."""
        return {span.name: span for span in self._received()}

    def traces(self) -> set[bytes]:
        """Their ids: each turn has one."""
        return {span.trace_id for span in self._received()}

    def _received(self) -> list[Any]:
        (resource,) = self.received.get(timeout=60).resource_spans
        return [span for scope in resource.scope_spans for span in scope.spans]


def seconds(span: Any) -> float:
    return round((span.end_time_unix_nano - span.start_time_unix_nano) / 1e9, 3)  # type: ignore[no-any-return]


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    services.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_turn_is_a_trace_with_a_span_a_stage(collector: tuple[Collector, str]) -> None:
    here, address = collector
    traces = Traces(address, "1.2.3")
    record = TurnRecord("conv_1", 7, at="2026-11-30T12:00:00.000+01:00", marks=MARKS, outcome="completed")
    record.user = record.reply = record.heard = "my dog is called rufus"
    traces.turn(record)
    traces.close()
    spans = here.spans()
    turn = spans.pop("turn")
    assert turn.start_time_unix_nano == 1_796_036_400_000_000_000
    assert seconds(turn) == 4.0
    assert {span.parent_span_id for span in spans.values()} == {turn.span_id}
    assert {name: seconds(span) for name, span in spans.items()} == {
        "speech": 2.0,
        "end of turn": 0.3,
        "recognition": 0.0,  # understood before the speech was over
        "memory": 0.15,
        "mind": 0.15,
        "voice": 0.15,
        "playback": 1.6,
    }
    assert "rufus" not in str(turn) + str(spans)


def test_a_stage_that_was_not_reached_has_no_span(collector: tuple[Collector, str]) -> None:
    here, address = collector
    traces = Traces(address, "1.2.3")
    marks = {name: MARKS[name] for name in ("speech_started", "speech_ended", "decided")}
    traces.turn(TurnRecord("conv_1", 1, at="2026-11-30T12:00:00+00:00", marks=marks, outcome="failed"))
    traces.close()
    spans = here.spans()
    assert set(spans) == {"turn", "speech", "end of turn"}
    assert spans["turn"].status.code == 2, "an error"


async def test_a_talk_reaches_the_collector_when_the_server_ends(
    collector: tuple[Collector, str], tmp_path: Path
) -> None:
    here, address = collector
    async with served(tmp_path, traces=Traces(address, "1.2.3")) as running:
        await talk(running.connect)
    assert {"turn", "voice", "playback"} <= set(here.spans())


async def test_a_gateway_sends_the_turns_of_all_its_users(collector: tuple[Collector, str], tmp_path: Path) -> None:
    here, address = collector
    tokens = [accounts.add(tmp_path / "users.json", name) for name in ("anna", "ben")]
    async with gateway_served(tmp_path, traces=Traces(address, "1.2.3")) as gateway:
        for token in tokens:
            await talk(partial(gateway.connect, token))
    assert len(here.traces()) == 2


@pytest.mark.parametrize("address", ["localhost:4317", "file:///etc/passwd", "http://"])
def test_what_is_no_collector_is_told_before_anything_starts(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NoCollector):
        Traces(address, "1.2.3")
    assert serve(ServeOptions(port=0, data=tmp_path, browser=False, otlp=address)) == 1
    assert "is not a collector's address" in capsys.readouterr().err
