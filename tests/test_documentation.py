"""The documentation is whole: its site builds without a warning, links and commands exist, the reference is current."""

from __future__ import annotations

import ast
import importlib.util
import logging
import re
import shlex
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from config.places import ROOT
from docs import reference
from pipeline.commands import doctor, models, talk
from start import environment, parley
from tests import checks

PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))]
)
FOREIGN_COMMANDS = {"sudo", "brew", "ssh", "pip", "tailscale", "export", ".venv/bin/ray"}
"""Of other programs: only that they are meant is checked."""
THEIRS = {"models": models.parser, "doctor": doctor.parser, "test": checks.parser}


def fenced(page: Path, *languages: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^( *)```(\w+)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(f"^{indent}", "", code, flags=re.MULTILINE) for indent, name, code in found if name in languages]


def commands() -> list[tuple[str, str]]:
    lines = [
        (page.relative_to(ROOT).as_posix(), line)
        for page in PAGES
        for block in fenced(page, "bash")
        for line in block.splitlines()
    ]
    return [(page, line) for page, line in lines if line.strip() and not line.lstrip().startswith("#")]


def piped(words: list[str]) -> Iterator[list[str]]:
    """The commands of a pipe."""
    while "|" in words:
        yield words[: words.index("|")]
        words = words[words.index("|") + 1 :]
    yield words


@pytest.mark.parametrize("name", sorted(reference.pages()))
def test_the_reference_is_what_the_code_says(name: str) -> None:
    """If this fails: `python -m docs.reference`."""
    assert (reference.FOLDER / name).read_text(encoding="utf-8") == reference.pages()[name]


def test_nothing_else_lies_in_the_reference() -> None:
    assert {path.name for path in reference.FOLDER.iterdir()} == set(reference.pages())


class _Loaded(HTMLParser):
    """What a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        address = given.get("href") if tag == "link" and given.get("rel") != "canonical" else given.get("src")
        if address:
            self.addresses.append(address)


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mkdocs"):
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    assert not [record.message for record in caplog.records if record.name.startswith("mkdocs")]
    built = list(tmp_path.rglob("*.html"))
    assert len(built) >= len([page for page in PAGES if "docs" in page.parts])
    for page in built:
        loaded = _Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert not [address for address in loaded.addresses if re.match(r"(https?:)?//", address)], page
    assert not list(tmp_path.rglob("*.py"))


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent == ROOT], ids=lambda page: page.name)
def test_a_link_of_the_front_pages_leads_to_something(page: Path) -> None:
    """Those among the site's own pages are mkdocs' to check."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_the_readme_is_short_and_has_no_placeholder() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 100
    assert not [line for line in lines if re.search(r"ADDRESS-OF|TODO|FIXME|example\.com", line)]


def quoted() -> list[str]:
    """What the documentation says a reader sees: the first column of its tables of troubles."""
    found = [re.findall(r"^\| [\"“](.+?)[\"”] \|", page.read_text(encoding="utf-8"), re.MULTILINE) for page in PAGES]
    return [quote for quotes in found for quote in quotes]


@cache
def said_by_the_code() -> str:
    """Its strings and the pages' scripts; what is filled in is a 0."""
    said: list[str] = []
    for folder in ("start", "pipeline", "web"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                match node:
                    case ast.JoinedStr(values=values):
                        said.append(
                            "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in values)
                        )
                    case ast.Constant(value=str(value)):
                        said.append(value)
    scripts = [file.read_text(encoding="utf-8") for file in (ROOT / "web" / "static" / "js").rglob("*.js")]
    return "\n".join([*said, *scripts])


@pytest.mark.parametrize("quote", quoted())
def test_a_message_that_the_documentation_quotes_is_one_of_the_code(quote: str) -> None:
    assert re.sub(r"\d+", "0", quote.strip("… ")) in said_by_the_code()


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_command_of_the_documentation_exists(page: str, line: str) -> None:
    for words in piped(shlex.split(line, comments=True)):
        check(words)


def check(words: list[str]) -> None:
    """Raises SystemExit, as its parser does, where a command is not one."""
    match words:
        case [("python3" | "py"), *rest] if words[0] == "py" or not rest[0].startswith("-"):
            check_script([word for word in rest if word != "-3.11"])
        case [".venv/bin/python", "-m", module, *_]:
            assert importlib.util.find_spec(module), module
        case [".ci/run"]:
            assert (ROOT / ".ci" / "run").exists()
        case ["curl", *arguments]:
            address = next(word for word in arguments if re.match(r"(http://)?(localhost|ADDRESS):8000/", word))
            path = re.sub(r"^(http://)?[^/]+|\?.*", "", address)
            assert f" {path}`" in (reference.FOLDER / "api.md").read_text(encoding="utf-8"), path
        case ["echo" | "aplay" | "pre-commit" | "python", *_]:
            pass
        case ["docker" | "kubectl", *arguments]:
            for option, file in pairwise(arguments):
                if option in ("--file", "--kustomize"):
                    assert (ROOT / file).exists(), file
            if "main.py" in arguments:  # run in a container
                check_script(arguments[arguments.index("main.py") :])
        case [command, *arguments] if command in dict(reference.library_commands()):
            parser = reference.made_by(dict(reference.library_commands())[command])
            parser.parse_args(arguments)
        case [command, *_]:
            assert command in FOREIGN_COMMANDS, command


def check_script(words: list[str]) -> None:
    match words:
        case ["main.py", "talk", *arguments]:
            talk.parser().parse_args(arguments)
        case ["main.py", command, *arguments] if command in parley.PARSERS:
            parley.PARSERS[command]().parse_args(arguments)
        case ["main.py", *arguments]:
            parley.parser().parse_args(arguments)
        case ["setup.py", command, *arguments] if command in environment.HANDED_OVER:
            parser = THEIRS[command]()
            if command == "test":  # pytest's own options go on to it
                parser.parse_known_args(arguments)
            else:
                parser.parse_args(arguments)
        case ["setup.py", *arguments]:
            environment.parser().parse_args(arguments)
        case [script, *_]:
            assert (ROOT / script).exists(), script


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_the_documentation_names_what_there_is(page: Path) -> None:
    for code in fenced(page, "python"):
        tree = ast.parse(code if not code.startswith("_") else f"({code.strip().rstrip(',')})")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"
