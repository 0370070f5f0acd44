"""Voices: folders that hold a recording, its words, and a note.

voices/
    anna/
        recording.flac
        text.txt
        note.txt
        adapter/        if the voice was trained (docs/TRAINING.md)
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..errors import CsmError
from ..prompt import Segment, speakable
from ..sound.audio_files import read_recording
from ..sound.recording import SAMPLE_RATE, as_mono
from ..writing import writing

__all__ = ["Voice", "VoiceError", "Voices", "default_folder"]

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
ADAPTER_FILE = "adapter_config.json"
SHORTEST, LONGEST = 1.0, 60.0
"""Seconds. A shorter recording is too little for a voice; a minute takes 750 of the model's 2048 positions."""


class VoiceError(CsmError):
    """A voice is missing, incomplete or invalid, or its name is taken."""


@dataclass(frozen=True)
class Voice:
    """One voice, in its folder."""

    folder: Path
    recording: Path
    text: str
    note: str

    @property
    def name(self) -> str:
        return self.folder.name

    def segment(self, speaker: int) -> Segment:
        """The voice as context: what `speaker` should sound like. Raises InvalidAudio."""
        audio, rate = read_recording(self.recording)
        return Segment(text=self.text, speaker=speaker, audio=audio, sample_rate=rate)

    @property
    def seconds(self) -> float:
        """The length of the recording. Raises InvalidAudio."""
        audio, rate = read_recording(self.recording)
        return audio.shape[1] / rate

    @property
    def adapter(self) -> Path | None:
        """The adapter trained on the voice, if there is one."""
        return folder if (folder := self.folder / "adapter").is_dir() else None

    @classmethod
    def read(cls, folder: Path) -> Voice:
        """Read a voice from its folder. Raises VoiceError if the folder holds none."""
        recordings = sorted(folder.glob("recording.*"))
        text = folder / "text.txt"
        if len(recordings) != 1 or not text.is_file():
            raise VoiceError(f"{folder} should hold one recording (recording.wav, .flac …) and its words (text.txt).")
        note = folder / "note.txt"
        return cls(folder, recordings[0], text.read_text().strip(), note.read_text().strip() if note.is_file() else "")


class Voices:
    """The voices in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[Voice]:
        """All voices, by name. Folders that are not voices are left out."""
        if not self.folder.is_dir():
            return []
        folders = sorted(path for path in self.folder.iterdir() if path.is_dir() and NAME.fullmatch(path.name))
        return [Voice.read(folder) for folder in folders if (folder / "text.txt").is_file()]

    def get(self, name: str) -> Voice:
        """Return the voice of that name. Raises VoiceError, which names the known voices."""
        folder = self._folder(name)
        if not folder.is_dir():
            known = ", ".join(voice.name for voice in self.all()) or "none yet; csm-voice add makes one"
            raise VoiceError(f"There is no voice {name!r} in {self.folder}. Known voices: {known}.")
        return Voice.read(folder)

    def add(
        self,
        name: str,
        recording: Path,
        text: str,
        note: str = "",
        *,
        replace: bool = False,
        adapter: Path | None = None,
    ) -> Voice:
        """Copy a recording, its words and its adapter, if any, into a new voice, completely or not at all.

        Raises VoiceError for a name that is taken or invalid; InvalidAudio, InvalidText, CannotWrite.
        """
        folder = self._folder(name)
        if folder.exists() and not replace:
            raise VoiceError(f"There is already a voice {name!r}. Choose another name, or replace it with --replace.")
        audio, rate = read_recording(recording)
        seconds = len(as_mono(audio, rate)) / SAMPLE_RATE
        if not SHORTEST <= seconds <= LONGEST:
            raise VoiceError(
                f"A voice needs {SHORTEST:.0f} to {LONGEST:.0f} s of recording, ideally about ten; "
                f"{recording} has {seconds:.1f} s."
            )
        speakable(text)
        if adapter is not None and not (adapter / ADAPTER_FILE).is_file():
            raise VoiceError(f"{adapter} should be the folder of an adapter, but contains no {ADAPTER_FILE}.")
        with writing(folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".new-", dir=self.folder) as made:
                new = Path(made) / name
                new.mkdir()
                shutil.copyfile(recording, new / f"recording{recording.suffix.lower()}")
                (new / "text.txt").write_text(text.strip() + "\n")
                if note:
                    (new / "note.txt").write_text(note.strip() + "\n")
                if adapter is not None:
                    shutil.copytree(adapter, new / "adapter", ignore=shutil.ignore_patterns("quantized"))
                if folder.exists():
                    folder.rename(Path(made) / "replaced")
                new.rename(folder)
        return Voice.read(folder)

    def _folder(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise VoiceError(
                f"A voice's name is up to 64 small letters, digits, - and _, and begins with one of the first two; "
                f"{name!r} is not."
            )
        return self.folder / name


def default_folder() -> Path:
    """$CSM_VOICES, or csm/voices in the user's data folder."""
    if chosen := os.environ.get("CSM_VOICES"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "csm" / "voices"
