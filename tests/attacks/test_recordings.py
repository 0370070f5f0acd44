"""Small files that hold, or promise, far more sound than was asked for: no more of them is decoded than may be kept."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from pipeline.audio import EAR_RATE, decode
from pipeline.audio.decode import Block, Opened, TooLong, Undecodable
from tests.support import encoding
from tests.web.conftest import Running

RATE = 16_000
HELD_S, ALLOWED_S = 75, 10.0


def bomb(kind: str) -> bytes:
    silence = np.zeros(HELD_S * RATE, np.float32)
    if kind in encoding.KINDS:
        return encoding.encoded(kind, silence, RATE)
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE, 1, format=kind.split()[0]) as out:
        for _ in range(HELD_S):
            out.write(silence[:RATE])
    content = bytearray(file.getvalue())
    if kind == "FLAC without a length":
        content[21] &= 0xF0
        content[22:26] = bytes(4)
    return bytes(content)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples each block had that was decoded."""
    counted: list[int] = []
    opened = decode._open

    def counting(file: io.BytesIO) -> Opened:
        def blocks(real: Iterator[Block]) -> Iterator[Block]:
            for block in real:
                counted.append(len(block))
                yield block

        known = opened(file)
        return Opened(known.rate, known.channels, blocks(known.blocks), known.promised)

    monkeypatch.setattr(decode, "_open", counting)
    return counted


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "FLAC without a length", "OGG", "MP3", "m4a", "aac", "wma"])
def test_no_more_is_decoded_than_may_be_kept(decoded: list[int], kind: str) -> None:
    with pytest.raises(TooLong, match="is longer than 10 seconds"):
        decode.decode(io.BytesIO(bomb(kind)), EAR_RATE, ALLOWED_S)
    assert sum(decoded) <= ALLOWED_S * RATE + decode.BLOCK


@pytest.mark.parametrize(("channels", "rate"), [(1, 1), (1, 2_000_000_000), (900, 16_000)])
def test_a_rate_or_channels_that_make_much_of_little(decoded: list[int], channels: int, rate: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((1000, channels), np.float32), rate, format="WAV")
    with pytest.raises(Undecodable, match="not a recording of a voice"):
        decode.decode(io.BytesIO(file.getvalue()), EAR_RATE, ALLOWED_S)
    assert not decoded


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
        b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>',
    ],
    ids=["HLS", "concat", "DASH"],
)
def test_a_playlist_leads_nowhere(content: bytes) -> None:
    with pytest.raises(Undecodable, match="is not a recording"):
        decode.decode(io.BytesIO(content), EAR_RATE, ALLOWED_S)


@pytest.mark.parametrize("kind", ["FLAC", "FLAC without a length", "m4a"])
async def test_an_upload_of_more_than_a_minute(running: Running, decoded: list[int], kind: str) -> None:
    data = base64.b64encode(bomb(kind)).decode()
    async with running.client() as client:
        answer = await client.post("/api/voice/references", json={"name": "me.flac", "data": data})
    assert answer.status_code == 422
    assert "is longer than 60 s" in answer.json()["error"]["message"]
    assert sum(decoded) <= 60 * RATE + decode.BLOCK
    assert not (running.data / "voices").exists()
