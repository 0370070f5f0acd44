"""The messages' own rules."""

from __future__ import annotations

import json
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config import Settings
from web.realtime import events as wire
from web.realtime import parts
from web.realtime.options import Wishes, in_force
from web.realtime.reading import MOST_FAULTS, understood
from web.validation import explain

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
UNION = get_args(wire.AnyClientEvent)[0]
TYPES = sorted(event.model_fields["type"].annotation.__args__[0] for event in get_args(UNION))
FIELDS = ["session", "audio", "item", "item_id", "content_index", "audio_end_ms", "response", "samples", "event_id"]


@given(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
def test_whatever_a_client_sends_is_understood_or_explained(type: str, fields: dict[str, object]) -> None:
    message = {"type": type, **fields}
    try:
        event = wire.CLIENT_EVENT.validate_python(message)
    except ValidationError as error:
        field, sentence = explain(error, message)
        assert sentence.endswith(".")
        assert not field.startswith(type)  # pydantic names the branch, which the client has not written
    else:
        assert event.type == type


def test_a_session_told_is_a_session_understood() -> None:
    told = in_force("conv_1", Settings(), Wishes())
    again = parts.Session.model_validate(json.loads(told.model_dump_json(exclude_none=True)))
    assert again == told


def test_wishes_build_on_each_other_and_leave_the_users_settings_alone() -> None:
    user = Settings()
    vad = {"type": "server_vad", "silence_duration_ms": 900}
    first = parts.Session.model_validate({"audio": {"input": {"turn_detection": vad}}})
    wishes = Wishes().updated(first).updated(parts.Session.model_validate({"instructions": "Sing."}))
    own = wishes.applied_to(user)
    assert (own.turns.silence_ms, own.mind.persona, wishes.mode) == (900, "Sing.", "automatic")
    assert user == Settings()
    manual = wishes.updated(parts.Session.model_validate({"audio": {"input": {"turn_detection": None}}}))
    assert manual.mode == "manual"
    assert manual.updated(parts.Session.model_validate({"audio": {"input": {}}})).mode == "manual"
    detecting = manual.updated(
        parts.Session.model_validate(
            {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "create_response": False}}}}
        )
    )
    assert detecting.mode == "detect"


def test_of_a_sessions_many_faults_some_are_told_and_the_rest_of_it_is_kept() -> None:
    odd = {f"x{number}": 1 for number in range(60)}
    event, left_out = understood(
        {"type": "session.update", "session": {"type": "realtime", "instructions": "Kept.", **odd}}
    )
    assert isinstance(event, wire.SessionUpdate) and event.session.instructions == "Kept."
    assert len(left_out) == MOST_FAULTS


def test_entries_of_a_list_are_named_by_the_places_that_they_were_sent_in() -> None:
    tool = {"type": "function", "name": "light", "parameters": {}}
    tools = [{"type": "nonsense"}, tool, {**tool, "name": "bad name!"}, {"type": "function"}, 5]
    event, left_out = understood({"type": "session.update", "session": {"type": "realtime", "tools": tools}})
    assert isinstance(event, wire.SessionUpdate) and [each.name for each in event.session.tools or ()] == ["light"]
    assert sorted({str(each.param).split(".")[2] for each in left_out}) == ["0", "2", "3", "4"]
