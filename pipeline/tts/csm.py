"""CSM as the voice: it speaks as a reference recording does, and hears both sides of the conversation as its context.

The model lives in a worker process. A conversation there is a csm.Session: the reference recordings first, never
dropped, then the turns of the user and its own, with their sound. Its context is what was really said and heard: what
was spoken before the user's words were known (the reply's first clause is) stands after them, and what of a reply was
made but never heard is taken out again.

This is the only file of `pipeline` that knows csm, and it imports it only inside the worker.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.engines import fetches
from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.engine import EngineError, Progress, Report
from pipeline.models.fetching import fetched
from pipeline.tts import Spoken
from pipeline.tts.clauses import reached
from pipeline.workers.place import MakePlace, Place, PlacedEngine
from pipeline.workers.worker import Worker

if TYPE_CHECKING:
    from csm import Generator as Model
    from csm import Segment

PARLEY, USER = 0, 1
"""Speakers, as CSM numbers them."""

CONVERSATIONS = 8
"""Utterances that may be under way at a time, a thread each."""

log = logging.getLogger(__name__)


class Voice:
    """The model and its conversations, for a worker process. A conversation goes by the number of its speaker."""

    def __init__(
        self,
        report: Report,
        model: str,
        precision: str,
        measured: str | None,
        references: Sequence[tuple[str, str]],
        device: str | None,
    ) -> None:
        for fetch in fetches("voice", "csm", model):
            fetched(fetch, report)
        report(Progress(f"loading {model}"))
        self._generator = load(model, precision, device, measured or "int4")
        report(Progress("listening to the voice's recordings"))
        self._voice = [_reference(Path(path), text) for path, text in references]
        self._talks: dict[int, Talk] = {}
        self._opening = threading.Lock()
        report(Progress("warming up the voice"))
        with _told():
            self._spare: Talk | None = Talk(self._generator, self._voice)
            self._spare.warm_up()

    def speak(self, talk: int, text: str) -> Iterator[Spoken]:
        with _told():
            yield from self._talk(talk).speak(text)

    def heard(self, talk: int, text: str, samples: Samples) -> None:
        with _told():
            self._talk(talk).heard(text, samples)

    def said(self, talk: int, samples: int) -> None:
        with _told():
            self._talk(talk).said(samples)

    def close_talk(self, talk: int) -> None:
        with self._opening:
            self._talks.pop(talk, None)

    def _talk(self, number: int) -> Talk:
        """After a restart of the process a conversation goes on here with the voice, but without its earlier turns."""
        with self._opening:
            if number not in self._talks:
                spare, self._spare = self._spare, None
                self._talks[number] = spare or Talk(self._generator, self._voice)
            return self._talks[number]


class Talk:
    """One conversation: a session, and the turns that it is to hold."""

    def __init__(self, generator: Model, voice: Sequence[Segment]) -> None:
        from csm import Session

        self._generator, self._voice = generator, voice
        self._session = Session(generator, voice)
        self._turns: list[Segment] = []
        self._reply = 0
        """How many of the last turns are clauses of the reply under way."""
        self._just_spoken = False
        """Whether the last turn is the session's last utterance, which it can take back."""
        self._one_at_a_time = threading.Lock()

    def warm_up(self) -> None:
        """Speak for a frame, so that the first real one finds everything compiled and in place."""
        next(self._session.speak("Hello.", PARLEY), None)
        self._session.heard(0.0)

    def speak(self, text: str) -> Generator[Spoken, None, None]:
        """Sound, frame by frame. Whatever was made until the iterator is closed is a turn."""
        import torch

        from csm import InvalidText, Segment

        with self._one_at_a_time:
            try:
                frames = self._session.speak(text, PARLEY)
            except InvalidText:
                return  # nothing in it can be said aloud
            sound = []
            try:
                for frame in frames:
                    sound.append(frame)
                    yield Spoken(frame.numpy())
            finally:
                self._session.stop()
                if sound:
                    self._turns.append(Segment(text, PARLEY, torch.cat(sound), MOUTH_RATE))
                    self._reply += 1
                    self._just_spoken = True
                    self._keep_those_in_mind()

    def heard(self, text: str, samples: Samples) -> None:
        """The user's words, which come before those of the reply that is being made for them."""
        import torch

        from csm import InvalidAudio, InvalidText, Segment

        with self._one_at_a_time:
            before, reply = self._parted()
            said = Segment(text, USER, torch.from_numpy(samples), EAR_RATE)
            try:
                self._become([*before, said, *reply])
            except InvalidText:
                self._become([*before, *reply])
            except InvalidAudio:
                self._become([*before, Segment(text, USER), *reply])

    def said(self, samples: int) -> None:
        """The reply is over, and of its sound so much was heard."""
        with self._one_at_a_time:
            before, reply = self._parted()
            heard = []
            for clause in reply:
                if (part := _cut(clause, samples)) is not None:
                    heard.append(part)
                samples -= _length(clause)
            self._become([*before, *heard])
            self._reply = 0

    def _parted(self) -> tuple[list[Segment], list[Segment]]:
        at = len(self._turns) - self._reply
        return self._turns[:at], self._turns[at:]

    def _become(self, turns: Sequence[Segment]) -> None:
        """Have the session hold these turns. One utterance is taken back; more than that, and all is heard anew."""
        from csm import Session

        same = next((n for n, (old, new) in enumerate(zip(self._turns, turns, strict=False)) if old is not new), None)
        same = min(len(self._turns), len(turns)) if same is None else same
        if same == len(self._turns) - 1 and self._just_spoken:
            self._session.heard(0.0)
        elif same < len(self._turns):
            self._session, same = Session(self._generator, self._voice), 0
        self._turns = list(turns[:same])
        for turn in turns[same:]:
            self._session.add(turn)
            self._turns.append(turn)
            self._just_spoken = False
        self._keep_those_in_mind()

    def _keep_those_in_mind(self) -> None:
        """The session lets the oldest turns go when its positions run out."""
        self._turns = self._turns[len(self._turns) - self._session.turns :]
        self._reply = min(self._reply, len(self._turns))


