"""CSM in its worker process, where one engine speaks for all conversations together (csm.scheduler).

Each conversation is a csm.Session: the reference recordings, which are never dropped, then the turns of the user and
the voice, with their sound. The context is what was really said and heard: a clause spoken before the user's words were
known, like the reply's first one, is placed after them, and what was synthesized but never heard is removed.

This is the only file of `pipeline` that imports csm.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from config.engines import fetches
from pipeline.audio import EAR_RATE, Samples
from pipeline.engine import EngineError, Progress, Report
from pipeline.models.fetching import fetched
from pipeline.tts import Spoken
from pipeline.tts.clauses import reached

if TYPE_CHECKING:
    from csm import Generator as Model
    from csm import Segment, Session

PARLEY, USER = 0, 1
"""Speakers, by CSM's numbers."""

FRAME_SIZE = 1920
"""Samples (24 kHz) per frame of the codec."""

SLOTS = 8
"""Conversations whose utterances are computed together and whose context stays ready."""


class Synthesizer:
    """The model and its conversations, inside a worker process. A conversation is known by its speaker's number."""

    def __init__(
        self,
        report: Report,
        model: str,
        precision: str,
        measured: str | None,
        references: Sequence[tuple[str, str]],
        device: str | None,
        adapter: str = "",
    ) -> None:
        from csm.scheduler import Scheduler

        # Read these first, so that a bad recording is reported before minutes of loading.
        report(Progress("reading the voice's recordings"))
        self._voice = [_reference(Path(path), text) for path, text in references]
        for fetch in fetches("voice", "csm", model):
            fetched(fetch, report)
        report(Progress(f"loading {model}"))
        self._generator = load(model, precision, device, measured or "int4", adapter)
        self._adapter = adapter
        self._talks: dict[int, Talk] = {}
        self._opening = threading.Lock()
        self._floor = Floor()
        report(Progress("warming up the voice"))
        with _told(), self._generator.memory():
            self._scheduler = Scheduler(self._generator, SLOTS)
            self._new_talk(self._voice).warm_up()

    def speak(self, talk: int, text: str, like: Sequence[tuple[str, str]] | None = None) -> Iterator[Spoken]:
        """Args: like: the recordings of another voice than the settings', with their transcripts."""
        with _told(), self._floor.one_of_many():
            yield from self._talk(talk, like).speak(text)

    def become(self, references: Sequence[tuple[str, str]], adapter: str) -> None:
        """Change to another voice, trained or not, without loading the model again. It is prepared while others speak
        and takes over once nobody does. Conversations start afresh, because their context was in the old voice."""
        voice = [_reference(Path(path), text) for path, text in references]
        with _told():
            use = self._generator.prepared_adapter(adapter or None) if adapter != self._adapter else None
        with _told(), self._floor.alone():
            if use is not None:
                use()
            self._voice, self._adapter = voice, adapter
            with self._opening:
                talks, self._talks = self._talks, {}
            for talk in talks.values():
                talk.close()
            self._new_talk(voice).warm_up()

    def user_said(self, talk: int, text: str, samples: Samples) -> None:
        with _told():
            self._talk(talk).user_said(text, samples)

    def said(self, talk: int, samples: int) -> None:
        with _told():
            self._talk(talk).said(samples)

    def computes_by(self) -> str | None:
        """Return what computes with packed weights; None if they are not packed."""
        packing = getattr(self._generator.model, "packing", None)
        return None if packing is None else str(packing.computes_by)

    def close_talk(self, talk: int) -> None:
        with self._opening:
            closed = self._talks.pop(talk, None)
        if closed is not None:
            closed.close()

    def _talk(self, number: int, like: Sequence[tuple[str, str]] | None = None) -> Talk:
        """Return the conversation; after a restart of the process it has the voice, but not its earlier turns."""
        with self._opening:
            if number not in self._talks:
                voice = self._voice if like is None else [_reference(Path(path), text) for path, text in like]
                self._talks[number] = self._new_talk(voice)
            return self._talks[number]

    def _new_talk(self, voice: Sequence[Segment]) -> Talk:
        from csm import Session

        return Talk(Session(self._generator, voice, self._scheduler.talker()))


