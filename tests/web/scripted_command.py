"""Stands in for csm-train: `python -m tests.web.scripted_command STEPS [refuse|idle]`. It tells of its steps at once;
`refuse` ends it with a sentence, `idle` leaves it at work until it is stopped."""

from __future__ import annotations

import json
import signal
import sys
from types import FrameType


def main(steps: int, end: str = "") -> int:
    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(130)

    signal.signal(signal.SIGTERM, stop)
    for step in range(1, steps + 1):
        print(
            json.dumps({"kind": "step", "text": "", "step": step, "steps": steps, "left_s": float(steps - step)}),
            flush=True,
        )
    if end == "refuse":
        print("A library warns.", "csm-train: The disk is full.", sep="\n", file=sys.stderr)
        return 2
    while end == "idle":
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:]))