def _length(turn: Segment) -> int:
    return 0 if turn.audio is None else turn.audio.shape[-1]


def _cut(turn: Segment, samples: int) -> Segment | None:
    """The turn as far as it was heard, its words in proportion; None if none of them was."""
    from csm import Segment

    if samples >= _length(turn):
        return turn
    if samples <= 0 or turn.audio is None:
        return None
    text = reached(turn.text, samples / _length(turn))
    if not text:
        return None
    return Segment(text, turn.speaker, turn.audio[:samples], turn.sample_rate)


def load(model: str, precision: str, device: str | None = None, on_processor: str = "int4") -> Model:
    """CSM in a precision of the settings; "auto" is bfloat16 on a GPU, `on_processor` on a CPU. Raises EngineError."""
    import torch

    from csm import load_csm_1b

    gpu = torch.cuda.is_available() and device != "cpu"
    if precision == "auto":
        precision = "bf16" if gpu else on_processor
    if gpu and precision in ("int8", "int4"):
        raise EngineError("On a GPU CSM speaks in bf16 or fp32: choose one of these precisions, or auto.")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}.get(precision)
    with _told():
        return load_csm_1b(device or ("cuda" if gpu else "cpu"), model, dtype, None if dtype is not None else precision)


def _reference(path: Path, text: str) -> Segment:
    from csm import Segment
    from csm.prompt import speakable
    from csm.sound.audio_files import read_recording

    with _told(f"The voice's recording {path.name} cannot be used: "):
        audio, rate = read_recording(path)
        if not text.strip():
            raise EngineError(f"Write what is said in the voice's recording {path.name}: CSM needs its words.")
        speakable(text)
        return Segment(text, PARLEY, audio, rate)


@contextmanager
def _told(beginning: str = "") -> Iterator[None]:
    """csm's own errors are sentences for people already."""
    from csm import CsmError

    try:
        yield
    except CsmError as error:
        raise EngineError(f"{beginning}{error}") from error


class CsmSpeaker:
    def __init__(self, place: Place, talk: int) -> None:
        self._place = place
        self._talk = talk

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        async with aclosing(self._place.stream("speak", self._talk, text)) as frames:
            async for spoken in frames:
                yield spoken

    async def user_said(self, text: str, samples: Samples) -> None:
        await self._remember("heard", text, samples)

    async def reply_heard(self, samples: int) -> None:
        """A reply is over: of its sound so many samples (24 kHz) were heard, and the rest is to be forgotten."""
        await self._remember("said", samples)

    async def close(self) -> None:
        with suppress(EngineError):  # a process that is gone holds nothing
            await self._place.call("close_talk", self._talk)

    async def _remember(self, method: str, *args: Any) -> None:
        """What the voice does not hear costs it context and nothing else: that is for the log, not for the user."""
        try:
            await self._place.call(method, self._talk, *args)
        except EngineError as error:
            log.warning("The voice goes on without this turn in mind: %s", error)


class Csm(PlacedEngine[Place]):
    """Text to speech by CSM in a worker process."""

    def __init__(
        self,
        model: str,
        voices: Path,
        *,
        references: Sequence[tuple[str, str]] = (),
        precision: str = "auto",
        measured: str | None = None,
        device: str | None = None,
        place: MakePlace = Worker,
    ) -> None:
        """
        Args:
            model: a hub id, or a folder with a checkpoint in either published format.
            voices: the folder of the reference recordings.
            references: file names in that folder, and what is said in each; the voice to speak with.
            precision: "fp32", "bf16", "int8", "int4", or "auto".
            measured: what "auto" is on this machine's processor; by default 4 bits.
            device: "cuda", "cpu"; by default the GPU if there is one.
        """
        self._voices, self._references = voices, references
        files = [(str(voices / name), text) for name, text in references]
        arguments = {
            "model": model,
            "precision": precision,
            "measured": measured,
            "references": files,
            "device": device,
        }
        super().__init__(place("CSM", f"{__name__}:Voice", arguments, concurrency=CONVERSATIONS))
        self._talks = count()

    async def start(self, report: Report) -> None:
        for name, _ in self._references:
            check_name(self._voices, name)
        await super().start(report)

    def speaker(self) -> CsmSpeaker:
        return CsmSpeaker(self._place, next(self._talks))


def check_name(folder: Path, name: str) -> None:
    """Raises EngineError for what is not the bare name of a file in this folder."""
    if Path(name).name != name or not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise EngineError(f"{name!r} is no file name: put the recording into {folder} and give its name there.")
