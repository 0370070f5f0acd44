"""A conversation: a voice that stays, turns that come and go, and what was heard is not heard again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .errors import ContextTooLong, InvalidAudio
from .prompt import Segment, speakable
from .rows import sound_rows
from .sound.recording import SAMPLE_RATE
from .synthesis import Generator, in_chunks
from .utterance import FRAMES_PER_SECOND, Sampling, Utterance, frames_at_most, frames_likely

__all__ = ["Listener", "Session"]


@dataclass(frozen=True, eq=False)
class _Spoken:
    """What the session said last: the rows of its words, who said it, and the codes of its frames."""

    text: Tensor
    speaker: int
    frames: list[Tensor]


class Session:
    """One conversation with a generator.

    `voice` is what the speaker shall sound like: one segment or several, heard first and kept to the end. The turns of
    all speakers follow, each with its sound. Keys and values are kept, so that only what is new is heard; when the
    model's positions run out the oldest turns go, several at once, because all that follows them is heard anew then.

    A session is used by one thread at a time; any number of sessions share a generator.
    """

    def __init__(self, generator: Generator, voice: Segment | Sequence[Segment] = ()) -> None:
        self.generator = generator
        segments = [voice] if isinstance(voice, Segment) else voice
        prompter, context = generator.prompter, generator.context
        self._voice = [prompter.segment(segment) for segment in segments]
        if (taken := _length(self._voice)) > context // 2:
            raise ContextTooLong(
                f"The voice takes {taken} of the model's {context} rows, more than half. "
                "Give shorter recordings; ten seconds are enough to know a voice by."
            )
        self._speaker = segments[-1].speaker if segments else 0
        self._turns: list[Tensor] = []
        self._last: _Spoken | None = None
        self._engine, self._decoder = generator.engine(), generator.decoder()
        self._speaking: Iterator[Tensor] | None = None
        self._prefill()

    @property
    def turns(self) -> int:
        """How many turns are still in mind; the voice is none of them."""
        return len(self._turns)

    @property
    def rows(self) -> int:
        """How many of the model's positions voice and turns take."""
        return _length([*self._voice, *self._turns])

    def add(self, segment: Segment) -> None:
        """A turn that somebody has spoken, at whatever rate it was recorded. It is heard at once.

        A turn too long to be kept is kept by its words alone. Raises InvalidText, InvalidSpeaker, InvalidAudio, and
        ContextTooLong if not even the words fit; the session is then as before.
        """
        words = self.generator.prompter.text(segment.text, segment.speaker)
        try:
            rows = self.generator.prompter.segment(segment)
        except ContextTooLong:
            rows = words
        self._append(rows, words)

    def listen(self, speaker: int, sample_rate: int = SAMPLE_RATE) -> Listener:
        """Somebody begins to speak: give the listener the sound as it comes, and the words when they are known."""
        return Listener(self, speaker, sample_rate)

    def speak(
        self,
        text: str,
        speaker: int | None = None,
        max_audio_length_ms: float = 90_000,
        temperature: float = 0.9,
        topk: int = 50,
        seed: int | None = None,
        chunk_frames: int = 1,
        *,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[Tensor]:
        """Says `text` as the next turn (speaker: default the voice's): float32 [samples] at 24 kHz on the host.

        What was said, to the end or until the iterator is closed, becomes a turn. A new call closes the one before.
        Errors as in `Generator.generate`; the session is then as it was before the call.
        """
        sampling = Sampling(temperature, topk, seed)
        if chunk_frames < 1:
            raise ValueError(f"chunk_frames is a number of frames from 1 up, not {chunk_frames!r}.")
        speaker = self._speaker if speaker is None else speaker
        target, said = self.generator.prompter.text(text, speaker), speakable(text)
        wanted = min(int(max_audio_length_ms / 1000 * FRAMES_PER_SECOND), frames_at_most(said))
        if wanted < 1:
            raise ValueError(f"max_audio_length_ms is at least one frame (80 ms), not {max_audio_length_ms!r}.")
        room = self.generator.context - _length(self._voice) - len(target)
        if room < min(wanted, frames_likely(said)):
            raise ContextTooLong(
                f"The text needs about {frames_likely(said) / FRAMES_PER_SECOND:.0f} s of speech, and beside the voice "
                f"there is room for {max(0, room) / FRAMES_PER_SECOND:.0f} s. Say it sentence by sentence."
            )
        self.stop()
        self._last = None
        most = min(wanted, room)
        self._make_room(len(target) + most)
        self._speaking = in_chunks(self._speak(target, speaker, most, sampling, cancelled), chunk_frames)
        return self._speaking

    def stop(self) -> None:
        """Ends the utterance under way, if there is one; what was said of it is kept as a turn."""
        if self._speaking is not None:
            self._speaking.close()  # type: ignore[attr-defined]
            self._speaking = None

    def heard(self, seconds: float, text: str | None = None) -> None:
        """Of the last utterance only so much was heard (and, if it is known, only these words): forget the rest.

        Call it before the next turn.
        """
        self.stop()
        if (last := self._last) is None:
            return
        self._turns.pop()
        self._last = None
        if frames := last.frames[: max(0, round(seconds * FRAMES_PER_SECOND))]:
            words = last.text if text is None else self.generator.prompter.text(text, last.speaker)
            self._keep(_Spoken(words, last.speaker, frames))

    def _speak(
        self, target: Tensor, speaker: int, most: int, sampling: Sampling, cancelled: Callable[[], bool]
    ) -> Iterator[Tensor]:
        prompt = torch.cat([*self._voice, *self._turns, target])
        with self.generator.memory():
            utterance = Utterance(self._engine, self._decoder, prompt, most, sampling, cancelled)
            try:
                yield from utterance
            finally:
                if utterance.frames:
                    self._keep(_Spoken(target, speaker, utterance.frames))

    def _keep(self, spoken: _Spoken) -> None:
        self._turns.append(torch.cat((spoken.text, sound_rows(torch.stack(spoken.frames)))))
        self._last = spoken

    def _append(self, rows: Tensor, words: Tensor) -> None:
        """Adds a turn if it leaves a quarter of the positions to speak in; else its words alone."""
        self.stop()
        room = self.generator.context * 3 // 4 - _length(self._voice)
        if len(rows) > room:
            rows = words
        if len(rows) > room:
            raise ContextTooLong(f"The turn's words take {len(rows)} rows, and there is room for {room}. Shorten them.")
        self._make_room(len(rows) + self.generator.context // 4)
        self._turns.append(rows)
        self._last = None
        self._prefill()

    def _make_room(self, rows: int) -> None:
        """Lets the oldest turns go until `rows` more fit; and then a quarter more, so that it is not soon again."""
        context = self.generator.context
        if self.rows + rows > context:
            while self._turns and self.rows + rows > context * 3 // 4:
                self._turns.pop(0)
            self._last = self._last if self._turns else None

    def _prefill(self) -> None:
        """Takes in, ahead of time, whatever the engine has not heard yet."""
        if self._voice or self._turns:
            with self.generator.memory():
                self._engine.prefill([torch.cat([*self._voice, *self._turns])])


class Listener:
    """Somebody's words, becoming codes while they are spoken, so that nothing is left to encode when they end."""

    def __init__(self, session: Session, speaker: int, sample_rate: int) -> None:
        import soxr

        self._session, self._speaker = session, speaker
        self._resampler = soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1) if sample_rate != SAMPLE_RATE else None
        self._encoder = session.generator.codec.encoder()
        self._codes: list[Tensor] = []
        self._frames = 0

    def hear(self, samples: Tensor | np.ndarray) -> None:
        """The next samples, float [n], at the rate the listener was made for. Raises InvalidAudio for NaN."""
        sound = torch.as_tensor(samples).float()
        if not sound.isfinite().all():
            raise InvalidAudio("The sound holds values that are not numbers (NaN or infinity).")
        self._encode(sound, last=False)

    def done(self, text: str) -> None:
        """The words of what was heard: together they become a turn of the session. Errors as in `Session.add`."""
        prompter = self._session.generator.prompter
        words = prompter.text(text, self._speaker)
        self._encode(torch.zeros(0), last=True)
        with torch.inference_mode():
            self._codes.append(self._encoder.flush())
        frames = torch.cat(self._codes, dim=2)[0].T.cpu()
        rows = torch.cat((words, sound_rows(frames))) if len(frames) else words
        self._session._append(rows, words)

    def _encode(self, samples: Tensor, last: bool) -> None:
        if self._resampler is not None:
            samples = torch.from_numpy(self._resampler.resample_chunk(samples.numpy(), last=last))
        if len(samples):
            with torch.inference_mode():
                self._codes.append(self._encoder.step(samples[None].to(self._session.generator.device)))


def _length(segments: Sequence[Tensor]) -> int:
    return sum(len(rows) for rows in segments)
