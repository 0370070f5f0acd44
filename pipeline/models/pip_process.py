"""Runs pip so that it ends with its parent, which holds its standard input: `python -m pipeline.models.pip_process …`.

A parent that is killed cannot end anything, and an orphaned pip would go on downloading.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def _end_with_the_parent() -> None:
    while os.read(0, 1024):  # not by sys.stdin, whose lock would block the interpreter's end
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    sys.argv[0] = "pip"
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
