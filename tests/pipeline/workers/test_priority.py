"""A process that gives way, in a session of its own as a worker has."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipeline.workers.priority import AUTOGROUP

SCRIPT = """
import os
from pipeline.workers.priority import AUTOGROUP, give_way
give_way(5)
print(os.getpriority(os.PRIO_PROCESS, 0), AUTOGROUP.read_text().split()[-1] if AUTOGROUP.exists() else "")
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows has no niceness")
def test_it_gives_way_to_processes_of_other_sessions_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], start_new_session=True, capture_output=True, text=True, check=True
    )
    own, of_its_group = done.stdout.removesuffix("\n").split(" ")
    assert own == "5"
    assert of_its_group == ("5" if AUTOGROUP.exists() else "")
