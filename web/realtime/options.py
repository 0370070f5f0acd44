"""A client's session and the user's settings: what the client may change for itself, and what then applies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from config import Settings
from pipeline.conversation.conversation import Mode
from pipeline.conversation.request import Request
from pipeline.tools.calls import Tool
from web.realtime import parts
from web.realtime.pcm import ENCODINGS, PCM, Encoding

LONGEST_PAUSE = {"low": 4000, "high": 800}
"""Milliseconds of silence that end a turn whatever was said, by `eagerness`; other values keep the user's setting."""

MOST_TOKENS = 4096
"""The most tokens of one reply, whatever a client allows."""
SENSITIVITY = (0.05, 0.95)
"""The range of speech thresholds; values outside it are clamped."""
LONGEST_MS = 60_000
"""The longest silence before a turn ends, and the longest sound kept from before a turn."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """All that a client has asked for on top of the user's settings; other clients are not affected."""

    kind: Literal["realtime", "transcription"] = "realtime"
    """A transcription session is only transcribed: it gets no replies, and nothing of it is remembered."""
    mode: Mode = "automatic"
    instructions: str | None = None
    vad: parts.ServerVad | parts.SemanticVad | None = None
    spoken: bool = True
    tools: tuple[parts.FunctionTool, ...] = ()
    tool_choice: parts.ToolChoice = "auto"
    max_tokens: int | None = None
    heard: Encoding = PCM
    """The encoding of the sound that the client sends."""
    told: Encoding = PCM
    """The encoding of the sound that the client receives."""
    media: bool = False
    """Whether sound travels beside the messages, in formats that are negotiated there."""

    def updated(self, session: parts.Session) -> Wishes:
        """Omitted fields keep their value; `turn_detection: null` means that the client marks turns itself."""
        wishes = replace(self, kind=session.type if "type" in session.model_fields_set else self.kind)
        if session.instructions is not None:
            wishes = replace(wishes, instructions=session.instructions or None)
        if session.output_modalities is not None:
            wishes = replace(wishes, spoken="audio" in session.output_modalities)
        if session.tools is not None:
            wishes = replace(wishes, tools=tuple(session.tools))
        if session.tool_choice is not None:
            wishes = replace(wishes, tool_choice=session.tool_choice)
        if undeclared(wishes.tool_choice, wishes.tools) is not None:
            wishes = replace(wishes, tool_choice="auto")
        if session.max_output_tokens is not None:
            wishes = replace(wishes, max_tokens=tokens(session.max_output_tokens))
        audio = session.audio
        if audio is not None and audio.output is not None and audio.output.format is not None and not self.media:
            wishes = replace(wishes, told=ENCODINGS[audio.output.format.type])
        return wishes._listening(audio.input) if audio is not None and audio.input is not None else wishes

    def _listening(self, given: parts.AudioInput) -> Wishes:
        wishes = self if given.format is None or self.media else replace(self, heard=ENCODINGS[given.format.type])
        if "turn_detection" not in given.model_fields_set:
            return wishes
        vad = given.turn_detection
        if vad is None:
            return replace(wishes, mode="manual")
        if self.vad is not None and self.vad.type == vad.type:
            vad = self.vad.model_copy(update=vad.model_dump(exclude_unset=True))
        return replace(wishes, mode="detect" if vad.create_response is False else "automatic", vad=vad)

    @property
    def turns(self) -> Mode:
        """How the conversation is to take turns."""
        return "detect" if self.kind == "transcription" and self.mode == "automatic" else self.mode

    @property
    def interruptible(self) -> bool:
        return self.vad is None or self.vad.interrupt_response is not False

    @property
    def request(self) -> Request:
        """The request for replies that follow a turn automatically."""
        return Request(
            max_tokens=self.max_tokens,
            spoken=self.spoken,
            tools=tuple(tool(each) for each in self.tools),
            tool_choice=choice(self.tool_choice),
        )

    def request_for(self, options: parts.ResponseOptions) -> Request:
        """The request for a reply that the client asks for."""
        request = replace(self.request, persona=options.instructions)
        if options.output_modalities is not None:
            request = replace(request, spoken="audio" in options.output_modalities)
        if options.max_output_tokens is not None:
            request = replace(request, max_tokens=tokens(options.max_output_tokens))
        if options.tools is not None:
            request = replace(request, tools=tuple(tool(each) for each in options.tools))
        if options.tool_choice is not None:
            request = replace(request, tool_choice=choice(options.tool_choice))
        elif undeclared(self.tool_choice, self.tools if options.tools is None else options.tools) is not None:
            request = replace(request, tool_choice="auto")
        return request

    def applied_to(self, settings: Settings) -> Settings:
        own = settings.model_copy(deep=True)
        if self.instructions is not None:  # it may be longer than the setup page allows
            own.mind = own.mind.model_copy(update={"persona": self.instructions})
        if self.kind == "transcription":
            own.memory.enabled = False
        if isinstance(self.vad, parts.ServerVad):
            _by_silence(own, self.vad)
        elif self.vad is not None:
            own.turns.meaning = True
            own.turns.longest_ms = LONGEST_PAUSE.get(self.vad.eagerness or "auto", own.turns.longest_ms)
        return own


