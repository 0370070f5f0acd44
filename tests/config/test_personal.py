"""Where one server serves several people: what is each one's own, and what the administrator keeps."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from config import Settings
from config.personal import PERSONAL, first_strange, lendable, of_a_person
from config.settings import ToolServer


def test_every_personal_setting_exists() -> None:
    for branch, names in PERSONAL.items():
        assert set(names) <= set(type(getattr(Settings(), branch)).model_fields), branch


def test_what_everybody_may_know_holds_no_secret_and_nothing_to_run() -> None:
    machine = Settings()
    machine.mind.api_key, machine.mind.url = SecretStr("sk-1"), "http://10.0.0.1/v1"
    machine.memory.chroma_host = "10.0.0.2"
    machine.tools.servers = [ToolServer(name="files", command="run", env={"KEY": SecretStr("k")})]
    machine.log.words = True
    lent = lendable(machine)
    text = lent.model_dump_json()
    assert not any(secret in text for secret in ("sk-1", "10.0.0.1", "10.0.0.2", "files"))
    assert (lent.log.words, lent.set_up) == (False, True)
    assert machine.mind.api_key.get_secret_value() == "sk-1", "the machine's own are as they were"


def test_a_person_has_their_own_and_the_machine_s() -> None:
    lent, own = lendable(Settings()), Settings()
    own.mind.persona, own.mind.engine = "A pirate.", "llama"
    own.memory.enabled, own.memory.owner = False, "somebody else"
    mine = of_a_person(lent, own)
    assert (mine.mind.persona, mine.memory.enabled) == ("A pirate.", False)
    assert (mine.mind.engine, mine.memory.owner) == (lent.mind.engine, lent.memory.owner)


def test_a_voice_is_kept_with_the_engine_that_it_was_chosen_for() -> None:
    lent, own = lendable(Settings()), lendable(Settings())
    own.voice.name = "en-gb"
    assert of_a_person(lent, own).voice.name == "en-gb"
    lent.voice.engine = "kokoro"
    assert of_a_person(lent, own).voice.name == ""


@pytest.mark.parametrize(
    ("change", "strange"),
    [
        ({"mind": {"persona": "x"}}, None),
        ({"turns": {"meaning": False}, "recording": {"enabled": True}}, None),
        ({"mind": {"engine": "llama"}}, "mind.engine"),
        ({"memory": {"chroma_host": "h"}}, "memory.chroma_host"),
        ({"profile": "gpu"}, "profile"),
    ],
    ids=["a persona", "turns", "an engine", "a server", "a profile"],
)
def test_what_is_not_one_s_own_is_named(change: dict[str, Any], strange: str | None) -> None:
    lent = lendable(Settings())
    wanted = lent.model_copy(deep=True)
    for branch, value in change.items():
        if isinstance(value, dict):
            for name, each in value.items():
                setattr(getattr(wanted, branch), name, each)
        else:
            setattr(wanted, branch, value)
    assert first_strange(lent, wanted) == strange
