"""Recordings in, recordings out: reading, writing, and a conversation held with them under a virtual clock."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.conversation.conversation import Conversation
from pipeline.conversation.stages import Stages
from pipeline.ends import file
from pipeline.ends.file import AudioFileError, Held, check_writable, hold, read_sound, write_sound
from pipeline.turns.vad import FRAME
from tests.support import encoding, recordings, virtual_time
from tests.support.scene import SPEECH_LEVEL, Scene, _Ears, _Memory, _Mind, _Vad, _Voice


def tone(seconds: float, rate: int, level: float = 0.5) -> Samples:
    return (level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


# Reading


@pytest.mark.parametrize(
    ("name", "seconds"), [("weather_question.wav", 1.87), ("jfk.flac", 11.0), ("bear_or_shark.mp3", 2.1)]
)
def test_wav_flac_and_mp3_are_read(name: str, seconds: float) -> None:
    sound = read_sound(recordings.recording(name))
    assert sound.dtype == np.float32
    assert sound.ndim == 1
    assert len(sound) / EAR_RATE == pytest.approx(seconds, abs=0.05)
    assert 0.05 < np.abs(sound).max() <= 1


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_number_of_channels_keeps_its_tone(tmp_path: Path, rate: int, channels: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.tile(tone(1, rate)[:, None], channels), rate)
    sound = read_sound(tmp_path / "a.wav")
    assert len(sound) == pytest.approx(EAR_RATE, abs=2)
    assert np.abs(np.fft.rfft(sound)).argmax() * EAR_RATE / len(sound) == pytest.approx(440, abs=1)


def test_a_clipped_recording_stays_within_bounds(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(0.5, 48_000, level=4), 48_000, subtype="FLOAT")
    assert np.abs(read_sound(tmp_path / "a.wav")).max() == 1


def test_what_is_not_a_number_becomes_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(1000, np.nan, np.float32), EAR_RATE, subtype="FLOAT")
    assert not read_sound(tmp_path / "a.wav").any()


def cut(name: str, size: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(recordings.recording(name).read_bytes()[:size])
        return path

    return make


def holding(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: folder / "none.wav", "There is no file"),
        (lambda folder: folder, "is a folder"),
        (holding("a.wav", b""), "is empty"),
        (holding("a.wav", b"To whom it may concern"), "is not a recording"),
        (holding("a.mp3", bytes(range(256)) * 40), "is not a recording"),
        (holding("a.raw", bytes(range(256)) * 40), "is not a recording"),
        (cut("weather_question.wav", 44), "has no sound in it"),
        (cut("jfk.flac", 60_000), "cannot be read to its end"),
        (cut("bear_or_shark.mp3", 6_000), "was cut off"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(
    tmp_path: Path, make: Callable[[Path], Path], sentence: str
) -> None:
    with pytest.raises(AudioFileError, match=sentence) as raised:
        read_sound(make(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("claims", [(0x7FFFF024, 0x7FFFF000), (0xFFFFFFFF, 0xFFFFFFFF), (120_036, 120_000), (0, 0)])
def test_a_wav_that_claims_another_length_is_read_to_its_end(tmp_path: Path, claims: tuple[int, int]) -> None:
    """As SoX, FFmpeg and others write it into a pipe, or as a broken copy leaves it."""
    content = bytearray(recordings.recording("weather_question.wav").read_bytes())
    content[4:8], content[40:44] = (claim.to_bytes(4, "little") for claim in claims)
    (tmp_path / "piped.wav").write_bytes(content)
    assert len(read_sound(tmp_path / "piped.wav")) / EAR_RATE == pytest.approx(1.87, abs=0.05)


def test_a_flac_from_a_pipe_claims_no_length(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone(1, EAR_RATE), EAR_RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    assert len(read_sound(tmp_path / "a.flac")) == EAR_RATE


def heard_tone(sound: Samples) -> float:
    """Hz of the loudest."""
    return float(np.abs(np.fft.rfft(sound)).argmax() * EAR_RATE / len(sound))


@pytest.mark.parametrize("kind", encoding.KINDS)
def test_what_phones_and_browsers_record_is_read(tmp_path: Path, kind: str) -> None:
    rate = {"3gp": 8_000, "webm": 48_000}.get(kind, 44_100)
    (tmp_path / f"a.{kind}").write_bytes(encoding.encoded(kind, tone(2, rate), rate))
    sound = read_sound(tmp_path / f"a.{kind}")
    assert len(sound) / EAR_RATE == pytest.approx(2, abs=0.1)
    assert heard_tone(sound) == pytest.approx(440, abs=1)
    assert np.sqrt(np.square(sound).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.2)


def test_gsm_in_a_wav_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(2, 8_000), 8_000, subtype="GSM610")
    sound = read_sound(tmp_path / "a.wav")
    assert len(sound) / EAR_RATE == pytest.approx(2, abs=0.05)
    assert heard_tone(sound) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("second", [-1.0, -0.9, 0.0, 1.0])
def test_channels_do_not_cancel_each_other(tmp_path: Path, second: float) -> None:
    sound = tone(2, 48_000)
    soundfile.write(tmp_path / "a.wav", np.stack([sound, second * sound], axis=1), 48_000)
    assert np.abs(read_sound(tmp_path / "a.wav")).max() == pytest.approx(0.5 if second else 0.25, abs=0.02)


def test_a_pipe_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    content = recordings.recording("jfk.flac").read_bytes()
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
    writer.start()
    assert len(read_sound(tmp_path / "pipe")) / EAR_RATE == pytest.approx(11.0, abs=0.05)
    writer.join()


def test_a_pipe_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "MOST_PIPED", 1 << 21)
    with pytest.raises(AudioFileError, match="cut it into parts"):
        read_sound(Path("/dev/zero"))


def test_a_process_may_be_the_file() -> None:
    """`talk --input <(sox …)` gives such a name."""
    reader, writer = os.pipe()
    os.write(writer, recordings.recording("bear_or_shark.mp3").read_bytes()[:60_000])
    os.close(writer)
    assert len(read_sound(Path(f"/dev/fd/{reader}"))) / EAR_RATE == pytest.approx(2.1, abs=0.05)
    os.close(reader)


# Writing


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_a_reply_s_file_says_that_a_machine_speaks(tmp_path: Path, name: str) -> None:
    write_sound(tmp_path / name, tone(0.5, MOUTH_RATE))
    with soundfile.SoundFile(tmp_path / name) as file:
        assert "Synthetic speech" in file.comment


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_what_is_written_can_be_read(tmp_path: Path, name: str) -> None:
    write_sound(tmp_path / name, tone(0.5, MOUTH_RATE))
    sound, rate = soundfile.read(tmp_path / name)
    assert rate == MOUTH_RATE
    np.testing.assert_allclose(sound, tone(0.5, MOUTH_RATE), atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_minutes_of_speech_are_written_as_ogg(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.ogg", np.zeros(180 * MOUTH_RATE, np.float32))
    assert soundfile.info(tmp_path / "a.ogg").duration == pytest.approx(180)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a.doc", "call it a.wav"),
        ("a", "call it a.wav"),
        ("a.raw", "call it a.wav"),
        ("no/a.wav", "There is no folder"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(AudioFileError, match=sentence):
        check_writable(tmp_path / name)


def test_a_failed_write_leaves_nothing_and_keeps_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.wav").write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile.SoundFile, "write", full)
    with pytest.raises(AudioFileError, match="No space left on device"):
        write_sound(tmp_path / "a.wav", tone(0.1, MOUTH_RATE))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.wav", b"old")]


# Holding a conversation


def recording(scene: Scene, length: float, *utterances: tuple[float, float, str]) -> Samples:
    """A recording in which the scene's ears hear these words."""
    sound = np.zeros(round(length * EAR_RATE / FRAME) * FRAME, np.float32)
    for start, end, words in utterances:
        scene.user(start, end, words)
        level = SPEECH_LEVEL + 0.001 * (len(scene.utterances) - 1)
        sound[round(start * EAR_RATE / FRAME) * FRAME : round(end * EAR_RATE / FRAME) * FRAME] = level
    return sound