class Floor:
    """A readers-writer lock: many may speak at a time; a caller that must be alone waits and holds up new ones."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._speaking = 0
        self._alone = False

    @contextmanager
    def one_of_many(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._speaking += 1
        try:
            yield
        finally:
            with self._changed:
                self._speaking -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._alone = True
            self._changed.wait_for(lambda: not self._speaking)
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


class Talk:
    """One conversation: a session, and how much of it belongs to the reply in progress."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._reply = 0
        """How many of the last turns are clauses of the reply in progress."""
        self._one_at_a_time = threading.Lock()

    def warm_up(self) -> None:
        """Speak one frame, so that before the first real one everything is compiled and the voice is in context."""
        next(self._session.speak("Hello.", PARLEY), None)
        self._session.heard(0.0)
        self.close()

    def close(self) -> None:
        with self._one_at_a_time:
            self._session.close()

    def speak(self, text: str) -> Generator[Spoken, None, None]:
        """Yield sound frame by frame. Whatever was made until the iterator is closed becomes a turn."""
        from csm import InvalidText

        with self._one_at_a_time:
            try:
                frames = self._session.speak(text, PARLEY)
            except InvalidText:
                return  # nothing in the text can be said aloud
            before = self._session.turns
            try:
                for frame in frames:
                    yield Spoken(frame.numpy())
            finally:
                self._session.stop()
                self._reply = min(self._reply, len(before)) + len(self._session.turns) - len(before)

    def user_said(self, text: str, samples: Samples) -> None:
        """Insert the user's words before the reply that is being made for them."""
        import torch

        from csm import InvalidAudio, InvalidText, Segment

        with self._one_at_a_time, suppress(InvalidText):
            before, reply = self._parted()
            said = Segment(text, USER, torch.from_numpy(samples), EAR_RATE)
            try:
                self._become([*before, said, *reply])
            except InvalidAudio:
                self._become([*before, Segment(text, USER), *reply])

    def said(self, samples: int) -> None:
        """Keep of the finished reply only what was heard, in samples."""
        with self._one_at_a_time:
            before, reply = self._parted()
            heard = []
            for clause in reply:
                if (part := _cut(clause, samples)) is not None:
                    heard.append(part)
                samples -= _length(clause)
            self._become([*before, *heard])
            self._reply = 0

    def _parted(self) -> tuple[Sequence[Segment], Sequence[Segment]]:
        turns = self._session.turns
        return turns[: len(turns) - self._reply], turns[len(turns) - self._reply :]

    def _become(self, turns: Sequence[Segment]) -> None:
        """Replace the turns; the session drops the oldest ones when it runs out of positions."""
        self._session.replace(turns)
        self._reply = min(self._reply, len(self._session.turns))


def _length(clause: Segment) -> int:
    """Return the clause's length in samples."""
    return 0 if clause.codes is None else len(clause.codes) * FRAME_SIZE


def _cut(clause: Segment, samples: int) -> Segment | None:
    """Return the heard part of the clause, its words in proportion; None if no word was heard."""
    if samples >= _length(clause):
        return clause
    frames = round(samples / FRAME_SIZE)
    if frames <= 0 or clause.codes is None:
        return None
    text = reached(clause.text, samples / _length(clause))
    if not text:
        return None
    return replace(clause, text=text, codes=clause.codes[:frames])


def load(model: str, precision: str, device: str | None = None, on_processor: str = "int4", adapter: str = "") -> Model:
    """Load CSM in a precision from the settings. Raises EngineError.

    "auto" means `on_processor` on a CPU and on a Mac's GPU (by MLX), and bfloat16 on an NVIDIA GPU.

    adapter: the adapter folder of a trained voice (docs/TRAINING.md), if there is one.
    """
    import torch

    from csm import load_csm_1b
    from csm.devices import Machine, choose_device

    with _told():
        device = choose_device(device, Machine.here())
    packable = device in ("cpu", "mlx")
    if precision == "auto":
        precision = on_processor if packable else "bf16"
    if not packable and precision in ("int8", "int4"):
        raise EngineError("On a GPU CSM speaks in bf16 or fp32: choose one of these precisions, or auto.")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}.get(precision)
    with _told():
        return load_csm_1b(
            device,
            model,
            dtype,
            None if dtype is not None else precision,
            adapter=adapter or None,
        )


def _reference(path: Path, text: str) -> Segment:
    from csm import Segment
    from csm.prompt import speakable
    from csm.sound.audio_files import read_recording
    from csm.sound.recording import SAMPLE_RATE, as_mono

    with _told(f"The voice's recording {path.name} cannot be used: "):
        audio = as_mono(*read_recording(path))
        if not text.strip():
            raise EngineError(
                f"Write down what is said in the voice's recording {path.name}: CSM needs its transcript."
            )
        speakable(text)
        return Segment(text, PARLEY, audio, SAMPLE_RATE)


@contextmanager
def _told(beginning: str = "") -> Iterator[None]:
    """Turn csm's errors into EngineError; their messages are already sentences for people."""
    from csm import CsmError

    try:
        yield
    except CsmError as error:
        raise EngineError(f"{beginning}{error}") from error
