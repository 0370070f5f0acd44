"""One call, whatever transport carries it: a client's messages in, the protocol's events out, a conversation between.

A transport opens a call, passes it the client's messages (`take`), sends what the call returns (`next`, then `sent`),
and runs it concurrently (`run`) until one side ends.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Literal

from config import Settings
from pipeline.audio import Samples
from pipeline.cleanup import uninterrupted, until_one_ends
from pipeline.conversation.conversation import Conversation
from pipeline.conversation.events import ReplyDone, Severity, ToolUsed
from pipeline.conversation.history import Past
from pipeline.conversation.recording import Recording
from pipeline.conversation.stages import Stages
from pipeline.engine import EngineError, EngineStatus
from web.changes import STAGES
from web.realtime import beta, parts
from web.realtime import events as wire
from web.realtime.card import Card
from web.realtime.commands import Commands
from web.realtime.follower import Follower
from web.realtime.narrator import Narrator
from web.realtime.options import Wishes
from web.realtime.pace import ClientPlayback
from web.realtime.reading import Refusal, refused, tree, understood
from web.service import CardInUse, Dismissal, Service, public_settings

OUTGOING = 256
"""Messages that may wait for a client to read them."""
LARGE = 1 << 18
"""Characters from which a message is parsed in a thread, since it would block the event loop."""
EARLY = 64
"""Messages of a client that may wait for the engines."""
FAREWELL_S = 20.0
"""Seconds within which the sentence that ends a call must have been spoken and heard; then it is given up."""


class TakenOver(Exception):
    """The conversation continues in another call."""


class Dismissed(Exception):
    """The server that runs the call ends it."""

    def __init__(self, dismissal: Dismissal) -> None:
        super().__init__(dismissal.why)
        self.dismissal = dismissal


@dataclass(frozen=True, slots=True)
class Opening:
    """What a client asks for on connecting."""

    parley: bool = False
    """Whether it wants our own messages."""
    kind: Literal["realtime", "transcription"] = "realtime"
    beta: bool = False
    """Whether it uses the event names of the protocol's beta."""
    conversation: str | None = None
    """The conversation to continue, if it is known; otherwise a new one begins."""
    sessions: tuple[parts.Session, ...] = ()
    """The session requested with the client's key, then the one requested with the call itself."""


