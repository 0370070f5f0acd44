"""A conversation: a voice that stays, turns that come and go, and what was heard is not heard again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .errors import ContextTooLong, InvalidAudio
from .prompt import Segment, speakable
from .sound.recording import SAMPLE_RATE
from .synthesis import Generator, in_chunks
from .utterance import FRAMES_PER_SECOND, Sampling, SoloTalker, Talker, frames_a_chunk, frames_asked, frames_likely

__all__ = ["Listener", "Session"]


@dataclass(frozen=True, eq=False)
class _Turn:
    """A turn that is held, and its rows."""

    segment: Segment
    rows: Tensor


class Session:
    """One conversation with a generator.

    `voice` is what the speaker shall sound like: one segment or several, heard first and kept to the end. The turns of
    all speakers follow, each with its sound. Keys and values are kept, so that only what is new is heard; when the
    model's positions run out the oldest turns go, several at once, because all that follows them is heard anew then.

    `talker` is who speaks: default an engine of its own; `csm.scheduler.Scheduler.talker` where several speak at once.

    A session is used by one thread at a time; any number of sessions share a generator.
    """

    def __init__(
        self, generator: Generator, voice: Segment | Sequence[Segment] = (), talker: Talker | None = None
    ) -> None:
        self.generator = generator
        segments = [voice] if isinstance(voice, Segment) else voice
        prompter, context = generator.prompter, generator.context
        self._voice = [prompter.segment(segment) for segment in segments]
        if (taken := _length(self._voice)) > context // 2:
            raise ContextTooLong(
                f"The voice takes {taken} of the model's {context} rows, more than half. Use shorter recordings; ten "
                "seconds are enough for a voice."
            )
        self._speaker = segments[-1].speaker if segments else 0
        self._turns: list[_Turn] = []
        self._last: Segment | None = None
        """What the session said, while nothing has followed it."""
        self._talker = talker or SoloTalker(generator.engine(), generator.decoder())
        self._speaking: Iterator[Tensor] | None = None
        self._prefill()

    @property
    def turns(self) -> tuple[Segment, ...]:
        """The turns that are still held, without the voice. What the session said has its codes."""
        return tuple(turn.segment for turn in self._turns)

    @property
    def rows(self) -> int:
        """How many of the model's positions voice and turns take."""
        return _length(self._rows())

    def add(self, segment: Segment) -> None:
        """A turn that somebody has spoken, at whatever rate it was recorded. It is heard at once.

        A turn too long to be kept is kept by its words alone. Raises InvalidText, InvalidSpeaker, InvalidAudio, and
        ContextTooLong if not even the words fit; the session is then as before.
        """
        self.replace([*self.turns, segment])

    def replace(self, turns: Sequence[Segment]) -> None:
        """These are the turns now, in place of those that were held. They are heard at once, from the first one on that
        is another than before.

        Take what stays from `turns`: the very same segments are not encoded anew, wherever they stand now. Of something
        said, `dataclasses.replace(turn, text=…, codes=turn.codes[:n])` is what was heard. If positions run out, the
        first of the turns go. Errors as in `add`; the session is then as before.
        """
        self.stop()
        known = {id(turn.segment): turn for turn in self._turns}
        self._turns = [known.get(id(segment)) or self._turn(segment) for segment in turns]
        self._last = None if not turns or turns[-1] is not self._last else self._last
        self._make_room(self.generator.context // 4, keep=1)
        self._prefill()

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
        sampling, chunk = Sampling(temperature, topk, seed), frames_a_chunk(chunk_frames)
        speaker = self._speaker if speaker is None else speaker
        target, said = self.generator.prompter.text(text, speaker), speakable(text)
        wanted = frames_asked(said, max_audio_length_ms)
        room = self.generator.context - _length(self._voice) - len(target)
        if room < min(wanted, frames_likely(said)):
            raise ContextTooLong(
                f"The text needs about {frames_likely(said) / FRAMES_PER_SECOND:.0f} s of speech, but beside the "
                f"voice there is room for only {max(0, room) / FRAMES_PER_SECOND:.0f} s. Say it sentence by sentence."
            )
        self.stop()
        self._last = None
        most = min(wanted, room)
        self._make_room(len(target) + most)
        segment = Segment(text, speaker)
        self._speaking = in_chunks(self._speak(segment, target, most, sampling, cancelled), chunk)
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
        assert last.codes is not None
        self._turns.pop()
        self._last = None
        if frames := max(0, round(seconds * FRAMES_PER_SECOND)):
            words = last.text if text is None else text
            self._keep(replace(last, text=words, codes=last.codes[:frames]))

    def close(self) -> None:
        """The conversation is over: its talker is free for another."""
        self.stop()
        self._talker.close()

    def _speak(
        self, segment: Segment, target: Tensor, most: int, sampling: Sampling, cancelled: Callable[[], bool]
    ) -> Iterator[Tensor]:
        with self.generator.memory():
            speech = self._talker.utter(torch.cat([*self._rows(), target]), most, sampling, cancelled)
            try:
                yield from speech
            finally:
                if speech.frames:
                    self._keep(replace(segment, codes=torch.stack(speech.frames)))

    def _keep(self, spoken: Segment) -> None:
        self._turns.append(_Turn(spoken, self.generator.prompter.segment(spoken)))
        self._last = spoken

    def _turn(self, segment: Segment) -> _Turn:
        """A new turn; by its words alone if it would not leave a quarter of the positions to speak in."""
        prompter, room = self.generator.prompter, self.generator.context * 3 // 4 - _length(self._voice)
        rows = words = prompter.text(segment.text, segment.speaker)
        with suppress(ContextTooLong):
            rows = prompter.segment(segment)
        if len(rows) > room:
            rows = words
        if len(rows) > room:
            raise ContextTooLong(
                f"The turn's words take {len(rows)} rows, but there is room for only {room}. Shorten them."
            )
        return _Turn(segment, rows)

    def _make_room(self, rows: int, keep: int = 0) -> None:
        """Lets the oldest turns go until `rows` more fit; and then a quarter more, so that it is not soon again."""
        context = self.generator.context
        if self.rows + rows > context:
            while len(self._turns) > keep and self.rows + rows > context * 3 // 4:
                self._turns.pop(0)

    def _rows(self) -> list[Tensor]:
        return [*self._voice, *(turn.rows for turn in self._turns)]

    def _prefill(self) -> None:
        """Takes in, ahead of time, whatever the talker has not heard yet."""
        if rows := self._rows():
            with self.generator.memory():
                self._talker.prefill(torch.cat(rows))


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
            raise InvalidAudio("The sound contains values that are not numbers (NaN or infinity).")
        self._encode(sound, last=False)

    def done(self, text: str) -> None:
        """The words of what was heard: together they become a turn of the session. Errors as in `Session.add`."""
        self._session.generator.prompter.text(text, self._speaker)  # its mistakes are found before the sound is spent
        self._encode(torch.zeros(0), last=True)
        with torch.inference_mode():
            self._codes.append(self._encoder.flush())
        frames = torch.cat(self._codes, dim=2)[0].T.cpu()
        self._session.add(Segment(text, self._speaker, codes=frames if len(frames) else None))

    def _encode(self, samples: Tensor, last: bool) -> None:
        if self._resampler is not None:
            samples = torch.from_numpy(self._resampler.resample_chunk(samples.numpy(), last=last))
        if len(samples):
            with torch.inference_mode():
                self._codes.append(self._encoder.step(samples[None].to(self._session.generator.device)))


def _length(segments: Sequence[Tensor]) -> int:
    return sum(len(rows) for rows in segments)
