"""What crosses the network is data."""

from __future__ import annotations

import pickle
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tts import SPEECH, Spoken, WordTime
from pipeline.workers.wire import LARGEST, Wire, WireError

WIRE = Wire(SPEECH)

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
DATA = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(), inner)
        | st.builds(WordTime, inner, inner, inner)
    ),
)


@given(DATA)
def test_data_arrives_as_it_was_sent(value: Any) -> None:
    assert WIRE.decoded(WIRE.encoded(value)) == value


@pytest.mark.parametrize("kind", ["float32", "float64", "int16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(0,), (3,), (2, 3), (2, 0)])
def test_arrays_arrive_and_can_be_written_to(kind: str, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, kind)
    spoken = Spoken(np.arange(4, dtype=np.float32)[::2], (WordTime(0, 1, 2),))
    sent, (said, _) = WIRE.decoded(WIRE.encoded([array, (spoken, np.float32(1))]))
    assert sent.dtype == array.dtype and sent.shape == shape and sent.all()
    assert said.samples.tolist() == [0, 2] and said.words == spoken.words
    sent[...] = 0


@dataclass
class Stranger:
    path: str


@pytest.mark.parametrize("value", [object(), Stranger("x"), b"bytes", np.array([object()]), {1, 2}, print])
def test_what_is_no_data_is_not_sent(value: object) -> None:
    with pytest.raises(WireError, match="cannot be sent"):
        WIRE.encoded([value])


def test_a_message_is_bounded() -> None:
    with pytest.raises(WireError, match="too many for one message"):
        WIRE.encoded(np.zeros(LARGEST, np.uint8))


def message(text: str, rest: bytes = b"") -> bytes:
    return len(text).to_bytes(4, "big") + text.encode() + rest


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x00\x00",
        pickle.dumps(Stranger("x")),
        message("["),
        message('{"Stranger":["x"]}'),
        message('{"os.system":["x"]}'),
        message('{"WordTime":[1]}'),
        message('{"a":1,"b":2}'),
        message("{}"),
        message('{"array":["object",[1]]}', bytes(8)),
        message('{"array":["float32",[4]]}', bytes(8)),
        message('{"array":["float32",[-1]]}', bytes(8)),
        message('{"array":["float32",[1e9]]}', bytes(8)),
        message("1", b"more"),
        message("[" * 100_000 + "]" * 100_000),
        message('{"tuple":3}'),
    ],
)
def test_what_nobody_of_ours_has_sent_is_refused(sent: bytes) -> None:
    with pytest.raises(WireError):
        WIRE.decoded(sent)


@given(st.binary())
def test_any_bytes_are_read_or_refused(sent: bytes) -> None:
    with suppress(WireError):
        WIRE.decoded(sent)
