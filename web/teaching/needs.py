"""What teaching needs on this computer, and how csm's commands are called: they download nothing unasked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from config import Settings
from config.cache import folder_of, free_disk, is_here
from config.engines import fetches, is_path, named
from config.packages import Packaged
from web.teaching.lesson import Lesson
from web.teaching.work import Command

__all__ = ["Needs", "estimating", "preparing", "training"]

WHISPERS = ("large-v3-turbo", "small", "base", "base.en", "tiny.en")
"""The models that may transcribe recordings without text, the best first."""
HOUR = 3600.0
BETWEEN_CHECKPOINTS_S = 600.0
"""The most time that a training may lose if it is killed."""
LOOKS = 12
"""Evaluations on held-out clips over a whole training; sentences are spoken at every second one."""


@dataclass(frozen=True)
class Needs:
    """model: why a training cannot begin here, in one sentence, or "". whisper: the model that transcribes recordings
    without text, as csm-prepare takes it, or "". encoder: whether the speaker encoder is on this computer. free: bytes
    free on the disk of the voices."""

    model: str
    whisper: str
    encoder: bool
    free: int


def needs(settings: Settings, folder: Path) -> Needs:
    """Look at the disk for what teaching needs."""
    model = csm_model(settings)
    if is_path(model):
        lacking = "" if Path(model).expanduser().is_dir() else f"There is no folder {model}: choose CSM-1B again."
    else:
        here = all(is_here(fetch) for fetch in fetches("voice", "csm", model))
        lacking = "" if here else "CSM-1B is not on this computer yet: download it in Setup, under “This computer”."
    return Needs(lacking, whisper(settings), encoder_file().is_file(), free_disk(folder))


def csm_model(settings: Settings) -> str:
    """Return the model that is taught: the current voice's, if CSM is the voice."""
    return named("voice", "csm", settings.voice.model if settings.voice.engine == "csm" else "")


def whisper(settings: Settings) -> str:
    chosen: tuple[str, ...] = (
        (settings.ears.model,) if settings.ears.engine == "whisper" and settings.ears.model else ()
    )
    for name in (*chosen, *WHISPERS):
        if is_path(name):
            return name
        if (sources := fetches("ears", "whisper", name)) and all(is_here(source) for source in sources):
            return next((str(folder_of(source)) for source in sources if isinstance(source, Packaged)), name)
    return ""


def encoder_file() -> Path:
    """Return where csm.training.likeness keeps the speaker encoder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "csm" / "resemblyzer-0.1.4.pt"


def preparing(lesson: Lesson, settings: Settings, *, check_voice: bool) -> Command:
    """check_voice: whether to compare each clip with the others and drop those of another speaker."""
    heard, language = whisper(settings), lesson.about.language
    return "csm.commands.preparing", [
        str(lesson.recordings), "--out", str(lesson.prepared), "--model", csm_model(settings), "--json",
        *(["--whisper", heard] if heard else ["--no-whisper"]), *(["--language", language] if language else []),
        *([] if check_voice else ["--one-speaker-unchecked"]),
    ]  # fmt: skip


def training(lesson: Lesson, settings: Settings) -> Command:
    """Return the command, which continues from the last checkpoint if there is one."""
    about = lesson.about
    steps = about.steps or 1
    look = max(1, steps // LOOKS)
    save = max(1, min(50, look, round(BETWEEN_CHECKPOINTS_S / about.step_s) if about.step_s else 50))
    encoder = encoder_file()
    return "csm.commands.training", [
        str(lesson.prepared), "--out", str(lesson.training), "--model", csm_model(settings), "--json", "--resume",
        f"--consent={about.person}", "--steps", str(steps), "--depth-share", str(about.depth_share),
        "--save-every", str(save), "--evaluate-every", str(look), "--speak-every", str(2 * look),
        "--speaker-encoder", str(encoder),
    ]  # fmt: skip


def estimating(lesson: Lesson, settings: Settings) -> Command:
    module, arguments = training(lesson, settings)
    return module, [*arguments, "--estimate"]


def depth_share(lesson: Lesson) -> float:
    """Return the share of frames whose later codes are learnt: more if there is less speech (csm.training.settings)."""
    seconds = sum(clip["seconds"] for clip in lesson.clips() if not clip["dropped"])
    return 0.25 if seconds <= HOUR else 1 / 16
