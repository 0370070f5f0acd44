"""Sound on the wire."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.realtime.pcm import ALAW, ULAW, Encoding, FromMouth, SoundError, ToEar, decoded


@given(st.integers(0, 15_000))
def test_samples_survive_the_wire(count: int) -> None:
    samples = np.linspace(-1, 1, count, dtype=np.float32)
    payloads = list(FromMouth().feed(samples))
    assert sum(FromMouth().samples_of(payload) for payload in payloads) == count
    back = np.concatenate([decoded(payload) for payload in payloads]) if payloads else np.zeros(0, np.float32)
    assert np.allclose(back, samples, atol=1e-4)


def test_loud_samples_are_clipped_and_not_wrapped() -> None:
    (payload,) = FromMouth().feed(np.array([2.0, -2.0], np.float32))
    assert np.allclose(decoded(payload), [1, -1], atol=1e-4)


@pytest.mark.parametrize("payload", ["%%%", "AAA", "AAAA", "ä"])
def test_what_is_no_sound_is_refused(payload: str) -> None:
    with pytest.raises(SoundError):
        decoded(payload)


def test_the_ear_gets_every_sample_at_its_own_rate() -> None:
    """A tone cut into odd pieces: the resampler keeps its state, so no seam is heard."""
    seconds = 2
    tone = np.sin(2 * np.pi * 440 * np.arange(seconds * 24_000) / 24_000).astype(np.float32)
    ear = ToEar()
    parts = [ear.feed(tone[start : start + 777]) for start in range(0, len(tone), 777)]
    heard = np.concatenate([*parts, ear.flush()])
    assert len(heard) == seconds * 16_000
    expected = np.sin(2 * np.pi * 440 * np.arange(len(heard)) / 16_000)
    assert np.abs(heard - expected)[200:-200].max() < 0.01


@pytest.mark.parametrize(
    ("encoding", "byte", "level"),
    [(ULAW, 0xFF, 0), (ULAW, 0x80, 32124), (ULAW, 0x00, -32124), (ALAW, 0xD5, 8), (ALAW, 0xAA, 32256)],
)
def test_a_telephones_bytes_are_those_of_g711(encoding: Encoding, byte: int, level: int) -> None:
    assert round(float(encoding.decode(bytes([byte]))[0]) * 32768) == level
    assert encoding.encode(np.array([level / 32768], np.float32)) == bytes([byte])


@pytest.mark.parametrize("encoding", [ULAW, ALAW])
def test_a_telephone_hears_a_reply_at_its_own_rate(encoding: Encoding) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000).astype(np.float32)
    mouth = FromMouth(encoding)
    payloads = [payload for start in range(0, len(tone), 777) for payload in mouth.feed(tone[start : start + 777])]
    payloads += mouth.flush()
    heard = np.concatenate([decoded(payload, encoding) for payload in payloads])
    assert len(heard) == 8000 == sum(len(base64.b64decode(payload)) for payload in payloads)
    assert sum(mouth.samples_of(payload) for payload in payloads) == 24_000
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    assert np.abs(heard - expected)[100:-100].max() < 0.03
