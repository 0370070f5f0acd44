"""Report progress: a line for people on standard error, or JSON lines on standard output for a calling program
(--json)."""

from __future__ import annotations

import json

from .speaking import say

__all__ = ["Tell"]


class Tell:
    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def __call__(self, kind: str, line: str, **facts: object) -> None:
        """kind, facts: for a program. line: for people."""
        if self._as_json:
            print(json.dumps({"kind": kind, "text": line, **facts}), flush=True)
        else:
            say(line)