def held(scene: Scene, *recordings: Samples, realtime: bool = False) -> tuple[Held, list[str], float]:
    """What was held, the history, and the seconds that it took."""

    async def run() -> tuple[Held, list[str], float]:
        stages = Stages(_Vad, _Ears(scene), _Mind(scene), _Voice(scene), _Memory(scene))
        async with Conversation(stages, scene.settings, name="file") as conversation:
            told = await hold(conversation, recordings, realtime=realtime)
            history = [f"{entry.role}: {entry.text}" for entry in conversation.history.entries]
            return told, history, asyncio.get_running_loop().time()

    return virtual_time.run(run())


@pytest.mark.parametrize("realtime", [False, True])
def test_a_question_is_answered_and_its_sound_kept(realtime: bool) -> None:
    scene = Scene()
    told, history, _ = held(scene, recording(scene, 2.0, (0.3, 1.5, "what time is it")), realtime=realtime)
    assert history == ["user: what time is it", "assistant: That is good to hear."]
    assert len(told.sound) == round(5 * 0.3 * MOUTH_RATE)
    assert [record.outcome for record in told.records] == ["completed"]


def test_several_recordings_are_several_turns() -> None:
    scene = Scene()
    first = recording(scene, 1.5, (0.3, 1.2, "hello there"))
    second = recording(scene, 1.5, (0.3, 1.2, "goodbye now"))
    told, history, _ = held(scene, first, second)
    assert history[::2] == ["user: hello there", "user: goodbye now"]
    assert len(told.records) == 2