def undeclared(given: parts.ToolChoice | None, tools: Iterable[parts.FunctionTool]) -> str | None:
    """Return what is wrong with a choice whose function is not among the tools; None for any other choice."""
    if not isinstance(given, parts.ChosenFunction) or given.name in {each.name for each in tools}:
        return None
    return f"There is no tool {given.name[:100]!r} to choose: add it to tools."


def tool(given: parts.FunctionTool) -> Tool:
    return Tool(given.name, given.description or "", given.parameters or {"type": "object", "properties": {}})


def choice(given: parts.ToolChoice) -> str:
    return given if isinstance(given, str) else given.name


def tokens(most: parts.MostTokens) -> int | None:
    """None: as many as the user's settings allow."""
    return None if most == "inf" else min(int(most), MOST_TOKENS)


def _by_silence(own: Settings, vad: parts.ServerVad) -> None:
    if vad.threshold is not None:
        lowest, highest = SENSITIVITY
        own.ears.sensitivity = min(max(vad.threshold, lowest), highest)
    asked: dict[str, object] = {}  # may exceed what the setup page allows, if a client wants that
    if vad.prefix_padding_ms is not None:
        asked["pre_roll_ms"] = min(vad.prefix_padding_ms, LONGEST_MS)
    if vad.silence_duration_ms is not None:
        asked |= {"meaning": False, "silence_ms": min(max(vad.silence_duration_ms, 100), LONGEST_MS)}
    own.turns = own.turns.model_copy(update=asked)


def in_force(name: str, user: Settings, wishes: Wishes) -> parts.Session:
    """Return the session that `session.created` and `session.updated` report."""
    settings = wishes.applied_to(user)
    hearing = parts.AudioInput(
        format=_format(wishes.heard),
        turn_detection=_turn_detection(settings, wishes),
        transcription=parts.Transcription(model=settings.ears.engine, language=settings.ears.language),
    )
    if wishes.kind == "transcription":
        audio = parts.Audio(input=hearing)
        return parts.Session(id=name, object="realtime.transcription_session", type="transcription", audio=audio)
    speaking = parts.AudioOutput(format=_format(wishes.told), voice=settings.voice.name or settings.voice.engine)
    return parts.Session(
        id=name,
        object="realtime.session",
        model=f"parley/{settings.mind.engine}",
        instructions=settings.mind.persona,
        output_modalities=["audio"] if wishes.spoken else ["text"],
        audio=parts.Audio(input=hearing, output=speaking),
        tools=list(wishes.tools),
        tool_choice=wishes.tool_choice,
        max_output_tokens=wishes.max_tokens or "inf",
    )


def _turn_detection(settings: Settings, wishes: Wishes) -> parts.ServerVad | parts.SemanticVad | None:
    if wishes.mode == "manual":
        return None
    create, interrupt = wishes.turns == "automatic", wishes.interruptible
    if isinstance(wishes.vad, parts.SemanticVad):
        return wishes.vad.model_copy(update={"create_response": create, "interrupt_response": interrupt})
    return parts.ServerVad(
        threshold=settings.ears.sensitivity,
        prefix_padding_ms=settings.turns.pre_roll_ms,
        silence_duration_ms=None if settings.turns.meaning else settings.turns.silence_ms,
        create_response=create,
        interrupt_response=interrupt,
    )


def _format(encoding: Encoding) -> parts.Format:
    kinds = (parts.PcmFormat, parts.UlawFormat, parts.AlawFormat)
    return next(kind() for kind in kinds if kind().type == encoding.name)
