"""A client's session and the user's settings: what it may change for itself, and what is then in force."""

from __future__ import annotations

from dataclasses import dataclass, replace

from config import Settings
from pipeline.conversation.conversation import Mode
from web.realtime.events import (
    Audio,
    AudioInput,
    AudioOutput,
    PcmFormat,
    SemanticVad,
    ServerVad,
    Session,
    Transcription,
)

LONGEST_PAUSE = {"low": 4000, "high": 800}
"""ms of silence that end a turn whatever was said, by `eagerness`; the others leave the user's own setting."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """All that a client has asked for, on top of the user's settings; other clients are not touched."""

    mode: Mode = "automatic"
    instructions: str | None = None
    vad: ServerVad | SemanticVad | None = None

    def updated(self, session: Session) -> Wishes:
        """What a field leaves out stays as it was; `turn_detection: null` is the client's own turn taking."""
        wishes = self
        if session.instructions is not None:
            wishes = replace(wishes, instructions=session.instructions or None)
        given = session.audio.input if session.audio is not None else None
        if given is None or "turn_detection" not in given.model_fields_set:
            return wishes
        vad = given.turn_detection
        if vad is None:
            return replace(wishes, mode="manual")
        return replace(wishes, mode="automatic" if vad.create_response else "detect", vad=vad)

    def applied_to(self, settings: Settings) -> Settings:
        own = settings.model_copy(deep=True)
        if self.instructions is not None:
            own.mind.persona = self.instructions
        if isinstance(self.vad, ServerVad):
            _by_silence(own, self.vad)
        elif self.vad is not None:
            own.turns.meaning = True
            own.turns.longest_ms = LONGEST_PAUSE.get(self.vad.eagerness, own.turns.longest_ms)
        return own


def _by_silence(own: Settings, vad: ServerVad) -> None:
    if vad.threshold is not None:
        own.ears.sensitivity = vad.threshold
    if vad.prefix_padding_ms is not None:
        own.turns.pre_roll_ms = vad.prefix_padding_ms
    if vad.silence_duration_ms is not None:
        own.turns.meaning = False
        own.turns.silence_ms = vad.silence_duration_ms


def in_force(name: str, user: Settings, wishes: Wishes) -> Session:
    """What `session.created` and `session.updated` say."""
    settings = wishes.applied_to(user)
    vad: ServerVad | SemanticVad = ServerVad(
        threshold=settings.ears.sensitivity,
        prefix_padding_ms=settings.turns.pre_roll_ms,
        silence_duration_ms=None if settings.turns.meaning else settings.turns.silence_ms,
        create_response=wishes.mode == "automatic",
    )
    if isinstance(wishes.vad, SemanticVad):
        vad = wishes.vad
    return Session(
        id=name,
        object="realtime.session",
        model=f"parley/{settings.mind.engine}",
        instructions=settings.mind.persona,
        output_modalities=["audio"],
        audio=Audio(
            input=AudioInput(
                format=PcmFormat(),
                turn_detection=None if wishes.mode == "manual" else vad,
                transcription=Transcription(model=settings.ears.engine, language=settings.ears.language),
            ),
            output=AudioOutput(format=PcmFormat(), voice=settings.voice.name or settings.voice.engine),
        ),
        tools=[],
        tool_choice="none",
    )