def test_as_fast_as_the_engines_go_sound_waits_for_the_reply() -> None:
    """A recording with a long pause is two turns, and the second does not interrupt the first's reply."""
    scene = Scene()
    sound = recording(scene, 6.0, (0.3, 1.2, "hello there"), (2.5, 3.5, "goodbye now"))
    told, history, seconds = held(scene, sound)
    assert [record.outcome for record in told.records] == ["completed", "completed"]
    assert history[2] == "user: goodbye now"
    assert seconds < 2.5


def test_in_real_time_one_can_interrupt() -> None:
    scene = Scene()
    scene.reply("one two three four five six seven eight nine ten eleven twelve", to="count for me")
    sound = recording(scene, 6.0, (0.3, 1.2, "count for me"), (3.0, 4.2, "that is enough now"))
    told, history, seconds = held(scene, sound, realtime=True)
    assert told.records[0].outcome == "interrupted"
    assert told.records[0].heard in history[1]
    assert len(told.records[0].heard.split()) < 9
    assert seconds > 6
    assert len(told.sound) / MOUTH_RATE < 0.3 * (8 + 5), "what was not played is not in the recording"


def test_a_cough_in_real_time_loses_nothing_of_the_reply() -> None:
    scene = Scene()
    scene.reply("one two three four five six seven eight nine ten")
    sound = recording(scene, 3.0, (0.3, 1.2, "count for me"))
    scene.noise(3.0, 3.2)
    cough = np.zeros(round(0.5 * EAR_RATE), np.float32)
    cough[: FRAME * 6] = SPEECH_LEVEL + 0.001
    told, _, _ = held(scene, np.concatenate([sound, cough]), realtime=True)
    assert [record.outcome for record in told.records] == ["completed"]
    assert len(told.sound) / MOUTH_RATE == pytest.approx(3.0, abs=0.02)


@pytest.mark.parametrize("realtime", [False, True])
def test_silence_ends_without_a_turn(realtime: bool) -> None:
    told, history, _ = held(Scene(), np.zeros(EAR_RATE, np.float32), realtime=realtime)
    assert (told.records, history, len(told.sound)) == ([], [], 0)


def test_a_failing_engine_ends_the_conversation_with_its_sentence() -> None:
    scene = Scene(ears_fail=True)
    told, _, _ = held(scene, recording(scene, 1.5, (0.3, 1.2, "hello there")))
    assert any("transcriber stopped" in notice.text for notice in told.notices)
