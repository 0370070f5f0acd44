"""Who may import whom: the rooms of the house, held by a test."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {"csm", "rag", "config", "pipeline", "web"}
MAY_IMPORT = {
    "csm": set[str](),
    "rag": set[str](),
    "config": set[str](),
    "pipeline": {"rag", "config"},
    "web": {"pipeline", "rag", "config"},
}
THE_ONE_WAY_TO_CSM = ROOT / "pipeline" / "tts" / "csm.py"
HEAVY = {"torch", "transformers", "sentence_transformers", "chromadb", "faster_whisper", "moshi"}


def imports(file: Path, *, only_top_level: bool = False) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = tree.body if only_top_level else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    for file in (ROOT / room).rglob("*.py"):
        forbidden = (ROOMS - {room} - MAY_IMPORT[room]) & imports(file)
        if file == THE_ONE_WAY_TO_CSM:
            forbidden -= {"csm"}
        assert not forbidden, f"{file.relative_to(ROOT)} imports {', '.join(sorted(forbidden))}"


def test_nothing_imports_the_commands() -> None:
    for file in (file for room in ROOMS for file in (ROOT / room).rglob("*.py")):
        assert not {"main", "setup", "tests", "benchmarks"} & imports(file), file


@pytest.mark.parametrize("room", ["pipeline", "web", "config"])
def test_the_serving_process_starts_without_heavy_packages(room: str) -> None:
    """They take seconds to import and live in workers, whose modules import them inside functions."""
    for file in (ROOT / room).rglob("*.py"):
        if file == THE_ONE_WAY_TO_CSM:
            continue
        assert not HEAVY & imports(file, only_top_level=True), file
