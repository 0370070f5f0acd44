"""A client's session and the user's settings: what it may change for itself, and what is then in force."""

from __future__ import annotations

from dataclasses import dataclass, replace

from config import Settings
from pipeline.conversation import Mode
from web.events import Audio, AudioInput, AudioOutput, PcmFormat, ServerVad, Session, Transcription


@dataclass(frozen=True, slots=True)
class Wishes:
    """All that a client has asked for, on top of the user's settings; other clients are not touched."""

    mode: Mode = "automatic"
    instructions: str | None = None
    vad: ServerVad | None = None

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
        if self.vad is None:
            return own
        if self.vad.threshold is not None:
            own.ears.sensitivity = self.vad.threshold
        if self.vad.prefix_padding_ms is not None:
            own.turns.pre_roll_ms = self.vad.prefix_padding_ms
        if self.vad.silence_duration_ms is not None:
            own.turns.silence_ms = self.vad.silence_duration_ms
            own.turns.soft_silence_ms = min(own.turns.soft_silence_ms, self.vad.silence_duration_ms)
        return own


def in_force(name: str, settings: Settings, mode: Mode) -> Session:
    """What `session.created` and `session.updated` say."""
    vad = ServerVad(
        threshold=settings.ears.sensitivity,
        prefix_padding_ms=settings.turns.pre_roll_ms,
        silence_duration_ms=settings.turns.silence_ms,
        create_response=mode == "automatic",
    )
    return Session(
        id=name,
        object="realtime.session",
        model=f"parley/{settings.mind.engine}",
        instructions=settings.mind.persona,
        output_modalities=["audio"],
        audio=Audio(
            input=AudioInput(
                format=PcmFormat(),
                turn_detection=None if mode == "manual" else vad,
                transcription=Transcription(model=settings.ears.engine, language=settings.ears.language),
            ),
            output=AudioOutput(format=PcmFormat(), voice=settings.voice.name or settings.voice.engine),
        ),
        tools=[],
        tool_choice="none",
    )
