"""A conversation: the voice stays, turns come and go, and nothing is processed twice."""

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
    """A turn that is kept, and its rows."""

    segment: Segment
    rows: Tensor


class Session:
    """One conversation with a generator.

    `voice` is what the speaker should sound like: one or more segments, read first and kept to the end. The turns of
    all speakers follow, each with its sound. Keys and values are kept, so that only new rows are read. When the model's
    positions run out, the oldest turns are dropped, several at once, because everything after them must then be read
    again.

    `talker` is what speaks: by default, an engine of the session's own. Use `csm.scheduler.Scheduler.talker` if several
    sessions speak at once.

    Only one thread may use a session at a time; any number of sessions can share a generator.
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
        """The last thing the session said, until something follows it."""
        self._talker = talker or SoloTalker(generator.engine(), generator.decoder())
        self._speaking: Iterator[Tensor] | None = None
        self._prefill()

    @property
    def turns(self) -> tuple[Segment, ...]:
        """The turns still kept, without the voice. Those that the session spoke have codes."""
        return tuple(turn.segment for turn in self._turns)

    @property
    def rows(self) -> int:
        """How many of the model's positions the voice and the turns take."""
        return _length(self._rows())

    def add(self, segment: Segment) -> None:
        """Add a turn that somebody spoke, recorded at any rate. It is read at once.

        Of a turn that is too long, only the words are kept. Raises InvalidText, InvalidSpeaker, InvalidAudio, and
        ContextTooLong if not even the words fit; the session is then unchanged.
        """
        self.replace([*self.turns, segment])

    def replace(self, turns: Sequence[Segment]) -> None:
        """Replace the turns. They are read at once, starting with the first one that differs from before.

        Take the turns that stay from `turns`: identical segments are not encoded again, even if they move. To keep only
        what was heard of a turn, use `dataclasses.replace(turn, text=…, codes=turn.codes[:n])`. If the positions run
        out, the first turns are dropped. Raises the same errors as `add`; the session is then unchanged.
        """
        self.stop()
        known = {id(turn.segment): turn for turn in self._turns}
        self._turns = [known.get(id(segment)) or self._turn(segment) for segment in turns]
        self._last = None if not turns or turns[-1] is not self._last else self._last
        self._make_room(self.generator.context // 4, keep=1)
        self._prefill()

    def listen(self, speaker: int, sample_rate: int = SAMPLE_RATE) -> Listener:
        """Start listening to somebody. Pass the listener the sound as it arrives, then the words."""
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
        """Speak `text` as the next turn (speaker: by default the voice's): float32 [samples] at 24 kHz on the host.

        What was said, to the end or until the iterator is closed, becomes a turn. A new call closes the previous one.
        Raises the same errors as `Generator.generate`; the session is then as it was before the call.
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
        """End the current utterance, if there is one; what was said of it is kept as a turn."""
        if self._speaking is not None:
            self._speaking.close()  # type: ignore[attr-defined]
            self._speaking = None

    def heard(self, seconds: float, text: str | None = None) -> None:
        """Keep only what was heard of the last utterance (and, if known, only these words).

        Call this before the next turn.
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
        """End the conversation and release its talker."""
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
        """Make a turn. Keep only its words if its sound would leave less than a quarter of the positions for speech."""
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
        """Drop the oldest turns until `rows` more fit, and a quarter besides, so that this is not needed again soon."""
        context = self.generator.context
        if self.rows + rows > context:
            while len(self._turns) > keep and self.rows + rows > context * 3 // 4:
                self._turns.pop(0)

    def _rows(self) -> list[Tensor]:
        return [*self._voice, *(turn.rows for turn in self._turns)]

    def _prefill(self) -> None:
        """Read ahead of time whatever the talker has not read yet."""
        if rows := self._rows():
            with self.generator.memory():
                self._talker.prefill(torch.cat(rows))


class Listener:
    """Encodes what somebody says while they speak, so that nothing is left to encode at the end."""

    def __init__(self, session: Session, speaker: int, sample_rate: int) -> None:
        import soxr

        self._session, self._speaker = session, speaker
        self._resampler = soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1) if sample_rate != SAMPLE_RATE else None
        self._encoder = session.generator.codec.encoder()
        self._codes: list[Tensor] = []
        self._frames = 0

    def hear(self, samples: Tensor | np.ndarray) -> None:
        """Take the next samples, float [n], at the listener's rate. Raises InvalidAudio for NaN or infinity."""
        sound = torch.as_tensor(samples).float()
        if not sound.isfinite().all():
            raise InvalidAudio("The sound contains values that are not numbers (NaN or infinity).")
        self._encode(sound, last=False)

    def done(self, text: str) -> None:
        """Take the words of what was heard, and add both as a turn. Raises the same errors as `Session.add`."""
        self._session.generator.prompter.text(text, self._speaker)  # raises before the sound is used up
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
