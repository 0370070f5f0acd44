"""If one server has several users: which settings belong to each user, and which to the administrator."""

from __future__ import annotations

from typing import Any

from config.settings import Settings

PERSONAL: dict[str, tuple[str, ...]] = {
    "ears": ("sensitivity",),
    "mind": ("persona", "personas", "temperature", "max_tokens"),
    "voice": ("name",),
    "memory": ("enabled", "budget_chars", "summaries"),
    "tools": ("builtin", "permissions"),
    "recording": ("enabled",),
    "turns": (
        "meaning", "shortest_ms", "longest_ms", "silence_ms", "speculations", "pre_roll_ms", "max_speech_s",
    ),
}  # fmt: skip
"""The personal settings by branch; none of them loads an engine, contacts a server, starts a program or holds a key."""


def lendable(machine: Settings) -> Settings:
    """Return the administrator's settings as every user may see and start from: no keys, addresses or programs.

    Only settings named here are passed on, so that a secret added to the settings later stays private.
    """
    lent, mine = Settings(profile=machine.profile, set_up=True), machine.model_copy(deep=True)
    lent.ears, lent.turns, lent.recording, lent.api = mine.ears, mine.turns, mine.recording, mine.api
    lent.mind = mine.mind.model_copy(update={"url": lent.mind.url, "api_key": lent.mind.api_key})
    lent.voice = mine.voice.model_copy(update={"references": [], "adapter": ""})
    lent.memory = lent.memory.model_copy(update={n: getattr(mine.memory, n) for n in PERSONAL["memory"]})
    lent.tools = lent.tools.model_copy(update={n: getattr(mine.tools, n) for n in PERSONAL["tools"]})
    lent.log.level = mine.log.level
    return lent


def of_a_person(lent: Settings, own: Settings) -> Settings:
    """Return a user's settings: their own for personal settings, the administrator's for the rest.

    A voice belongs to the engine that it was chosen for.
    """
    settings = lent.model_copy(deep=True)
    for branch, names in PERSONAL.items():
        if branch == "voice" and (own.voice.engine, own.voice.model) != (lent.voice.engine, lent.voice.model):
            continue
        chosen = getattr(own, branch)
        setattr(settings, branch, getattr(settings, branch).model_copy(update={n: getattr(chosen, n) for n in names}))
    return settings


def first_strange(lent: Settings, wanted: Settings) -> str | None:
    """Return the first changed setting, such as mind.engine, that users may not change; None if there is none."""
    return _differing(wanted.model_dump(), of_a_person(lent, wanted).model_dump())


def _differing(one: dict[str, Any], other: dict[str, Any], above: str = "") -> str | None:
    for name, value in one.items():
        if value == other[name]:
            continue
        if isinstance(value, dict):
            return _differing(value, other[name], f"{above}{name}.")
        return f"{above}{name}"
    return None
