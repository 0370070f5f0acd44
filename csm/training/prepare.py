"""Turn recordings into training data: cut, transcribe, judge, level and encode them.

There are two passes. The first writes the clips and decides which are suitable; the second knows each speaker's level
and makes the codes. A clip is identified by its sound, so a second run reuses the clips of the first, with their
corrected texts.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile
import torch
from torch import Tensor, nn

from ..codec.protocol import Codec
from ..errors import InvalidAudio, InvalidText
from ..prompt import speakable
from ..sound.audio_files import read_recording
from ..sound.pcm import to_pcm16
from ..sound.recording import SAMPLE_RATE, as_mono
from ..writing import make_folder, replacing
from .cutting import LONGEST, SHORTEST, pieces, trimmed
from .dataset import CLIPS, Clip, DatasetError, read_clips, write_clips, write_codes
from .likeness import SpeakerEncoder
from .sources import Recording
from .transcribing import Transcriber
from .words import word_error_rate

__all__ = ["Limits", "Prepared", "prepare"]

LEVEL = -23.0
"""dB of full scale to which a speaker's clips are brought together: that of broadcasts (EBU R 128, in its simplest
form). There is one factor per speaker, so that loud words stay louder than soft ones."""
PEAK = 0.97
KEPT_EVERY = 50
"""Clips after which clips.csv is saved during the first pass."""
FASTEST, SLOWEST = 40.0, 1.5
"""The most and the fewest bytes of text per second that a voice can say. A Chinese character has three bytes."""


@dataclass(frozen=True)
class Limits:
    """What is suitable. confidence: Whisper's, from 0 to 1; errors: the word error rate of a given text against what
    Whisper hears; likeness: the cosine to the speaker's other clips, below which it is somebody else."""

    shortest: float = SHORTEST
    longest: float = LONGEST
    confidence: float = 0.5
    errors: float = 0.4
    likeness: float = 0.65
    clipped: float = 0.002
    held_out: float = 0.1


@dataclass(frozen=True)
class Prepared:
    """All clips, and notes for the report. A dropped clip has its reason."""

    clips: list[Clip]
    notes: list[str]

    @property
    def kept(self) -> list[Clip]:
        return [clip for clip in self.clips if not clip.dropped]

    def report(self) -> str:
        """The report for people."""
        kept = self.kept
        held = [clip for clip in kept if clip.split != "train"]
        reasons = Counter(clip.dropped.partition(":")[0] for clip in self.clips if clip.dropped)
        lines = [
            f"{len(kept)} clips, {sum(clip.seconds for clip in kept) / 60:.1f} minutes, are suitable for training; "
            f"{len(held)} of them are held out for evaluation.",
            *(f"{count} dropped: {reason}" for reason, count in reasons.most_common()),
            *self.notes,
        ]
        dropped = [f"  {clip.source} at {clip.start:.1f} s: {clip.dropped}" for clip in self.clips if clip.dropped]
        return "\n".join([*lines, *(["", "Dropped, one by one:", *dropped] if dropped else [])]) + "\n"


def prepare(
    recordings: Iterable[Recording],
    folder: Path,
    codec: Codec,
    *,
    transcribe: Transcriber | None = None,
    encoder: SpeakerEncoder | None = None,
    limits: Limits | None = None,
    check_texts: bool = True,
    tell: Callable[[Clip], None] = lambda clip: None,
) -> Prepared:
    """Write a prepared folder (csm/training/dataset.py).

    transcribe: if None, clips without a text are dropped. encoder: if None, it is not checked whether a clip is by its
    speaker. check_texts: whether given texts are compared with what Whisper hears. tell: called with each new clip.
    Raises DatasetError, CannotWrite.
    """
    limits = limits or Limits()
    make_folder(folder)
    before = {clip.id: clip for clip in read_clips(folder)} if (folder / CLIPS).is_file() else {}
    judge = _Judge(transcribe, check_texts, limits)
    clips: dict[str, Clip] = {}
    notes: list[str] = []
    try:
        for recording in recordings:
            for sound, start, text in _cut(recording, limits, notes):
                clip = _known(sound, start, recording)
                if clip.id in clips:
                    notes.append(
                        f"{clip.source} at {clip.start:.1f} s has the same sound as another clip, so it was left out."
                    )
                    continue
                path = folder / "clips" / f"{clip.id}.flac"
                if not path.is_file():
                    _write_sound(path, sound)
                if (known := before.get(clip.id)) is not None:
                    clips[clip.id] = replace(clip, text=known.text, confidence=known.confidence, dropped=known.dropped)
                    continue
                clips[clip.id] = judge(clip, sound, text)
                tell(clips[clip.id])
                if len(clips) % KEPT_EVERY == 0:
                    write_clips(folder, (before | clips).values())
    finally:
        write_clips(folder, (before | clips).values())  # so that no transcripts are lost, whatever happens next
    done = _numbered(_split(list(clips.values()), limits.held_out, notes))
    done = _levelled(folder, done)
    if encoder is not None:
        done = _by_one_speaker(folder, done, encoder, limits.likeness)
    else:
        notes.append("Whether each clip is by its speaker was not checked.")
    write_clips(folder, done)
    for clip in done:
        if not clip.dropped and not (folder / "codes" / f"{clip.codes}.safetensors").is_file():
            sound = _sound(folder, clip) * clip.gain
            with torch.inference_mode():
                write_codes(folder, clip, codec.encode(sound[None])[0].T.cpu())
    prepared = Prepared(done, notes)
    with replacing(folder / "report.txt") as partial:
        partial.write_text(prepared.report(), encoding="utf-8")
    if not prepared.kept:
        reasons = Counter(clip.dropped for clip in done).most_common(1)
        why = f" Most often: {reasons[0][0]}" if reasons else ""
        raise DatasetError(f"None of it can be used for training; {folder / 'report.txt'} says why.{why}")
    return prepared


