"""How the replies' sound leaves: at its own time, counted as it leaves, stopped at once."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import numpy as np
from av import AudioFrame, CodecContext, Packet

from pipeline.audio import MOUTH_RATE, Samples
from tests.support import virtual_time
from tests.support.virtual_time import VirtualClockLoop
from web.realtime import events as wire
from web.realtime.webrtc.playout import FRAME, SILENCE, TICKS, Playout, ReplyEncoder, Sound, Track

TONE: Samples = (0.3 * np.sin(np.arange(MOUTH_RATE // 2 + 100) * 2 * np.pi * 440 / MOUTH_RATE)).astype(np.float32)


def sounds(name: str, packets: int) -> list[Sound]:
    """So many packets of a whole reply."""
    made = [Sound(f"{name}{number}".encode(), FRAME) for number in range(packets)]
    return [*made[:-1], Sound(made[-1].packet, FRAME, last=True)]


class Scene:
    def __init__(self) -> None:
        self.told: list[wire.ServerEvent] = []
        self.playout = Playout(self.told.append)

    def send(self, name: str, packets: int) -> None:
        self.playout.begin(name)
        self.playout.sent(packets * FRAME)
        self.playout.add(name, sounds(name, packets))

    def taken(self, packets: int) -> list[bytes]:
        return [self.playout.next() for _ in range(packets)]

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.told]  # type: ignore[attr-defined]  # each event has one


def test_what_was_heard_is_what_has_left() -> None:
    scene = Scene()
    scene.send("a", 3)
    assert (scene.playout.played, scene.playout.left) == (0, 0.06)
    assert scene.taken(2) == [b"a0", b"a1"]
    assert (scene.playout.played, scene.playout.left) == (2 * FRAME, 0.02)
    assert scene.types == ["output_audio_buffer.started"]
    assert scene.taken(2) == [b"a2", SILENCE]
    assert (scene.playout.played, scene.playout.left) == (3 * FRAME, 0)
    assert scene.types == ["output_audio_buffer.started", "output_audio_buffer.stopped"]


def test_what_is_still_being_encoded_is_not_taken_for_heard() -> None:
    scene = Scene()
    scene.playout.begin("a")
    scene.playout.sent(10 * FRAME)
    assert scene.playout.left == 0.2
    assert scene.taken(1) == [SILENCE]


def test_a_pause_holds_and_what_is_dropped_is_gone_at_once() -> None:
    scene = Scene()
    scene.send("a", 5)
    scene.taken(1)
    scene.playout.pause()
    assert (scene.taken(2), scene.playout.left) == ([SILENCE] * 2, 0)
    scene.playout.resume()
    assert scene.taken(1) == [b"a1"]
    scene.playout.pause()
    scene.playout.drop("a")
    scene.playout.add("a", sounds("a", 2))  # it was on its way
    assert scene.taken(2) == [SILENCE] * 2
    assert (scene.playout.played, scene.playout.left) == (2 * FRAME, 0)
    assert scene.types == ["output_audio_buffer.started", "output_audio_buffer.cleared"]
    scene.send("b", 1)
    assert scene.taken(1) == [b"b0"]
    scene.playout.drop("c")
    scene.playout.add("a", sounds("a", 2))
    assert scene.taken(1) == [SILENCE]


def test_a_reply_that_follows_another_is_played_after_it_and_counted_apart() -> None:
    scene = Scene()
    scene.send("a", 2)
    scene.send("b", 1)
    assert scene.taken(3) == [b"a0", b"a1", b"b0"]
    assert scene.playout.played == FRAME
    assert scene.types == ["output_audio_buffer.started", "output_audio_buffer.stopped"] * 2


def test_a_reply_is_whole_in_opus() -> None:
    encoder = ReplyEncoder()
    made = [*encoder.feed(TONE[:5000]), *encoder.feed(TONE[5000:]), *encoder.finish()]
    assert sum(each.samples for each in made) == len(TONE)
    assert [each.last for each in made].count(True) == 1 and made[-1].last
    heard = decoded([each.packet for each in made])
    strong = np.flatnonzero(np.abs(heard) > 3000)
    assert abs((strong[-1] - strong[0]) / 48_000 - len(TONE) / MOUTH_RATE) < 0.01
    spectrum = np.abs(np.fft.rfft(heard[4800:19_200]))
    assert int(spectrum.argmax()) * 48_000 // 14_400 == 440


def test_what_is_sent_where_nothing_is_said_is_silence() -> None:
    assert not decoded([SILENCE] * 3).any()


def decoded(packets: list[bytes]) -> np.ndarray:
    codec = CodecContext.create("libopus", "r")
    frames = [frame for packet in packets for frame in codec.decode(Packet(packet))]
    assert all(isinstance(frame, AudioFrame) for frame in frames)
    return np.concatenate([np.asarray(frame.to_ndarray(), np.float64).reshape(-1, 2)[:, 0] for frame in frames])


def test_packets_leave_every_20_ms_and_their_times_only_grow() -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        track = Track(Playout(lambda _: None))
        taken = [await track.recv() for _ in range(50)]
        assert abs(loop.time() - 0.98) < 1e-6
        loop.jump(0.1)  # the loop was busy: what is late is sent at once, at its own time
        taken += [await track.recv() for _ in range(10)]
        assert abs(loop.time() - 1.18) < 1e-6
        assert [packet.pts for packet in taken] == list(range(0, 60 * TICKS, TICKS))
        assert {packet.time_base for packet in taken} == {Fraction(1, 48_000)}
        loop.jump(5)  # the machine slept: it goes on from now, and sends no five seconds at once
        later = [await track.recv() for _ in range(3)]
        assert abs(loop.time() - 6.2) < 0.03
        assert (later[0].pts or 0) / 48_000 > 6.1

    virtual_time.run(scene())
