"""Run a module as `python -m` does, or any program, in a process that Linux ends when its parent dies.

`python tied.py PARENT SIGNAL MODULE ARGUMENTS…`, `python tied.py PARENT SIGNAL --program COMMAND ARGUMENTS…`: by its
path, since the Python that runs it may have an environment
without Parley. Elsewhere than on Linux a child notices by the end of its pipe, or its parent stops it in good order.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import sys

_PR_SET_PDEATHSIG = 1
"""prctl(2), <linux/prctl.h>."""


def die_with(parent: int, sign: int) -> None:
    """Have this process get the signal when the parent dies, even while C code keeps Python from noticing anything."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, sign)
    if os.getppid() != parent:
        os._exit(0)  # it died before prctl was heard


if __name__ == "__main__":
    del sys.path[0]  # this folder, whose names are not the module's
    _, parent, sign, module, *arguments = sys.argv
    die_with(int(parent), int(sign))
    if module == "--program":
        os.execv(arguments[0], arguments)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