def _cut(recording: Recording, limits: Limits, notes: list[str]) -> Iterator[tuple[Tensor, float, str | None]]:
    """Yield the clips of a recording, float32 [samples] at 24 kHz; where each begins, in seconds; and its text, if it
    is known."""
    rest, at, voiced = torch.zeros(0), 0.0, False
    try:
        for part in recording.parts():
            if part.sound.shape[0] == 2 and _two_people(part.sound):
                notes.append(
                    f"{recording.source}: left out, because its two channels are two people. Split them into "
                    "two recordings."
                )
                return
            sound, rate = torch.cat((rest, part.sound.mean(dim=0))), part.rate
            first, last = trimmed(sound, rate)
            if part.last and not at and recording.text is not None and 0 < last - first <= limits.longest * rate:
                cuts, text = [(first, last)], recording.text  # the whole text belongs to the whole recording
            else:
                cuts, text = pieces(sound, rate), None
                if recording.text is not None and cuts and not voiced:
                    notes.append(
                        f"{recording.source} is too long for one clip, so it was cut, and its text was not used."
                    )
            voiced = voiced or bool(cuts)
            # Speech at the end of a part continues in the next one.
            goes_on = not part.last and bool(cuts) and cuts[-1][1] > len(sound) - rate
            after = cuts.pop()[0] if goes_on else len(sound)
            for begin, end in cuts:
                yield as_mono(sound[begin:end], rate), at + begin / rate, text
            rest, at = sound[after:], at + after / rate
    except InvalidAudio as error:
        notes.append(f"{recording.source}: left out. {error}")
        return
    if not voiced:
        notes.append(f"{recording.source}: left out, because there is no voice in it.")


def _two_people(raw: Tensor) -> bool:
    """Whether the two channels are almost uncorrelated."""
    one, other = raw - raw.mean(dim=1, keepdim=True)
    norms = one.norm() * other.norm()
    silent = float(min(one.norm(), other.norm())) < 1e-3 * float(max(one.norm(), other.norm()))
    return not silent and float(norms) > 0 and abs(float(one @ other / norms)) < 0.3


def _known(sound: Tensor, start: float, recording: Recording) -> Clip:
    content = to_pcm16(sound)
    return Clip(
        id=hashlib.sha256(content).hexdigest()[:16],
        text="",
        speaker=0,
        name=recording.speaker,
        split="train",
        seconds=round(len(sound) / SAMPLE_RATE, 2),
        confidence=1.0,
        gain=1.0,
        source=recording.source,
        start=round(start, 2),
        conversation=recording.conversation,
        turn=0,
        dropped="",
    )


class _Judge:
    """Transcribes a clip, and gives the reason if it is unsuitable."""

    def __init__(self, transcribe: Transcriber | None, check_texts: bool, limits: Limits) -> None:
        self._transcribe, self._check, self._limits = transcribe, check_texts, limits

    def __call__(self, clip: Clip, sound: Tensor, text: str | None) -> Clip:
        if reason := self._unfit(clip, sound):
            return replace(clip, dropped=reason)
        given = text.strip() if text else None
        heard = None
        if self._transcribe is not None and (given is None or self._check):
            heard = self._transcribe(sound)
        if given is None and heard is None:
            return replace(clip, dropped="no text, and no Whisper to transcribe it")
        if given is None:
            assert heard is not None
            clip = replace(clip, text=heard.text.strip(), confidence=round(heard.confidence, 3))
            if heard.confidence < self._limits.confidence:
                return replace(clip, dropped=f"Whisper is unsure of the words: {heard.confidence:.2f}")
        else:
            clip = replace(clip, text=given, confidence=round(heard.confidence, 3) if heard else 1.0)
            if heard is not None and (wrong := word_error_rate(given, heard.text)) > self._limits.errors:
                return replace(clip, dropped=f"the text is not what is heard: {wrong:.0%} of its words, “{heard.text}”")
        return replace(clip, dropped=_unsayable(clip))

    def _unfit(self, clip: Clip, sound: Tensor) -> str:
        if clip.seconds < self._limits.shortest:
            return f"too short: {clip.seconds:.1f} s"
        if clip.seconds > self._limits.longest:
            return f"too long: {clip.seconds:.1f} s without a pause"
        if (share := float((sound.abs() >= 0.999).float().mean())) > self._limits.clipped:
            return f"clipped: {share:.1%} of its samples"
        return ""


