"""The first start: downloads what the profile small needs, with sizes and progress, before anything else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from config.cache import is_here
from config.engines import fetches
from config.hardware import Hardware
from config.places import ROOT
from config.profiles import PROFILES, Name, runs_small
from config.store import FILE_NAME

SMALL: Name = "small"


def fetch_at_the_terminal(out: TextIO) -> int:
    """Run the download command in its own process, so that the server imports none of it. Return its exit status."""
    out.flush()
    command = [sys.executable, "-P", "-m", "pipeline.commands.models", "--profile", SMALL, "--yes"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, stdout=out, check=False).returncode


def first_profile(
    data: Path,
    machine: Hardware,
    fetch: Callable[[TextIO], int] = fetch_at_the_terminal,
    out: TextIO | None = None,
) -> Name | None:
    """Return the profile to start with; None if there are settings already, or only the offline profile is possible.

    Messages go to `out`, by default stdout.

    Raises KeyboardInterrupt if the user stopped the download.
    """
    if (data / FILE_NAME).exists() or not runs_small(machine):
        return None
    out = out or sys.stdout
    choices = PROFILES[SMALL].choices
    if not all(is_here(file) for stage, choice in choices for file in fetches(stage, choice.engine, choice.model)):
        print("The first start downloads the models that Parley needs to listen, think and speak.", file=out)
        status = fetch(out)
        if status == 130:
            raise KeyboardInterrupt
        if status:
            print("Parley starts with engines that need no download, and will try again next time.", file=out)
            return None
    return SMALL