class Call:
    def __init__(self, service: Service, opening: Opening, playback: ClientPlayback | None = None) -> None:
        """`playback` is the transport's own, if sound does not travel in the messages."""
        self.name = f"conv_{uuid.uuid4().hex[:16]}"
        self._wanted = opening.conversation
        self._given_up = asyncio.Event()
        self._service = service
        self._opening = opening
        self._wishes = Wishes(kind=opening.kind, media=playback is not None)
        for session in opening.sessions:
            self._wishes = self._wishes.updated(session)
        self._narrator = Narrator(self.name, parley=opening.parley)
        self._outgoing: asyncio.Queue[wire.ServerEvent] = asyncio.Queue(OUTGOING)
        self._card: Card | None = None
        self._commands: Commands | None = None
        """None while the engines are loading."""
        self._conversation: Conversation | None = None
        self._early: deque[tuple[wire.AnyClientEvent, list[wire.ServerEvent]]] = deque()
        """What the client asked for while the engines loaded, each with the refusals to send before it is done."""
        self._settings_behind = False
        """Whether the conversation still lacks the latest settings because an engine was not ready."""
        self._follower = Follower(self._narrator, playback, self._heard)
        self._farewell = ""
        """The last sentence of the call; empty unless the call is to end."""
        self._said = asyncio.Event()
        """Set once the last sentence was heard or interrupted."""

    async def run(self) -> None:
        """Converse until the conversation ends or this is cancelled.

        Raises:
            EngineError: there are no engines.
            TakenOver: another call continues the conversation.
            Dismissed: the server that runs the call ends it.
        """
        with self._service.watching(self._settings_changed):
            await until_one_ends(
                self._converse(),
                self._follower.run(),
                self._watch_engines(),
                self._until_given_up(),
                self._until_dismissed(),
            )

    # -- to the client ------------------------------------------------------------------------------------------------

    async def next(self) -> wire.ServerEvent:
        """Return the next event to send."""
        return await self._outgoing.get()

    def written(self, event: wire.ServerEvent) -> str | None:
        """Serialize an event for the client; None for an event that the beta did not have."""
        if not self._opening.beta:
            return event.model_dump_json(exclude_none=True)
        told = beta.written(event.model_dump(mode="json", exclude_none=True))
        return None if told is None else json.dumps(told)

    def sent(self, event: wire.ServerEvent) -> None:
        """Note that the event is on its way: from now on its sound may be heard."""
        self._outgoing.task_done()
        self._follower.sent(event)

    def _heard(self, samples: int) -> None:
        if self._conversation is not None:
            self._conversation.played(samples)

    def tell(self, event: wire.ServerEvent) -> None:
        """Queue an event of the transport itself, in order with the rest."""
        self._post(event)

    def _post(self, event: wire.ServerEvent) -> None:
        """Queue an event where the caller cannot wait; a client that leaves 256 messages unread misses this one."""
        with suppress(asyncio.QueueFull):
            self._outgoing.put_nowait(event)

    def _notice(self, severity: Severity, text: str) -> None:
        for told in self._narrator.notice(severity, text):
            self._post(told)

    # -- from the client ----------------------------------------------------------------------------------------------

    def hear(self, samples: Samples) -> None:
        """Take 16 kHz sound that does not come in messages."""
        if self._commands is not None:
            self._commands.hear(samples)

    async def take(self, text: str | None) -> None:
        """Handle a client's message; None is one that is not text. Whatever a client sends, the call survives it."""
        for answer in await self._answer(text):
            await self._outgoing.put(answer)

    async def _answer(self, text: str | None) -> list[wire.ServerEvent]:
        event_id = None
        try:
            large = text is not None and len(text) > LARGE
            message = await asyncio.to_thread(tree, text) if large else tree(text)
            if self._opening.beta:
                message = beta.read(message)
            event_id = message["event_id"] if isinstance(message.get("event_id"), str) else None
            event, left_out = understood(message)
            told: list[wire.ServerEvent] = [refused(each, event_id) for each in left_out]
            if self._waits(event):
                self._early.append((event, told))
                return []
            return [*told, *await self._obey(event)]
        except Refusal as refusal:
            return [refused(refusal, event_id)]

    async def _obey(self, event: wire.AnyClientEvent) -> list[wire.ServerEvent]:
        """Raises Refusal."""
        if event.type.startswith("parley.") and not self._narrator.parley:
            raise Refusal("parley_not_asked_for", "Ask for the parley messages first: connect with ?parley=1.")
        if self._commands is None or self._card is None:
            return []  # sound, which nothing can hear yet
        if isinstance(event, wire.OutputAudioBufferClear):
            self._follower.report()  # how much was heard of the reply that now stops
        if isinstance(event, wire.ParleySoundcardStart | wire.ParleySoundcardStop):
            return await self._switch_card(self._card, isinstance(event, wire.ParleySoundcardStart))
        return await self._commands.obey(event)

    def _waits(self, event: wire.AnyClientEvent) -> bool:
        """Whether the event must wait for the engines. Raises Refusal if too many wait already."""
        if self._commands is not None or isinstance(event, wire.InputAudioBufferAppend):
            return False
        if len(self._early) >= EARLY:
            raise Refusal("engines_loading", "The engines are still loading; wait for session.created.")
        return True

    async def _catch_up(self) -> None:
        """Carry out what the client asked for while the engines loaded: some clients neither wait nor ask twice."""
        while self._early:
            event, answers = self._early.popleft()
            try:
                answers += await self._obey(event)
            except Refusal as refusal:
                answers.append(refused(refusal, event.event_id))
            for answer in answers:
                await self._outgoing.put(answer)

    async def _switch_card(self, card: Card, on: bool) -> list[wire.ServerEvent]:
        if not on:
            await card.stop()
            return []
        audio = self._service.settings.audio
        if audio.place != "soundcard":
            raise Refusal("soundcard_not_chosen", "Choose this computer's sound card on the setup page first.")
        try:
            card.start(audio)
        except CardInUse as error:
            raise Refusal("soundcard_in_use", str(error)) from error
        return []

    def _card_switched(self, running: bool) -> None:
        self._narrator.sounding = not running
        self._post(wire.ParleySoundcard(running=running))

    # -- the conversation ---------------------------------------------------------------------------------------------

    async def _converse(self) -> None:
        stages = await self._ready()
        talks = self._service.talks
        if self._wanted is not None and await talks.knows(self._wanted):
            self.name = self._narrator.conversation = self._wanted
        async with talks.held(self.name, self._given_up.set):
            past = await talks.past(self.name) or Past()
            self._narrator.before = past.turns
            await self._go_on(stages, past)

    async def _go_on(self, stages: Stages, past: Past) -> None:
        settings = self._service.settings
        kept = settings.recording.enabled and self._wishes.kind == "realtime"
        recording = Recording(self._service.recordings.folder(self.name)) if kept else None
        conversation = Conversation(
            stages,
            settings,
            name=self.name,
            on_record=self._service.finished,
            recording=recording,
            past=past,
            toolbox=self._service.tools,
        )
        self._service.tools.begin()
        writing = asyncio.create_task(recording.write()) if recording is not None else None
        commands = Commands(conversation, self._narrator, settings, self._wishes, self._outgoing.put)
        card = Card(self._service.card_holder, conversation, self._notice, self._card_switched)
        try:
            async with conversation:
                telling = ExitStack()
                self._conversation, self._commands, self._card = conversation, commands, card
                try:
                    await self._outgoing.put(wire.SessionCreated(session=commands.session))
                    if past.entries and self._narrator.parley:
                        await self._outgoing.put(_told_again(past))
                    if self._wishes.kind == "realtime":
                        telling.enter_context(self._service.timers.told(self.name, conversation.announce))
                    await self._catch_up()
                    async for event in conversation.events():
                        card.follow(event)
                        if recording is not None:
                            recording.follow(event)
                        if isinstance(event, ToolUsed):
                            self._service.metrics.tool(event.state)
                        cut_off = self._follower.keep_pace(event)
                        for told in self._narrator.tell(event):
                            await self._outgoing.put(told)
                        if cut_off is not None:
                            await self._outgoing.put(cut_off)
                        if isinstance(event, ReplyDone) and self._farewell and event.text.strip() == self._farewell:
                            self._said.set()
                finally:
                    telling.close()
                    self._conversation = self._commands = self._card = None  # changes from here on no longer concern it
                    await uninterrupted(_ended(card, commands, writing))
        finally:
            if self._wishes.kind == "realtime":
                self._service.talks.keep(self.name, conversation.past)

    async def _until_given_up(self) -> None:
        await self._given_up.wait()
        raise TakenOver

    async def _until_dismissed(self) -> None:
        """The last sentence waits until nobody speaks; the call ends once it was heard."""
        dismissal = await self._service.dismissal()
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                if dismissal.sentence and self._conversation is not None and self._wishes.kind == "realtime":
                    self._farewell = dismissal.sentence
                    self._conversation.announce(self._farewell)
                    await self._said.wait()
                    await self._outgoing.join()
        raise Dismissed(dismissal)

    async def _ready(self) -> Stages:
        """Wait for the engines; report each failed engine to the client once, even if another one stands in for it."""
        told: set[str] = set()
        async for health in self._service.engines.changes():
            for stage, status in health.items():
                lacking = status.state == "failed" or (status.state == "ready" and stage in self._stood_in(health))
                if lacking and status.last_error and status.last_error not in told:
                    told.add(status.last_error)
                    for each in self._narrator.notice("error", f"{stage}: {status.last_error}"):
                        await self._outgoing.put(each)
            with suppress(EngineError):
                return self._service.engines.stages()
        raise EngineError("The engines were stopped.")

    def _stood_in(self, health: Mapping[str, EngineStatus]) -> set[str]:
        """Return the stages that run another engine than the settings ask for."""
        settings = self._service.settings
        return {
            stage for stage in STAGES if stage in health and health[stage].engine != getattr(settings, stage).engine
        }

    # -- settings and engines -----------------------------------------------------------------------------------------

    def _settings_changed(self, settings: Settings) -> None:
        self._configure()
        if self._narrator.parley:
            self._post(wire.ParleySettings(settings=public_settings(settings)))

    def _configure(self) -> None:
        """Apply the settings; if an engine is restarting, they are applied once it is back."""
        if self._commands is None:
            return
        try:
            self._commands.configure(self._service.settings, self._service.engines.stages())
        except EngineError:
            self._settings_behind = True
        else:
            self._settings_behind = False

    async def _watch_engines(self) -> None:
        async for health in self._service.engines.changes():
            if self._settings_behind:
                self._configure()
            if self._narrator.parley:
                await self._outgoing.put(wire.ParleyEngines(engines=health))
        await asyncio.Event().wait()


def _told_again(past: Past) -> wire.ParleyPast:
    return wire.ParleyPast(
        said=[
            wire.ParleySaid(role=entry.role, text=entry.text, interrupted=entry.interrupted)
            for entry in past.entries
            if entry.role != "tool" and entry.text
        ]
    )


async def _ended(card: Card, commands: Commands, writing: asyncio.Task[None] | None) -> None:
    await card.stop()
    await commands.close()
    if writing is not None:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
