"""Counts what happens while people talk, in the app's own registry. No label says who talks or what is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from pipeline.conversation.events import ToolState
from pipeline.turns.record import TurnRecord

STEPS: Mapping[str, str] = {
    "understood": "transcript_final",
    "decided": "decided",
    "recalled": "recalled",
    "first_token": "first_token",
    "first_clause": "first_clause",
    "first_sound": "first_sample",
    "heard": "first_heard",
}
"""The steps to an answer, and the mark in a turn's record at which each is done."""
BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""Seconds. An answer within 0.5 feels immediate, one after 2 feels late."""
SETTLED: frozenset[ToolState] = frozenset({"done", "failed", "refused"})


def seconds_to(record: TurnRecord, step: str) -> float | None:
    """Return the seconds from the last sample of speech; 0 for a step done before it, None if either is unknown."""
    since = record.since_speech_ended(STEPS[step])
    return None if since is None else max(0.0, since)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.talks = 0
        """Conversations open now."""
        self.refusals = 0
        """Since the start."""
        self.watchers: list[Callable[[TurnRecord], None]] = []
        """Called with each finished turn."""
        ProcessCollector(registry=self.registry)
        self._begun = Counter("parley_talks", "Conversations started.", registry=self.registry)
        Gauge("parley_talks_open", "Conversations open now.", registry=self.registry).set_function(lambda: self.talks)
        self._turns = Counter("parley_turns", "Finished turns.", ["outcome"], registry=self.registry)
        self._seconds = Histogram(
            "parley_turn_seconds",
            "Seconds from the end of the user's speech until a step towards the answer was done.",
            ["step"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._tools = Counter("parley_tool_calls", "Calls of the owner's tools.", ["outcome"], registry=self.registry)
        self._refusals = Counter(
            "parley_refusals", "Requests and conversations refused.", ["reason"], registry=self.registry
        )
        for step in STEPS:  # all of them from the start: a rate needs a zero to begin from
            self._seconds.labels(step)

    @contextmanager
    def talking(self) -> Iterator[None]:
        """Count a conversation as open for the duration."""
        self._begun.inc()
        self.talks += 1
        try:
            yield
        finally:
            self.talks -= 1

    def turn(self, record: TurnRecord) -> None:
        """Count a finished turn."""
        self._turns.labels(record.outcome).inc()
        for step in STEPS:
            if (seconds := seconds_to(record, step)) is not None:
                self._seconds.labels(step).observe(seconds)
        for hear in self.watchers:
            hear(record)

    def tool(self, state: ToolState) -> None:
        """Take the state of a call; it is counted once it is settled."""
        if state in SETTLED:
            self._tools.labels(state).inc()

    def refused(self, reason: str) -> None:
        """Count a refusal. `reason` is one of ours, never a client's words."""
        self.refusals += 1
        self._refusals.labels(reason).inc()
