"""Writes docs/reference/ from the code: `python -m docs.reference`. A test fails while the two differ."""

from __future__ import annotations

import argparse
import ast
import contextlib
import inspect
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from unittest import mock

from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from config import Settings, SettingsStore
from config.places import ROOT
from pipeline.commands import doctor, models, talk
from pipeline.engines.running import Engines
from start import environment, parley
from tests import checks
from web.address import Address
from web.app import create_app
from web.realtime import events
from web.service import Service

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by `python -m docs.reference`: change the code, not this page. -->"


def pages() -> dict[str, str]:
    """Every page of the reference, by the name of its file."""
    return {"settings.md": settings(), "events.md": messages(), "api.md": api(), "commands.md": commands()}


def page(title: str, introduction: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", NOTE, introduction, *parts]) + "\n"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def sentence(text: str) -> str:
    """The first paragraph, as one line that begins with a capital letter and ends with a full stop."""
    line = " ".join(text.strip().split("\n\n")[0].split())
    return line[:1].upper() + line[1:] + ("" if not line or line[-1] in ".:!?" else ".")


# --- settings ---------------------------------------------------------------------------------------------------------


def settings() -> str:
    introduction = (
        "Every setting, its default and the values it takes. Most are on the setup page; all of them can be read and "
        "changed by `GET` and `PUT /api/settings`, and are kept in `data/settings.json`."
    )
    branches: dict[str, list[tuple[str, ...]]] = {}
    for name, field in _leaves(Settings):
        branch = name.partition(".")[0] if "." in name else ""
        branches.setdefault(branch, []).append((f"`{name}`", values(field), _default(field), field.description or ""))
    head = ("setting", "values", "default", "meaning")
    parts = [f"## {branch or 'general'}\n\n{table(head, rows)}" for branch, rows in branches.items()]
    return page("Settings", introduction, *parts)


def _leaves(tree: type[BaseModel], above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in tree.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _leaves(kind, f"{above}{name}.")
        else:
            yield above + name, field


def values(field: FieldInfo) -> str:
    bounds: dict[str, Any] = {}
    for rule in field.metadata:
        bounds |= {name: getattr(rule, name) for name in ("ge", "le", "max_length") if hasattr(rule, name)}
    told = shown(field.annotation)
    if "ge" in bounds and "le" in bounds:
        return f"{told}, {bounds['ge']} to {bounds['le']}"
    for name, words in (("ge", "at least"), ("le", "at most"), ("max_length", "at most")):
        if bounds.get(name) is not None:
            told += f", {words} {bounds[name]}" + (" long" if name == "max_length" else "")
    return told


def shown(kind: Any) -> str:
    """A type in words."""
    origin = get_origin(kind)
    if kind is None or kind is type(None):
        return "null"
    if origin is Annotated:
        return shown(get_args(kind)[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if origin in (list, tuple, set, frozenset):
        return f"list of {shown(get_args(kind)[0])}"
    if origin in (dict, Mapping):
        return "object"
    if origin is not None:
        return " or ".join(shown(part) for part in get_args(kind))
    words = {str: "text", SecretStr: "text, never shown", bool: "true, false", int: "whole number", float: "number"}
    return words.get(kind, "any" if kind is Any else getattr(kind, "__name__", str(kind)))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, SecretStr) or value in ("", [], None):
        return "–"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if len(text) < 40 else "see the setup page"


# --- messages ---------------------------------------------------------------------------------------------------------


def messages() -> str:
    introduction = (
        "Every message of `/v1/realtime`, with its own fields. [The protocol](../REALTIME.md) explains how they "
        "work together. A field in *italics* may be left out. "
        "Those outside the parley. family mean what they mean in OpenAI's Realtime API."
    )
    parts: dict[str, list[tuple[str, ...]]] = {}
    for kind in vars(events).values():
        if not (isinstance(kind, type) and issubclass(kind, BaseModel) and "type" in kind.model_fields):
            continue
        names = get_args(kind.model_fields["type"].annotation)
        if kind.__module__ != events.__name__ or kind.__name__.startswith("_") or not names:
            continue
        whence = "From the client" if issubclass(kind, events.ClientEvent) else "From the server"
        title = f"{whence}, for Parley's own page" if names[0].startswith("parley.") else whence
        row = (f"`{names[0]}`", _fields(kind), sentence(kind.__dict__.get("__doc__") or ""))
        parts.setdefault(title, []).append(row)
    head = ("message", "fields", "meaning")
    tables = (f"## {title}\n\n{table(*_filled(head, parts[title]))}" for title in sorted(parts, key=len))
    return page("Messages of the Realtime protocol", introduction, *tables)


def _filled(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Without the columns in which nothing stands."""
    kept = [number for number in range(len(head)) if any(row[number] for row in rows)]
    return tuple(head[number] for number in kept), [tuple(row[number] for number in kept) for row in rows]


def _fields(kind: type[BaseModel]) -> str:
    told = []
    for name, field in kind.model_fields.items():
        if name in ("type", "event_id"):
            continue
        words = _field_words(kind).get(name, "")
        told.append((f"`{name}`" if field.is_required() else f"*`{name}`*") + (f": {words}" if words else ""))
    return "<br>".join(told) or "–"


@cache
def _field_words(kind: type[BaseModel]) -> dict[str, str]:
    """The string that follows a field in its class, by the field's name."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__ != kind.__module__ or "[" in base.__name__:  # a generic with its parameter has no source
            continue
        (tree,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for field, after in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                said = after.value if isinstance(after, ast.Expr) else None
                if isinstance(said, ast.Constant) and isinstance(said.value, str):
                    found[field.target.id] = " ".join(said.value.split()).rstrip(".")
    return found


# --- the HTTP API -----------------------------------------------------------------------------------------------------


def api() -> str:
    introduction = (
        "Every address of the server. [The HTTP API](../API.md) and [the audio API](../AUDIO_API.md) explain how to "
        "use them."
    )
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        service = Service(Engines(Settings(), data), SettingsStore(data), data, Settings())
        app = create_app(service, Address("127.0.0.1", 8000, None))
        paths = get_openapi(title=app.title, version=app.version, routes=app.routes)["paths"]
    rows: list[tuple[str, ...]] = []
    for path, methods in paths.items():
        for method, told in methods.items():
            asked = "".join(
                f"{'&' if number else '?'}{one['name']}="
                for number, one in enumerate(one for one in told.get("parameters", ()) if one["in"] == "query")
            )
            also = f", `{path.removeprefix('/v1')}`" if _twice(path, method, paths) else ""
            if not (path.removeprefix("/v1") == path and method in paths.get(f"/v1{path}", ())):
                rows.append((f"`{method.upper()} {path}{asked}`{also}", sentence(told.get("description", ""))))
    return page("Addresses of the server", introduction, table(("address", "what it does"), rows))


def _twice(path: str, method: str, paths: Mapping[str, Any]) -> bool:
    return path.startswith("/v1/") and method in paths.get(path.removeprefix("/v1"), ())


# --- commands ---------------------------------------------------------------------------------------------------------


def commands() -> str:
    introduction = (
        "Every command and its options, as `--help` shows them. On Windows write `py -3.11` instead of `python3`."
    )
    theirs = (
        parley.parser(), talk.parser(), *(made() for made in parley.PARSERS.values()),
        environment.parser(), models.parser(), doctor.parser(), checks.parser(),
    )  # fmt: skip
    parts = [_command(f"python3 {parser.prog}", parser) for parser in theirs]
    return page("Commands", introduction, *parts, *(_command(name, made_by(act)) for name, act in library_commands()))


def library_commands() -> list[tuple[str, Callable[[list[str]], int]]]:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    targets = ((name, *target.split(":")) for name, target in scripts.items())
    return [(name, getattr(import_module(module), function)) for name, module, function in targets]


def made_by(command: Callable[[list[str]], int]) -> argparse.ArgumentParser:
    """The parser that a command makes for itself."""
    found: list[argparse.ArgumentParser] = []

    def stop(parser: argparse.ArgumentParser, *_: object) -> argparse.Namespace:
        found.append(parser)
        raise SystemExit

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop), contextlib.suppress(SystemExit):
        command([])
    return found[0]


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    rows: list[tuple[str, ...]] = []
    below: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            lines = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for sub, its in action.choices.items():
                own = [one for one in its._actions if not isinstance(one, argparse._HelpAction)]
                if own:
                    below.append(_command(f"{name} {sub}", its).replace("## ", "### ", 1))
                rows.append((f"`{sub}`", sentence(lines.get(sub, ""))))
        elif not isinstance(action, argparse._HelpAction):
            rows.append((_names(action), sentence((action.help or "").replace("%%", "%"))))
    told = [f"## {name}", " ".join((parser.description or "").split())]
    if rows:
        told.append(table(("argument", "meaning"), rows))
    return "\n\n".join(filter(None, [*told, *below]))


def _names(action: argparse.Action) -> str:
    value = action.metavar or (", ".join(map(str, action.choices)) if action.choices else action.dest.upper())
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    takes = "" if action.nargs == 0 else f" {value}"
    return ", ".join(f"`{name}{takes}`" for name in action.option_strings)


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"docs/reference/{name}")


if __name__ == "__main__":
    write()
