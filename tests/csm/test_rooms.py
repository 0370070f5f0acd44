"""The order of csm's rooms, from the ground up: a file imports from rooms below or from its own, never in a circle."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

CSM = Path(__file__).resolve().parent.parent.parent / "csm"

ORDER = (
    {"errors", "model", "sampling", "rows"},  # the mathematics: torch, and nothing of ours
    {"codec"},  # sound to codes and back
    {"checkpoint", "sound"},  # what comes from the disk and the microphone
    {"backends"},  # how a frame is computed on this machine
    {"prompt", "utterance"},  # what is said to the model, and what it says
    {"batch", "synthesis"},  # several at once; one by one
    {"scheduler", "session", "loading", "chat_format"},
    {"generator"},  # the public face
    {"training"},
    {"commands"},
)
"""Rooms of one line do not know each other."""

FACE = "__init__"
"""Names the public names and imports them when they are asked for: it stands above all."""


def imports() -> dict[str, set[str]]:
    """For every file of csm, as its name below the package, the files of csm that it imports, wherever it does so."""
    files = {".".join(file.relative_to(CSM).with_suffix("").parts): file for file in CSM.rglob("*.py")}
    found: dict[str, set[str]] = {}
    for name, file in files.items():
        package = ["csm", *name.split(".")[:-1]]
        found[name] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) + 1 - node.level] if node.level else []
                module = ".".join([*above, *filter(None, [node.module])])
                targets = [module, *(f"{module}.{alias.name}" for alias in node.names)]
            else:
                continue
            inside = [target.removeprefix("csm.") for target in targets if target.startswith("csm.")]
            places = {place for target in inside for place in (target, f"{target}.__init__") if place in files}
            found[name] |= places - {name}
    return found


def room(name: str) -> str:
    return name.split(".")[0]


def test_every_room_has_its_place() -> None:
    known = set().union(*ORDER) | {FACE}
    assert {room(name) for name in imports()} <= known
    assert "generator" in known and len(imports()) > 30, "and the files were found"


def test_no_import_runs_up() -> None:
    level = {name: number for number, names in enumerate(ORDER) for name in names} | {FACE: len(ORDER)}
    up = [
        f"{name} → {target}"
        for name, targets in imports().items()
        for target in targets
        if room(name) != room(target) and level[room(target)] >= level[room(name)]
    ]
    assert not up


def test_no_two_files_import_each_other_in_a_circle() -> None:
    TopologicalSorter(imports()).prepare()  # raises CycleError, which names them
