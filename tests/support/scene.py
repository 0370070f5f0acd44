"""A language for scenes: who says what when, how long engines take, and what came of it, under a virtual clock.

The engines here are scripts with delays, for timing only; the real ones are tested where the sound is real.

    scene = Scene()
    scene.user(0.5, 1.5, "what time is it")
    scene.reply("It is noon.")
    told = scene.play(until=6.0)
    assert told.began("speaking") == pytest.approx(2.0, abs=0.1)
    assert told.history == ["user: what time is it", "assistant: It is noon."]
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from config import Settings
from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.conversation.conversation import Conversation, Mode
from pipeline.conversation.events import (
    Event,
    Notice,
    ReplyAudio,
    ReplyDone,
    ReplyPaused,
    ReplyResumed,
    ReplyStarted,
    SpeechStarted,
    SpeechStopped,
    State,
    StateChanged,
    TurnFinished,
    UserSaid,
)
from pipeline.conversation.stages import Stages
from pipeline.engine import EngineError, EngineStatus, Report
from pipeline.llm import Prompt, Truncated
from pipeline.speakers.encoder import SIZE, Direction
from pipeline.speakers.people import Heard, People, Person
from pipeline.stt import Transcript
from pipeline.tools.calls import Tool, ToolCall
from pipeline.tools.toolbox import ToolFailed
from pipeline.tts import Spoken
from pipeline.turns.record import TurnRecord
from pipeline.turns.vad import FRAME
from rag import Recall
from tests.support import virtual_time

FRAME_S = FRAME / EAR_RATE
PLAY_STEP_S = 0.02
SPEECH_LEVEL = 0.1
"""Frames of speech carry the number of their utterance as their level: 0.1 + 0.001 x number."""


@dataclass(frozen=True, slots=True)
class Utterance:
    start: float
    end: float
    words: tuple[str, ...]
    """Empty for a noise that sounds like speech."""
    voice: str = ""
    """Whose it is, where a scene tells people apart."""


class _Engine:
    status = EngineStatus("script", "ready")

    async def start(self, report: Report) -> None: ...

    async def stop(self) -> None: ...


class _Vad:
    def probability(self, frame: Samples) -> float:
        return 0.95 if float(frame.max()) >= SPEECH_LEVEL else 0.02

    def reset(self) -> None: ...


class _Hearing:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._frames: dict[int, int] = {}
        self._told = ""

    def _text(self) -> str:
        words: list[str] = []
        for number, frames in self._frames.items():
            utterance = self._scene.utterances[number]
            share = frames * FRAME_S / (utterance.end - utterance.start)
            words.extend(utterance.words[: round(min(share, 1.0) * len(utterance.words) + 0.2)])
        return " ".join(words)

    async def feed(self, samples: Samples) -> Transcript | None:
        for frame in samples.reshape(-1, FRAME):
            level = float(frame.max())
            if level >= SPEECH_LEVEL:
                number = round((level - SPEECH_LEVEL) * 1000)
                self._frames[number] = self._frames.get(number, 0) + 1
        await asyncio.sleep(self._scene.ears_delay / 4)
        if self._scene.ears_fail:
            raise EngineError("The transcriber stopped unexpectedly and is being restarted.")
        if self._scene.ears_bug:
            raise RuntimeError("nobody foresaw this")
        if (text := self._text()) != self._told:
            self._told = text
            return Transcript(text)
        return None

    async def finish(self) -> Transcript:
        await asyncio.sleep(self._scene.ears_delay)
        text = self._text()
        return Transcript(text, stable=len(text))

    async def close(self) -> None: ...


class _Ears(_Engine):
    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def listen(self) -> _Hearing:
        return _Hearing(self._scene)


class _Mind(_Engine):
    uses_tools = True

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall | Truncated, None]:
        scene = self._scene
        scene.prompts.append(prompt)
        scene.minds_running += 1
        try:
            answer = scene.replies.get(prompt.history[-1].text if prompt.history else "", scene.usual_reply)
            await asyncio.sleep(scene.first_token)
            for word in answer.split():
                if word == "BUG":
                    raise KeyError("what nobody expected")
                if word == "CRASH":
                    raise EngineError("the language model stopped unexpectedly and is being restarted.")
                if word == "CUT":
                    yield Truncated()
                    return
                if word == "CALL":
                    yield ToolCall("call_0", "weather", "{}")
                    continue
                yield word + " "
                await asyncio.sleep(scene.per_token)
        finally:
            scene.minds_running -= 1

    async def read_ahead(self, prompt: Prompt) -> None:
        scene = self._scene
        scene.read.append([message.text for message in prompt.history])
        scene.minds_running += 1
        try:
            await asyncio.sleep(scene.reading)
        finally:
            scene.minds_running -= 1


class _Speaker:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        scene = self._scene
        await asyncio.sleep(scene.first_sample)
        for _ in text.split():
            if scene.voice_fails:
                raise EngineError("The voice stopped unexpectedly and is being restarted.")
            yield Spoken(np.full(round(scene.seconds_per_word * MOUTH_RATE), 0.5, np.float32))
            await asyncio.sleep(scene.voice_factor * scene.seconds_per_word)

    async def user_said(self, text: str, samples: Samples) -> None:
        self._scene.context.append((text, len(samples) / EAR_RATE))

    async def close(self) -> None: ...


class _Voice(_Engine):
    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def speaker(self) -> _Speaker:
        return _Speaker(self._scene)


class _Memory:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def remember(
        self, speaker: str, text: str, *, at: datetime | None = None, conversation: str | None = None
    ) -> str:
        await asyncio.sleep(self._scene.memory_delay)
        if self._scene.memory_fails:
            raise EngineError("The disk is full: free some space to go on remembering.")
        if "bug" in text:
            raise RuntimeError("nobody foresaw this")
        self._scene.remembered.append(f"{speaker}: {text}")
        return str(len(self._scene.remembered))

    async def recall(
        self,
        query: str,
        *,
        budget_chars: int = 2400,
        now: datetime | None = None,
        exclude_conversation: str | None = None,
        asker: str | None = None,
    ) -> Recall:
        self._scene.recalled.append(query)
        self._scene.askers.append(asker)
        await asyncio.sleep(self._scene.memory_delay)
        if self._scene.recall_fails:
            raise EngineError("The memory is damaged: run `python3 setup.py doctor`.")
        return Recall("", ())

    async def notices(self) -> tuple[str, ...]:
        return self._scene.memory_notices


@dataclass(slots=True)
class ScriptedTools:
    """One tool, `weather`, which a reply calls by the word CALL."""

    takes: float = 0.1
    """Seconds."""
    result: str = "sunny"
    asking: bool = False
    called: int = 0

    def tools(self) -> tuple[Tool, ...]:
        return (Tool("weather", own=True),)

    def asks(self, name: str) -> bool:
        return self.asking

    async def call(self, call: ToolCall, conversation: str) -> str:
        self.called += 1
        await asyncio.sleep(self.takes)
        if self.result == "FAIL":
            raise ToolFailed("The weather station is closed.")
        if self.result == "BUG":
            raise KeyError("what nobody expected")
        return self.result


@dataclass(slots=True)
class ScriptedSpeakers:
    """Hears whose voice the script says it is; each voice has a direction of its own."""

    scene: Scene
    people: People
    delay: float = 0.05
    fails: bool = False

    async def direction(self, sound: Samples) -> Direction | None:
        await asyncio.sleep(self.delay)
        if self.fails:
            raise EngineError("The telling apart of voices stopped.")
        said = self.scene.spoken_last(sound)
        return None if said is None else voice_direction(said.voice)

    def known(self) -> tuple[Person, ...]:
        return self.people.all()

    async def learn(self, name: str, heard: Sequence[Heard], today: date) -> Person:
        return self.people.learn(name, heard, today)

    async def forget(self, name: str) -> bool:
        return self.people.forget(name)


def voice_direction(voice: str) -> Direction:
    """Near enough to itself, and at right angles to any other of the 256."""
    direction = np.zeros(SIZE, np.float32)
    direction[sum(voice.encode()) % SIZE] = 1.0
    return direction


@dataclass(slots=True)
class Told:
    """What came of a scene."""

    events: list[tuple[float, Event]]
    history: list[str]
    remembered: list[str]
    sounding: list[tuple[float, float, int]]
    """When the reply could be heard: from, to (seconds), of which turn."""
    records: list[TurnRecord]

    def of(self, kind: type[Event]) -> list[tuple[float, Event]]:
        return [(at, event) for at, event in self.events if isinstance(event, kind)]

    def times(self, kind: type[Event]) -> list[float]:
        return [at for at, _ in self.of(kind)]

    def began(self, state: State, nth: int = 0) -> float:
        entered = [at for at, event in self.events if isinstance(event, StateChanged) and event.state == state]
        return entered[nth]

    @property
    def outcomes(self) -> list[str]:
        return [event.outcome for _, event in self.events if isinstance(event, ReplyDone)]

    @property
    def said(self) -> list[str]:
        return [event.text for _, event in self.events if isinstance(event, UserSaid)]

    @property
    def notices(self) -> list[str]:
        return [event.text for _, event in self.events if isinstance(event, Notice)]

    def silent_between(self, start: float, end: float) -> bool:
        return all(until <= start or begun >= end for begun, until, _ in self.sounding)

    def sound_begins(self, after: float = 0.0) -> float:
        return min(begun for begun, _, _ in self.sounding if begun >= after)


@dataclass(slots=True, repr=False)
class Scene:
    """Delays are in seconds. The end of the sound plays in real time and reports every 20 ms."""

    settings: Settings = field(default_factory=Settings)
    mode: Mode = "automatic"
    ears_delay: float = 0.03
    first_token: float = 0.1
    per_token: float = 0.02
    first_sample: float = 0.05
    reading: float = 0.0
    """How long the mind reads what was said so far, while nobody waits for it."""
    seconds_per_word: float = 0.3
    voice_factor: float = 0.2
    memory_delay: float = 0.01
    usual_reply: str = "That is good to hear."
    ears_fail: bool = False
    ears_bug: bool = False
    finished_fails: bool = False
    voice_fails: bool = False
    memory_fails: bool = False
    recall_fails: bool = False
    memory_notices: tuple[str, ...] = ()
    deaf_after: float = 1e9
    """When the end of the sound stops playing and reporting, as a sleeping tab does …"""
    deaf_until: float = 1e9
    """… and when it goes on."""
    finished_delay: float = 0.03
    finished_at: dict[float, float] = field(default_factory=dict)
    """The turn model's verdict for speech ending at a time; 0.95 where a sentence of the script ends, else 0.05."""
    meaning: bool = False
    """Judge turns by meaning; without it, by the silence in the settings."""
    utterances: list[Utterance] = field(default_factory=list)
    replies: dict[str, str] = field(default_factory=dict)
    acts: list[tuple[float, Callable[[Conversation], object]]] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    read: list[list[str]] = field(default_factory=list)
    """What the mind read ahead, each time."""
    context: list[tuple[str, float]] = field(default_factory=list)
    remembered: list[str] = field(default_factory=list)
    recalled: list[str] = field(default_factory=list)
    askers: list[str | None] = field(default_factory=list)
    """Who asked each of them."""
    """What was asked of the memory."""
    now: Callable[[], datetime] = lambda: datetime(2026, 11, 20, 12, tzinfo=UTC)
    """The wall clock."""
    speakers: ScriptedSpeakers | None = None
    """Where people are told apart."""
    tools: ScriptedTools | None = None
    """The owner's."""
    minds_running: int = 0
    kept: int = 10**9
    """Events and stretches of sound that are kept of a scene that lasts for hours: the last ones."""

    def __repr__(self) -> str:
        """What is unlike the defaults, as it would be written down."""
        plain = Scene()
        lists = (
            "settings",
            "utterances",
            "replies",
            "acts",
            "prompts",
            "read",
            "context",
            "remembered",
            "recalled",
            "now",
            "minds_running",
            "speakers",
        )
        names = [each.name for each in fields(self) if each.name not in lists]
        changed = [name for name in names if getattr(self, name) != getattr(plain, name)]
        lines = [f"Scene({', '.join(f'{name}={getattr(self, name)!r}' for name in changed)})"]
        lines += [f"user({said.start:.2f}, {said.end:.2f}, {' '.join(said.words)!r})" for said in self.utterances]
        lines += [f"reply({text!r}, to={words!r})" for words, text in self.replies.items()]
        lines += [f"at({when:.2f}, {inspect.getsource(act).strip()})" for when, act in self.acts]
        return "\n".join(lines)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How hypothesis shows a failing scene."""
        printer.text(repr(self))

    def user(self, start: float, end: float, words: str, voice: str = "") -> None:
        self.utterances.append(Utterance(start, end, tuple(words.split()), voice))

    def tell_apart(self, people: People) -> ScriptedSpeakers:
        """From now on the script's voices are told apart."""
        self.speakers = ScriptedSpeakers(self, people)
        return self.speakers

    def noise(self, start: float, end: float) -> None:
        """A cough, a door: it sounds like speech to the VAD, and has no words."""
        self.utterances.append(Utterance(start, end, ()))

    def reply(self, text: str, to: str | None = None) -> None:
        """What the mind answers: always, or to certain words."""
        if to is None:
            self.usual_reply = text
        else:
            self.replies[to] = text

    def at(self, when: float, act: Callable[[Conversation], object]) -> None:
        """Do something to the conversation at a time; a coroutine is awaited."""
        self.acts.append((when, act))

    def play(self, until: float) -> Told:
        return virtual_time.run(self._play(until))

    def stages(self) -> Stages:
        finished = self._finished if self.meaning else None
        return Stages(_Vad, _Ears(self), _Mind(self), _Voice(self), _Memory(self), finished, self.speakers)

    async def _play(self, until: float) -> Told:
        told = Told([], [], self.remembered, [], [])
        async with Conversation(
            self.stages(),
            self.settings,
            name="scene",
            mode=self.mode,
            on_record=told.records.append,
            now=self.now,
            toolbox=self.tools,
        ) as conversation:
            end = asyncio.create_task(end_of_the_sound(conversation, told, self))
            acting = [asyncio.create_task(_act(conversation, when, act)) for when, act in self.acts]
            await self.microphone(conversation, until)
            for task in acting:
                await task
        await end
        told.history = [f"{entry.role}: {entry.text}" for entry in conversation.history.entries]
        assert self.minds_running == 0, "a cancelled reply went on being written"
        return told

    async def _finished(self, sound: Samples) -> float:
        """What the script says of the last speech in this sound: an utterance is finished unless told otherwise."""
        await asyncio.sleep(self.finished_delay)
        if self.finished_fails:
            raise EngineError("The turn model stopped.")
        said = self.spoken_last(sound)
        return 0.95 if said is None else self.finished_at.get(said.end, 0.95)

    def spoken_last(self, sound: Samples) -> Utterance | None:
        levels = [float(frame.max()) for frame in sound.reshape(-1, FRAME)]
        last = next((level for level in reversed(levels) if level >= SPEECH_LEVEL), None)
        return None if last is None else self.utterances[round((last - SPEECH_LEVEL) * 1000)]

    async def microphone(self, conversation: Conversation, until: float) -> None:
        clock = asyncio.get_running_loop().time
        to_come = list(enumerate(self.utterances))
        for number in range(round(until / FRAME_S)):
            middle = (number + 0.5) * FRAME_S
            level = next(
                (SPEECH_LEVEL + 0.001 * place for place, heard in to_come if heard.start <= middle < heard.end), 0.0
            )
            if to_come and to_come[0][1].end <= middle:
                to_come.pop(0)
            await asyncio.sleep(max(0.0, (number + 1) * FRAME_S - clock()))
            conversation.hear(np.full(FRAME, level, np.float32))


