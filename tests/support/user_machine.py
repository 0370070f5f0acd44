"""A user's machine that has nothing yet: a hub of tiny repositories, an empty cache of models, a fresh data folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from config.places import ROOT
from tests.support import tiny_repositories as tiny
from tests.support.hub import Hub, serve


@dataclass(frozen=True, slots=True)
class Machine:
    hub: Hub
    cache: Path
    data: Path
    repositories: Mapping[str, Path]
    """The folders that the hub serves, by name."""

    @property
    def environment(self) -> dict[str, str]:
        """What leads every program to this hub and this cache."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        return kept | {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.cache), "NO_PROXY": "*"}

    def settle(self, settings: Mapping[str, object]) -> None:
        """Have these settings on disk."""
        (self.data / "settings.json").write_text(json.dumps(settings))

    def command(self, *arguments: str) -> list[str]:
        """A command of Parley's, with this machine's data."""
        return [sys.executable, *arguments, "--data", str(self.data)]

    def fetch_models(self, *models: str) -> str:
        """`python3 setup.py models` for these choices, or for those of the settings; what it printed."""
        done = subprocess.run(
            self.command("setup.py", "models", *models, "--yes"),
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout


@contextmanager
def user_machine(folder: Path) -> Iterator[Machine]:
    repositories = tiny.write_repositories(folder / "hub")
    data = folder / "data"
    data.mkdir()
    with serve(repositories) as hub:
        yield Machine(hub, folder / "cache", data, repositories)
