"""Who may import whom: the rooms of the house, held by a test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
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
THE_ONE_WAY_TO_CSM = ROOT / "pipeline" / "tts" / "csm_talks.py"
PIPELINE = (
    "engine.py",  # what every engine has in common
    "cleanup.py",  # how work ends
    "disk.py",  # writing beside the loop
    "audio",  # sound, and the devices it comes from
    "models",  # an engine's files, fetched
    "workers",  # an engine in a process of its own
    "tools",  # what a reply can do besides being said
    "stt",
    "llm",
    "tts",
    "turns",  # when it is whose turn
    "speakers",  # whose voice it is
    "conversation",  # one talk through all of these
    "ends",  # a talk on this computer: a file, the sound card
    "engines",  # which engines there are, and those that run
    "doctor",  # whether it all works here
    "commands",
)
"""The folders of pipeline/ from the ground up: each may import from those before it, and from itself."""
WEB = (
    "__init__.py",
    "logs.py",
    "turn_log.py",
    "recordings.py",
    "trimming.py",  # memory that nothing uses any more
    "unread.py",  # clients that do not read
    "protocols.py",  # of connections, as uvicorn keeps them
    "preconditions.py",  # what a start needs, asked before anything is downloaded
    "labels.py",  # what users call their conversations, and pin
    "summaries.py",  # of days
    "talks.py",  # the conversations that a page can come back to
    "validation.py",  # what is wrong with an input, in a sentence
    "places.py",  # how many may talk at once
    "metrics",  # what is measured of it all
    "changes.py",  # every rule of a change of settings
    "service.py",  # what pages, API and calls share
    "summarizing.py",  # by the language model, while nobody talks
    "voices.py",  # made from a recording, with a consent
    "csm_voices.py",  # those that csm-voice keeps
    "teaching",  # a voice that CSM is taught
    "pages.py",
    "network.py",  # this machine's own addresses
    "address.py",  # where the server is reached
    "origins.py",  # pages of other origins that the owner lists
    "keys.py",  # what opens it
    "api",
    "realtime",
    "wyoming",  # for Home Assistant
    "guard.py",  # who may talk to the server
    "certificate.py",  # this machine's own, for https
    "drain.py",  # an end that lets talks finish
    "probes.py",  # whether it lives, and is ready
    "forwarded.py",  # what a proxy says of its clients
    "phone.py",  # how another device gets here
    "app.py",
    "serve.py",
    "gateway",  # many users at once
)
"""The files and folders of web, each of which may import those above it."""
CSM = (
    "errors.py",
    "writing.py",  # files that are there whole or not at all
    "model.py",
    "sampling.py",
    "rows.py",
    "codec",  # sound to codes and back
    "checkpoint",
    "sound",
    "backends",  # how a frame is computed on this machine
    "devices.py",  # and on what
    "prompt.py",
    "utterance.py",
    "batch.py",  # several at once
    "synthesis.py",  # one by one
    "scheduler.py",
    "session.py",
    "loading.py",
    "chat_format.py",
    "generator.py",  # the public face
    "training",
    "commands",
    "__init__.py",  # names the public names, and imports them when they are asked for
)
HEAVY = {"torch", "transformers", "sentence_transformers", "chromadb", "faster_whisper", "moshi", "xllamacpp"}


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(file: Path, *, only_top_level: bool = False) -> set[str]:
    tree = parsed(file)
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


@pytest.mark.parametrize(("room", "order"), [("csm", CSM), ("pipeline", PIPELINE), ("web", WEB)])
def test_the_imports_of_a_room_run_downwards(room: str, order: tuple[str, ...]) -> None:
    def place(file: Path) -> int:
        name = file.relative_to(ROOT / room).parts[0]
        assert name in order, f"{name} has no place in the order of {room}/ yet"
        return order.index(name)

    up = [
        f"{file.relative_to(ROOT)} imports {other.relative_to(ROOT)}"
        for file, others in neighbours(room).items()
        for other in others
        if place(other) > place(file)
    ]
    assert not up


def test_the_architecture_names_the_folders_in_that_order() -> None:
    told = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8").split("| in `pipeline/` |")[1]
    table = told.split("\n\n")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert [name.strip("/") for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)] == [*PIPELINE]


@pytest.mark.parametrize("room", ["csm", "rag", "config", "pipeline", "web"])
def test_no_files_import_each_other_in_a_circle(room: str) -> None:
    try:
        TopologicalSorter(neighbours(room)).prepare()
    except CycleError as error:
        pytest.fail(" ← ".join(str(file.relative_to(ROOT)) for file in error.args[1]))


@cache
def neighbours(room: str) -> dict[Path, set[Path]]:
    """The files of a room, and those of them that each imports: also inside functions, and for types only."""
    files = set((ROOT / room).rglob("*.py"))
    return {file: files.intersection(_imported(file)) for file in files}


def _imported(file: Path) -> Iterator[Path]:
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = file.relative_to(ROOT).parent.parts
            above = package[: len(package) - node.level + 1] if node.level else ()
            names = [".".join(filter(None, [*above, node.module, alias.name])) for alias in node.names]
        else:
            continue
        yield from (place for name in names if (place := _file(name.split("."))) is not None)


def _file(name: list[str]) -> Path | None:
    """Where a module, or the module that a name is imported from, stands in this repository."""
    for parts in (name, name[:-1]):
        for place in (ROOT.joinpath(*parts).with_suffix(".py"), ROOT.joinpath(*parts, "__init__.py")):
            if parts and place.exists():
                return place
    return None


def test_nothing_imports_the_commands() -> None:
    for file in (file for room in ROOMS for file in (ROOT / room).rglob("*.py")):
        assert not {"main", "setup", "start", "tests", "benchmarks"} & imports(file), file


@pytest.mark.parametrize("room", ["pipeline", "web", "config"])
def test_the_serving_process_starts_without_heavy_packages(room: str) -> None:
    """They take seconds to import and live in workers, whose modules import them inside functions."""
    for file in (ROOT / room).rglob("*.py"):
        if file == THE_ONE_WAY_TO_CSM:
            continue
        assert not HEAVY & imports(file, only_top_level=True), file
