"""Every format, decoded again and compared with what went in."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest

from pipeline.audio import MOUTH_RATE, Samples
from pipeline.audio.decode import decode
from pipeline.audio.encode import FASTEST, FORMATS, SLOWEST, SoundEncoder, encoded
from pipeline.audio.pcm import from_pcm16

BLOCK = 1920


def sweep(seconds: float = 2.0) -> Samples:
    """From 100 to 2,000 Hz, so that no part of it is like another."""
    time = np.arange(round(seconds * MOUTH_RATE)) / MOUTH_RATE
    phase = 2 * np.pi * (100 * time + 950 * time**2 / seconds)
    sound: Samples = (0.3 * np.sin(phase)).astype(np.float32)
    return sound


def read(data: bytes, format: str) -> Samples:
    return from_pcm16(data) if format == "pcm" else decode(io.BytesIO(data), MOUTH_RATE, 60)


def pieces(sound: Samples, format: str, speed: float = 1.0) -> list[bytes]:
    encoder = SoundEncoder(format, speed)
    return [*(encoder.feed(sound[at : at + BLOCK]) for at in range(0, len(sound), BLOCK)), encoder.finish()]


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_decoded_is_what_went_in_to_its_very_end(format: str) -> None:
    sound = sweep()
    heard = read(b"".join(pieces(sound, format)), format)
    assert len(sound) <= len(heard) < len(sound) + MOUTH_RATE // 5, (
        "codecs fill their last frame up, and cut nothing off"
    )
    delay = int(np.argmax(np.correlate(heard[: 3 * BLOCK], sound[:BLOCK], "valid")))
    same = heard[delay : delay + len(sound)]
    assert len(same) > len(sound) - BLOCK
    if format in ("wav", "pcm", "flac"):
        assert np.abs(same - sound).max() <= 1 / 32767
    for at in range(0, len(same) - BLOCK, BLOCK):
        alike = np.corrcoef(same[at : at + BLOCK], sound[at : at + BLOCK])[0, 1]
        assert alike > 0.8, f"{alike:.2f} at {at / MOUTH_RATE:.2f} s"


@pytest.mark.parametrize("format", FORMATS)
def test_the_first_bytes_come_with_the_first_sound(format: str) -> None:
    quarter = sweep()[: MOUTH_RATE // 4]
    encoder = SoundEncoder(format)
    assert b"".join(encoder.feed(quarter[at : at + BLOCK]) for at in range(0, len(quarter), BLOCK))


@pytest.mark.parametrize("speed", [SLOWEST, 0.7, 1.5, FASTEST])
def test_speed_changes_the_length_and_not_the_pitch(speed: float) -> None:
    time = np.arange(2 * MOUTH_RATE) / MOUTH_RATE
    tone = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    heard = read(encoded(tone, "pcm", speed), "pcm")
    assert len(tone) / speed <= len(heard) < len(tone) / speed + MOUTH_RATE // 5
    middle = heard[len(heard) // 4 : 3 * len(heard) // 4]
    loudest = np.argmax(np.abs(np.fft.rfft(middle * np.hanning(len(middle))))) * MOUTH_RATE / len(middle)
    assert loudest == pytest.approx(440, abs=8)


def test_a_wav_has_one_header_with_the_greatest_length_and_is_read_by_everyone() -> None:
    sound = sweep()
    parts = pieces(sound, "wav")
    data = b"".join(parts)
    assert data.count(b"RIFF") == 1 and data.startswith(b"RIFF\xff\xff\xff\xffWAVE")
    assert data[36:44] == b"data\xff\xff\xff\xff"
    assert np.abs(from_pcm16(data[44:]) - sound).max() <= 1 / 32767
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (MOUTH_RATE, 1, 2)
    assert len(decode(io.BytesIO(data), MOUTH_RATE, 60)) == len(sound)
