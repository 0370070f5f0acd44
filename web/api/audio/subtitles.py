"""Segments of a transcript as SubRip and WebVTT."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.engines.transcription import Segment

SHORTEST_S = 0.1
"""The shortest subtitle: no player shows one that ends as it begins."""


def srt(segments: Sequence[Segment]) -> str:
    return "\n".join(
        f"{number}\n{_time(start, ',')} --> {_time(end, ',')}\n{_text(segment)}\n"
        for number, (segment, start, end) in enumerate(_shown(segments), 1)
    )


def vtt(segments: Sequence[Segment]) -> str:
    """Return WebVTT, in which any text that would be markup is escaped (WebVTT, section 4.1)."""
    cues = [
        f"{_time(start, '.')} --> {_time(end, '.')}\n{_escaped(_text(segment))}\n"
        for segment, start, end in _shown(segments)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _shown(segments: Sequence[Segment]) -> list[tuple[Segment, float, float]]:
    """Return each segment with its display times: none is shorter than SHORTEST_S unless the next one begins."""
    shown = []
    for index, segment in enumerate(segments):
        end = max(segment.end, segment.start + SHORTEST_S)
        if index + 1 < len(segments):
            end = max(segment.start, min(end, segments[index + 1].start))
        shown.append((segment, segment.start, end))
    return shown


def _time(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _text(segment: Segment) -> str:
    """Return the text on one line: an empty line would end the cue, and an arrow would begin the next."""
    return " ".join(segment.text.split()).replace("-->", "→")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
