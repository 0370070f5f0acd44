"""Does it sound like the speaker? Measures that need no listener, with their best and worst possible values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ContextTooLong, NoSpeech
from ..prompt import Segment, speakable
from ..sound.audio_files import read_recording
from ..sound.recording import SAMPLE_RATE
from ..synthesis import Generator
from ..utterance import frames_at_most
from .cutting import longest_silence
from .dataset import Clip, DatasetError, judged, read_clips, read_codes
from .likeness import SpeakerEncoder
from .transcribing import Transcriber
from .words import word_error_rate

__all__ = ["SENTENCES", "Figures", "Speaker", "judge", "speak"]

SENTENCES = (
    "The weather in the mountains changes faster than anyone expects.",
    "Could you tell me where the nearest bakery is?",
    "She counted the boats, closed the window, and went to sleep.",
    "I have never been so sure of anything in my life.",
)
"""Everyday sentences to speak for evaluation; they are unlikely to occur in anybody's recordings."""


@dataclass(frozen=True)
class Figures:
    """Measures of some speech. likeness: mean cosine to the speaker's held-out centroid. ended: the share that ended by
    itself. silence: the longest, in seconds. errors: word error rate. pace: seconds per character. None: not
    measured."""

    likeness: float | None
    ended: float
    silence: float
    errors: float | None
    pace: float
    count: int


class Speaker:
    """One speaker of a prepared folder, represented by their held-out clips (by all clips if none is held out)."""

    def __init__(self, folder: Path, number: int, encoder: SpeakerEncoder) -> None:
        clips = [clip for clip in read_clips(folder) if not clip.dropped and clip.speaker == number]
        held = judged([clip for clip in clips if clip.split != "train"] or clips)
        if not held:
            raise DatasetError(f"There is no clip of speaker {number} in {folder}.")
        self.folder, self.number, self._encoder = folder, number, encoder
        self._held = [encoder.embed(_sound(folder, clip), SAMPLE_RATE) for clip in held]
        self._train = [clip for clip in clips if clip.split == "train"]

    def likeness(self, samples: Tensor) -> float:
        """The cosine of some speech, float [samples] at 24 kHz, to the centroid; 0 for silence."""
        try:
            return float(self._encoder.embed(samples, SAMPLE_RATE) @ self._encoder.centroid(self._held))
        except ValueError:
            return 0.0

    def likeness_of(self, other: Speaker) -> float:
        """The cosine of another speaker's centroid to this one's: what a stranger reaches."""
        return float(self._encoder.centroid(self._held) @ other._encoder.centroid(other._held))

    def ceiling(self) -> float | None:
        """Real speech against real: the mean cosine of each held-out clip to the centroid of the others."""
        if len(self._held) < 2:
            return None
        cosines = [
            float(one @ self._encoder.centroid([*self._held[:index], *self._held[index + 1 :]]))
            for index, one in enumerate(self._held)
        ]
        return sum(cosines) / len(cosines)

    def reference(self) -> Segment | None:
        """The training clip of median length, as context for the model."""
        if not self._train:
            return None
        clip = sorted(self._train, key=lambda clip: clip.seconds)[len(self._train) // 2]
        return Segment(clip.text, clip.speaker, codes=read_codes(self.folder, clip))


def speak(
    generator: Generator, sentences: Iterable[str], speaker: int, reference: Segment | None, seed: int = 0
) -> list[tuple[str, Tensor, bool]]:
    """Speak sentences; return each text, its sound (float32 [samples], maybe empty), and whether it ended by itself."""
    spoken = []
    for number, text in enumerate(sentences):
        context = [reference] if reference is not None else []
        try:
            sound = generator.generate(text, speaker, context, seed=seed + number)
        except (NoSpeech, ContextTooLong):
            spoken.append((text, torch.zeros(0), False))
            continue
        most = frames_at_most(speakable(text)) * generator.codec.frame_size
        spoken.append((text, sound, len(sound) < most))
    return spoken


def judge(
    spoken: Sequence[tuple[str, Tensor, bool]], speaker: Speaker | None, transcribe: Transcriber | None = None
) -> Figures:
    """The measures of what `speak` returned."""
    sounds = [(text, sound) for text, sound, _ in spoken if len(sound)]
    cosines = [speaker.likeness(sound) for _, sound in sounds] if speaker else []
    errors = [word_error_rate(text, transcribe(sound).text) for text, sound in sounds] if transcribe else []
    characters = sum(len(text) for text, _ in sounds)
    return Figures(
        likeness=sum(cosines) / len(cosines) if cosines else None,
        ended=sum(ended for _, _, ended in spoken) / max(len(spoken), 1),
        silence=max((longest_silence(sound, SAMPLE_RATE) for _, sound in sounds), default=0.0),
        errors=sum(errors) / len(errors) if errors else None,
        pace=sum(len(sound) for _, sound in sounds) / SAMPLE_RATE / max(characters, 1),
        count=len(spoken),
    )


def _sound(folder: Path, clip: Clip) -> Tensor:
    samples, _ = read_recording(folder / "clips" / f"{clip.id}.flac")
    return samples[0]
