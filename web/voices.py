"""Voices made from recordings, each with the recording in which its owner agrees; kept in the data folder.

    voices/made/voice_1f2e/about.json, sample.flac
    voices/consents/cons_8a7b/about.json, recording.flac

A consent outlives its voice until it is deleted itself, and cannot be deleted before its voice.
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import soundfile
from pydantic import BaseModel, ValidationError

from pipeline.audio import MOUTH_RATE, Samples

ABOUT, SAMPLE, RECORDING = "about.json", "sample.flac", "recording.flac"
ID = re.compile(r"(voice|cons)_[0-9a-f]{16}")


class MadeVoice(BaseModel):
    id: str
    name: str
    text: str
    """The transcript of the sample."""
    consent: str
    created_at: int
    """Unix time in seconds, as in OpenAI's API."""


class Consent(BaseModel):
    id: str
    name: str
    language: str
    text: str
    """The transcript of the consent."""
    created_at: int


Kept = TypeVar("Kept", MadeVoice, Consent)


class VoicesError(Exception):
    """Something cannot be saved or deleted; the message is one sentence."""


class Voices:
    """Each call reads the disk, which is quick, so that manual changes in the folder take effect."""

    def __init__(self, data: Path, now: Callable[[], float] = time.time) -> None:
        self._made, self._consents = data / "voices" / "made", data / "voices" / "consents"
        self._now = now

    def all(self) -> list[MadeVoice]:
        """Return the voices, the oldest first."""
        return _read(self._made, MadeVoice)

    def consents(self) -> list[Consent]:
        return _read(self._consents, Consent)

    def find(self, name: str) -> MadeVoice | None:
        """Find a voice by its id or its name."""
        voices = self.all()
        return next((voice for voice in voices if voice.id == name), None) or next(
            (voice for voice in voices if voice.name == name), None
        )

    def consent(self, id: str) -> Consent | None:
        return next((consent for consent in self.consents() if consent.id == id), None)

    def sample(self, voice: MadeVoice) -> Path:
        return self._made / voice.id / SAMPLE

    def add(self, name: str, sound: Samples, text: str, consent: Consent) -> MadeVoice:
        """Args: sound: 24 kHz. Raises VoicesError."""
        voice = MadeVoice(id=_new("voice"), name=name, text=text, consent=consent.id, created_at=int(self._now()))
        _keep(self._made / voice.id, voice, SAMPLE, sound)
        return voice

    def add_consent(self, name: str, language: str, sound: Samples, text: str) -> Consent:
        """Args: sound: 24 kHz. Raises VoicesError."""
        consent = Consent(id=_new("cons"), name=name, language=language, text=text, created_at=int(self._now()))
        _keep(self._consents / consent.id, consent, RECORDING, sound)
        return consent

    def rename_consent(self, consent: Consent, name: str) -> Consent:
        renamed = consent.model_copy(update={"name": name})
        _write(self._consents / consent.id, renamed)
        return renamed

    def remove(self, voice: MadeVoice) -> None:
        _remove(self._made / voice.id)

    def remove_consent(self, consent: Consent) -> None:
        """Raises VoicesError while a voice needs it."""
        if voice := next((voice for voice in self.all() if voice.consent == consent.id), None):
            raise VoicesError(f"The voice {voice.name} was made with this consent: delete the voice first.")
        _remove(self._consents / consent.id)


def _new(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(8)}"


def _read(folder: Path, kind: type[Kept]) -> list[Kept]:
    found = []
    for file in folder.glob(f"*/{ABOUT}"):
        if not ID.fullmatch(file.parent.name):
            continue
        try:
            kept = kind.model_validate_json(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, ValidationError):
            continue  # another program's file, or an incomplete one
        if kept.id == file.parent.name:
            found.append(kept)
    return sorted(found, key=lambda kept: (kept.created_at, kept.id))


def _keep(folder: Path, about: MadeVoice | Consent, recording: str, sound: Samples) -> None:
    try:
        folder.mkdir(parents=True)
        soundfile.write(folder / recording, sound, MOUTH_RATE)
        _write(folder, about)
    except (OSError, soundfile.LibsndfileError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise VoicesError(
            f"The recording could not be kept in {folder.parent}: is the disk full, or read-only?"
        ) from error


def _write(folder: Path, about: MadeVoice | Consent) -> None:
    new = folder / f".{ABOUT}"
    new.write_text(about.model_dump_json(indent=1), encoding="utf-8")
    new.replace(folder / ABOUT)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise VoicesError(f"{folder} could not be deleted: delete it yourself.") from error
