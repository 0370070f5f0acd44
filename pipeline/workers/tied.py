"""Run a module as `python -m` does, or any program, in a process that Linux ends when its parent dies.

`python tied.py PARENT SIGNAL MODULE ARGUMENTS…`, `python tied.py PARENT SIGNAL --program COMMAND ARGUMENTS…`: called by
path, because the Python that runs it may have an environment without Parley. On other systems, a child notices the end
of its pipe, or its parent stops it in good order.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import sys

_PR_SET_PDEATHSIG = 1
"""prctl(2), <linux/prctl.h>."""


def die_with(parent: int, sign: int) -> None:
    """Have the kernel send this process the signal when the parent dies, even while C code holds the GIL."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, sign)
    if os.getppid() != parent:
        os._exit(0)  # the parent died before prctl took effect


if __name__ == "__main__":
    del sys.path[0]  # this folder, whose files must not shadow the module's imports
    _, parent, sign, module, *arguments = sys.argv
    die_with(int(parent), int(sign))
    if module == "--program":
        os.execv(arguments[0], arguments)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
