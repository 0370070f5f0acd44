"""Voices as folders."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from csm.commands.voices import Voice, VoiceError, Voices, default_folder
from csm.errors import InvalidAudio, InvalidText
from tests.support.recordings import AUDIO

RECORDING = AUDIO / "austen_0880.wav"
TEXT = "He was not an ill disposed young man."


@pytest.fixture
def voices(tmp_path: Path) -> Voices:
    return Voices(tmp_path / "voices")


def test_a_voice_is_kept_as_it_was_given(voices: Voices) -> None:
    voices.add("austen", RECORDING, f"  {TEXT}\n", "LibriVox, public domain")
    voice = voices.get("austen")
    assert (voice.name, voice.text, voice.note) == ("austen", TEXT, "LibriVox, public domain")
    assert voice.recording.read_bytes() == RECORDING.read_bytes()
    assert sorted(path.name for path in voice.folder.iterdir()) == ["note.txt", "recording.wav", "text.txt"]


def test_its_segment_has_the_rate_of_its_recording(voices: Voices) -> None:
    segment = voices.add("austen", RECORDING, TEXT).segment(3)
    info = soundfile.info(RECORDING)
    assert (segment.text, segment.speaker, segment.sample_rate) == (TEXT, 3, info.samplerate)
    assert segment.audio is not None
    assert segment.audio.shape == (info.channels, info.frames)


def test_all_are_in_order_and_other_folders_are_none(voices: Voices) -> None:
    assert voices.all() == []
    for name in ("ben", "anna"):
        voices.add(name, RECORDING, TEXT)
    (voices.folder / "empty").mkdir()
    (voices.folder / ".new-left-behind").mkdir()
    assert [voice.name for voice in voices.all()] == ["anna", "ben"]


def test_an_unknown_voice_names_those_there_are(voices: Voices) -> None:
    with pytest.raises(VoiceError, match="none yet"):
        voices.get("anna")
    voices.add("ben", RECORDING, TEXT)
    with pytest.raises(VoiceError, match="Known voices: ben"):
        voices.get("anna")


@pytest.mark.parametrize("name", ["", ".", "..", "../anna", "a/b", "Anna", "-a", "ä", "a" * 65, "a\n"])
def test_names_that_lead_elsewhere_are_refused(voices: Voices, name: str) -> None:
    with pytest.raises(VoiceError, match="A voice's name"):
        voices.get(name)
    with pytest.raises(VoiceError, match="A voice's name"):
        voices.add(name, RECORDING, TEXT)
    assert not voices.folder.exists()


def test_a_name_that_is_taken(voices: Voices) -> None:
    voices.add("anna", RECORDING, TEXT, "first")
    with pytest.raises(VoiceError, match="already"):
        voices.add("anna", RECORDING, TEXT, "second")
    assert voices.get("anna").note == "first"
    other = AUDIO / "jfk.flac"
    assert voices.add("anna", other, "And so.", replace=True).recording.suffix == ".flac"
    assert sorted(path.name for path in voices.get("anna").folder.iterdir()) == ["recording.flac", "text.txt"]


@pytest.mark.parametrize(
    ("seconds", "level", "error", "message"),
    [
        (0.5, 0.1, VoiceError, "1 to 60 s .* has 0.5 s"),
        (61, 0.1, VoiceError, "has 61.0 s"),
        (2, 0.0, InvalidAudio, "silent"),
        (0, 0.1, InvalidAudio, "empty"),
    ],
)
def test_recordings_that_make_no_voice(
    voices: Voices, tmp_path: Path, seconds: float, level: float, error: type[Exception], message: str
) -> None:
    noise = level * np.random.default_rng(0).standard_normal(int(8000 * seconds))
    soundfile.write(tmp_path / "noise.wav", noise, 8000)
    with pytest.raises(error, match=message):
        voices.add("noise", tmp_path / "noise.wav", TEXT)
    assert voices.all() == []


def test_words_that_are_none(voices: Voices) -> None:
    with pytest.raises(InvalidText):
        voices.add("anna", RECORDING, " …")
    assert voices.all() == []


def test_no_recording(voices: Voices, tmp_path: Path) -> None:
    with pytest.raises(InvalidAudio, match="no recording at"):
        voices.add("anna", tmp_path / "gone.wav", TEXT)
    with pytest.raises(InvalidAudio, match="not a recording that can be read"):
        voices.add("anna", Path(__file__), TEXT)


def test_a_folder_that_is_not_whole(tmp_path: Path) -> None:
    with pytest.raises(VoiceError, match="should hold one recording"):
        Voice.read(tmp_path)


def test_where_voices_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("CSM_VOICES", raising=False)
    assert default_folder() == tmp_path / "data" / "csm" / "voices"
    monkeypatch.setenv("CSM_VOICES", str(tmp_path / "mine"))
    assert default_folder() == tmp_path / "mine"