def _unsayable(clip: Clip) -> str:
    try:
        speakable(clip.text)
    except InvalidText:
        return "nothing is said"
    pace = len(clip.text.encode()) / clip.seconds
    if not SLOWEST <= pace <= FASTEST:
        return f"the text does not fit the sound: {pace:.1f} letters a second"
    return ""


def _numbered(clips: list[Clip]) -> list[Clip]:
    """Number the speakers 0, 1, … by their names in order, and the turns in the order in which they came."""
    names = sorted({clip.name for clip in clips})
    turns: Counter[str] = Counter()
    numbered = []
    for clip in clips:
        numbered.append(replace(clip, speaker=names.index(clip.name), turn=turns[clip.conversation]))
        turns[clip.conversation] += 1
    return numbered


def _split(clips: list[Clip], share: float, notes: list[str]) -> list[Clip]:
    """Hold out whole sources (or conversations), because clips cut from one recording are too alike to judge by. If
    there is only one recording, hold out its end."""
    fit = [clip for clip in clips if not clip.dropped]
    if share <= 0 or len(fit) < 2:
        if len(fit) < 2:
            notes.append("There are too few clips to hold any out, so nothing will show when the model memorises them.")
        return clips
    sources = sorted({clip.conversation or clip.source for clip in fit}, key=_mixed)
    wanted = share * sum(clip.seconds for clip in fit)
    if len(sources) > 1:
        seconds = dict.fromkeys(sources, 0.0)
        for clip in fit:
            seconds[clip.conversation or clip.source] += clip.seconds
        # Do not hold out much more than was asked for: a long recording is more useful for training.
        most = max(1.5 * wanted, min(seconds.values()))
        held: set[str] = set()
        for source in sources:
            so_far = sum(seconds[other] for other in held)
            if so_far < wanted and so_far + seconds[source] <= most and len(held) < len(sources) - 1:
                held.add(source)
        chosen = {clip.id for clip in fit if (clip.conversation or clip.source) in held}
    else:
        notes.append("There is only one recording, so its end is held out; a second one would give a better measure.")
        chosen = {clip.id for clip in fit[-max(1, round(share * len(fit))) :]}
    return [replace(clip, split="held out" if clip.id in chosen else "train") for clip in clips]


def _mixed(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def _levelled(folder: Path, clips: list[Clip]) -> list[Clip]:
    """Set one rounded factor per speaker, so that a few more clips leave the codes of the others as they are."""
    loudness: dict[int, list[float]] = {}
    peaks: dict[int, float] = {}
    for clip in clips:
        if not clip.dropped:
            sound = _sound(folder, clip)
            loudness.setdefault(clip.speaker, []).append(20 * float(sound.pow(2).mean().sqrt().clamp(min=1e-6).log10()))
            peaks[clip.speaker] = max(peaks.get(clip.speaker, 0.0), float(sound.abs().max()))
    gains = {}
    for speaker, found in loudness.items():
        wanted = LEVEL - sorted(found)[len(found) // 2]
        gains[speaker] = min(10 ** (round(wanted) / 20), PEAK / peaks[speaker])
    return [replace(clip, gain=round(gains.get(clip.speaker, 1.0), 3)) for clip in clips]


def _by_one_speaker(folder: Path, clips: list[Clip], encoder: SpeakerEncoder, least: float) -> list[Clip]:
    """Drop clips whose cosine to their speaker's other clips is too low for one voice."""
    embeddings = {clip.id: encoder.embed(_sound(folder, clip), SAMPLE_RATE) for clip in clips if not clip.dropped}
    counts, sums = Counter[int](), dict[int, Tensor]()
    for clip in clips:
        if clip.id in embeddings:
            counts[clip.speaker] += 1
            sums[clip.speaker] = sums.get(clip.speaker, torch.zeros(())) + embeddings[clip.id]
    judged = []
    for clip in clips:
        if clip.id in embeddings and counts[clip.speaker] > 2:
            own = embeddings[clip.id]
            near = float(own @ nn.functional.normalize(sums[clip.speaker] - own, dim=0))  # to the speaker's others
            if near < least:
                clip = replace(clip, dropped=f"another voice, or several: likeness {near:.2f}")
        judged.append(clip)
    return judged


def _write_sound(path: Path, sound: Tensor) -> None:
    with replacing(path) as partial:
        soundfile.write(partial, sound.clamp(-1, 1).numpy(), SAMPLE_RATE, format="FLAC")


def _sound(folder: Path, clip: Clip) -> Tensor:
    samples, _ = read_recording(folder / "clips" / f"{clip.id}.flac")
    return samples[0]
