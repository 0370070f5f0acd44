"""pip, ended with its parent: `python -m pipeline.models.pip_process download …`, its standard input held open by it.

A parent that is killed can end nobody, and what it left behind would go on fetching.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def _end_with_the_parent() -> None:
    while os.read(0, 1024):  # below sys.stdin, whose lock would be held at the interpreter's end
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    sys.argv[0] = "pip"
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
