"""Turns as OpenTelemetry traces, for owners with a collector: one span per stage, and nothing that was said."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from pipeline.turns.record import TurnRecord
from web.metrics.metrics import Metrics


@dataclass(frozen=True, slots=True)
class StageSpan:
    """The span from one mark of a turn's record to another."""

    name: str
    begins: tuple[str, ...]
    """The first of these marks that was reached."""
    ends: str


SPANS = (
    StageSpan("speech", ("speech_started",), "speech_ended"),
    StageSpan("end of turn", ("speech_ended",), "decided"),
    StageSpan("recognition", ("speech_ended",), "transcript_final"),
    StageSpan("memory", ("transcript_final",), "recalled"),
    StageSpan("mind", ("recalled", "transcript_final"), "first_clause"),
    StageSpan("voice", ("first_clause",), "first_sample"),
    StageSpan("playback", ("first_heard",), "reply_done"),
)
SHUTDOWN_S = 3.0
"""Time for the remaining spans to be sent when Parley ends."""


class NoCollector(ValueError):
    """Not the address of a collector; the message is one sentence."""


def check(endpoint: str) -> None:
    """Raises NoCollector."""
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise NoCollector(f"{endpoint!r} is not a collector's address: write it as in --otlp http://localhost:4317.")


class Traces:
    """Sends turns in batches from a thread of its own; an unreachable collector delays nobody."""

    def __init__(self, endpoint: str, version: str) -> None:
        """Raises NoCollector. The libraries are imported here: without a collector nobody needs them."""
        check(endpoint)
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # The plain resource: the SDK's own would add what it finds out about this machine.
        self._provider = TracerProvider(
            resource=Resource({"service.name": "parley", "service.version": version}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("parley", version)

    def turn(self, record: TurnRecord) -> None:
        """Send a finished turn."""
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        marks = record.marks
        if not marks or not record.at:
            return
        began = min(marks.values())
        zero = datetime.fromisoformat(record.at).timestamp() - began

        def at(mark: float) -> int:
            return int((zero + mark) * 1e9)

        turn = self._tracer.start_span("turn", start_time=at(began))
        turn.set_attribute("gen_ai.conversation.id", record.conversation)
        turn.set_attribute("parley.turn", record.turn)
        turn.set_attribute("parley.outcome", record.outcome)
        turn.set_attribute("parley.end_of_turn", record.end_of_turn)
        turn.set_attribute("parley.speculations", record.speculations)
        if record.outcome == "failed":
            turn.set_status(Status(StatusCode.ERROR))
        within = set_span_in_context(turn)
        for stage in SPANS:
            first = next((marks[name] for name in stage.begins if name in marks), None)
            if first is None or stage.ends not in marks:
                continue
            span = self._tracer.start_span(stage.name, within, start_time=at(first))
            span.end(at(max(first, marks[stage.ends])))  # a stage that was done before it was due has taken no time
        turn.end(at(max(marks.values())))

    def close(self) -> None:
        """Send what is left. This waits for the collector, but not for long; call it in a thread."""
        # The SDK waits 10 s for each batch and does not take a time of ours.
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(SHUTDOWN_S)


@asynccontextmanager
async def sent(traces: Traces | None, metrics: Metrics) -> AsyncIterator[None]:
    """Send the turns that end while the block runs, the last ones when it ends; without traces, nothing."""
    if traces is None:
        yield
        return
    metrics.watchers.append(traces.turn)
    try:
        yield
    finally:
        await asyncio.to_thread(traces.close)