async def _act(conversation: Conversation, when: float, act: Callable[[Conversation], object]) -> None:
    await asyncio.sleep(when)
    result = act(conversation)
    if asyncio.iscoroutine(result):
        await result


async def end_of_the_sound(conversation: Conversation, told: Told, scene: Scene) -> None:
    """A headset: plays what it gets in real time, pauses and drops at once, reports what was heard."""
    clock = asyncio.get_running_loop().time
    queued = played = turn = 0
    paused = False

    async def play() -> None:
        nonlocal played
        while True:
            begun = clock()
            await asyncio.sleep(PLAY_STEP_S)
            step = min(round(PLAY_STEP_S * MOUTH_RATE), queued - played)
            if paused or step <= 0 or scene.deaf_after <= begun < scene.deaf_until:
                continue
            played += step
            told.sounding.append((begun, begun + step / MOUTH_RATE, turn))
            conversation.played(played)

    playing = asyncio.create_task(play())
    try:
        async for event in conversation.events():
            told.events.append((clock(), event))
            if len(told.events) > 2 * scene.kept:
                del told.events[: -scene.kept], told.sounding[: -scene.kept]
            match event:
                case ReplyStarted():
                    queued = played = 0
                    paused = False
                    turn = event.turn
                case ReplyAudio():
                    assert event.first_sample == queued, "sound was lost or repeated"
                    queued += len(event.samples)
                case ReplyPaused():
                    paused = True
                case ReplyResumed():
                    paused = False
                case ReplyDone():
                    queued = played = 0
                case SpeechStarted() | SpeechStopped() | TurnFinished():
                    pass
    finally:
        playing.cancel()
