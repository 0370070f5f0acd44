"""The rules for changes of settings. Every change goes through `Service.change`, which applies them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from config import Settings
from config.cache import is_here
from config.engines import CATALOGUE, Stage, fetches
from config.hardware import look
from config.models import find, verdict
from pipeline.llm.vllm import PYTHON

STAGES: tuple[Stage, ...] = ("ears", "mind", "voice")
NO_SERVER = "Enter the server’s address, such as http://localhost:11434/v1."
NO_ADDRESS = "This is not an address: it should look like http://localhost:11434/v1."
NO_CLUSTER = "This is not an address: it should look like http://cluster.example:8000."
NO_KEY = "The key contains a character that never occurs in keys, such as a long dash: copy it again."
MODEL_NAME = 300
"""Characters: a hub id has at most 96, a path on disk may have more."""
NO_MODEL = f"A model's name has at most {MODEL_NAME} characters, all of them printable."


class SettingsRefused(Exception):
    """A change that cannot be applied: one sentence, and the setting concerned, if any."""

    def __init__(self, message: str, field: str | None = None, *, lacking: Mapping[str, str] | None = None) -> None:
        """`lacking`: the choice whose model must be downloaded first, as stage, engine and model."""
        super().__init__(message)
        self.field = field
        self.lacking = lacking


class SettingsInvalid(SettingsRefused):
    """A change that is invalid in itself: no machine could apply it."""


def check(old: Settings, new: Settings) -> None:
    """Raises SettingsRefused if `new` may not replace `old`. Reads the disk."""
    check_engines(new)
    check_server(old, new)
    check_models(old, new)


def merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `tree` with the branches named in `changes` replaced; lists are replaced whole."""
    result = dict(tree)
    for name, value in changes.items():
        old = result.get(name)
        result[name] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def keep_key(old: Settings, new: Settings) -> None:
    """Keep the key only for the server it was entered for: at another address it is dropped."""
    same = not old.mind.url or _server(old.mind.url) == _server(new.mind.url)
    new.mind.api_key = old.mind.api_key if same else SecretStr("")


def keep_cluster_key(old: Settings, new: Settings) -> None:
    """As `keep_key`, for the cluster."""
    same = not old.cluster.url or _server(old.cluster.url) == _server(new.cluster.url)
    new.cluster.key = old.cluster.key if same else SecretStr("")


def keep_tool_keys(old: Settings, new: Settings) -> None:
    """Restore a tool server's keys, which pages do not see, if it is still reached in the same way."""
    before = {each.name: each for each in old.tools.servers}
    for server in new.tools.servers:
        was = before.get(server.name)
        if was is None or (was.command, was.args, was.url) != (server.command, server.args, server.url):
            continue
        server.key = server.key if server.key.get_secret_value() else was.key
        server.env = {
            name: value if value.get_secret_value() else was.env.get(name, value) for name, value in server.env.items()
        }


def switch_off_strange_tools(old: Settings, new: Settings) -> None:
    """Switch off each tool server in `new` that is not identical to one in `old`.

    So a settings file can start no new program, contact no new server and grant no new permission. The environment
    counts too, since it can make a program load other code.
    """
    for server in new.tools.servers:
        server.enabled = server.enabled and server in old.tools.servers


def _server(url: str) -> tuple[str, str]:
    try:
        return urlsplit(url)[:2]
    except ValueError:
        return "", url


def check_engines(settings: Settings) -> None:
    """Raises SettingsInvalid: the settings accept any name, but only engines of the catalogue can be started."""
    for stage in STAGES:
        choice = getattr(settings, stage)
        if (stage, choice.engine) not in CATALOGUE:
            known = ", ".join(spec.name for spec in CATALOGUE.values() if spec.stage == stage)
            raise SettingsInvalid(
                f"There is no engine {choice.engine[:40]!r} for this stage; choose one of: {known}.", f"{stage}.engine"
            )
        if not is_model_name(choice.model):
            raise SettingsInvalid(NO_MODEL, f"{stage}.model")


def is_model_name(name: str) -> bool:
    return len(name) <= MODEL_NAME and name.isprintable()


def check_server(old: Settings, new: Settings) -> None:
    """Check that a new address or key can be sent. Current ones stay valid, so that other settings can be mended."""
    if new.mind.url != old.mind.url and new.mind.url and not is_address(new.mind.url):
        raise SettingsInvalid(NO_ADDRESS, "mind.url")
    if new.mind.engine == "openai" != old.mind.engine and not new.mind.url:
        raise SettingsRefused(NO_SERVER, "mind.engine")
    if new.cluster.url != old.cluster.url and new.cluster.url and not is_address(new.cluster.url):
        raise SettingsInvalid(NO_CLUSTER, "cluster.url")
    if new.cluster.key != old.cluster.key and not fits_a_header(new.cluster.key.get_secret_value()):
        raise SettingsInvalid(NO_KEY, "cluster.key")
    if new.mind.api_key != old.mind.api_key and not fits_a_header(new.mind.api_key.get_secret_value()):
        raise SettingsInvalid(NO_KEY, "mind.api_key")


def is_address(url: str) -> bool:
    """Whether a server can be contacted there: http or https, a host, and a valid port."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # reading it checks it
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url


def fits_a_header(key: str) -> bool:
    """Whether a key can be sent: a header takes only printable ASCII."""
    return key.isascii() and key.isprintable()


def not_installed(engine: str) -> str | None:
    """Return what an engine lacks besides a model, so that downloading one would be pointless; and what to do."""
    if engine == "vllm" and not PYTHON.exists():
        return "vLLM is not installed yet: run `python3 setup.py vllm` once, then choose it again."
    return None


def cannot_run(stage: Stage, engine: str, model: str) -> str | None:
    """Return why this computer cannot run it, in which case nothing should be installed or downloaded."""
    known = find(stage, engine, model)
    if known is None or (judged := verdict(known, look())).runs != "no":
        return None
    return f"{known.label} can’t run here. {judged.why}"


def check_models(old: Settings, new: Settings) -> None:
    """Accept a choice only if its model is on this computer: nothing is downloaded unasked. Reads the disk."""
    for stage in STAGES:
        choice = getattr(new, stage)
        before = getattr(old, stage)
        same = (choice.engine, choice.model) == (before.engine, before.model) and stage not in old.cluster.stages
        if same or stage in new.cluster.stages:
            continue
        wanted: dict[str, str] = {"stage": stage, "engine": choice.engine, "model": choice.model}
        missing = [fetch for fetch in fetches(stage, choice.engine, choice.model) if not is_here(fetch)]
        why = not_installed(choice.engine)
        if (why or missing) and (never := cannot_run(stage, choice.engine, choice.model)):
            raise SettingsRefused(never, f"{stage}.engine")
        if why:
            raise SettingsRefused(why, f"{stage}.engine")
        if missing:
            raise SettingsRefused(
                f"{missing[0].repository} is not on this computer yet. Download it first.",
                f"{stage}.engine",
                lacking=wanted,
            )
