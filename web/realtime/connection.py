"""The WebSocket `/v1/realtime`: one connection, one conversation.

Four tasks: `_read` takes the client's messages, `_converse` runs the conversation and tells its events, `_write` sends,
`_follow` reports what was heard of a reply for clients that do not say. The first that ends ends the connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, WebSocket
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect

from config import Settings
from pipeline.conversation.conversation import Conversation
from pipeline.conversation.events import Event, ReplyPaused, ReplyResumed, Severity
from pipeline.conversation.recording import Recording
from pipeline.conversation.stages import Stages
from pipeline.engine import EngineError
from web.api.validation import explain
from web.realtime import events as wire
from web.realtime.capacity import of_this_machine
from web.realtime.card import Card, CardInUse
from web.realtime.commands import Commands, Refusal
from web.realtime.narrator import Narrator
from web.realtime.pace import Pace
from web.realtime.pcm import samples_of
from web.service import Service, public_settings

MAX_MESSAGE = 4 << 20
"""Bytes of a client's message; more closes the connection (1009). 4 MiB hold 65 s of sound."""
MAX_CONVERSATIONS = of_this_machine()
OUTGOING = 256
"""Messages that may wait for a client to read."""
PATIENCE = 10.0
"""Seconds that a client may leave one message unread."""
REPORT_EVERY = 0.1
"""Seconds between two estimates of what was heard."""
NORMAL, GOING_AWAY, POLICY_VIOLATION, INTERNAL_ERROR, TRY_AGAIN_LATER = 1000, 1001, 1008, 1011, 1013
"""How a connection ends: RFC 6455, section 7.4, and IANA's registry."""

logger = logging.getLogger(__name__)


def realtime(service: Service) -> APIRouter:
    router = APIRouter()

    @router.websocket("/v1/realtime")
    async def connect(socket: WebSocket) -> None:
        await Connection(socket, service, parley=socket.query_params.get("parley") == "1").run()

    return router


class SlowReader(Exception):
    """The client has stopped reading."""


class Connection:
    def __init__(self, socket: WebSocket, service: Service, *, parley: bool) -> None:
        self._socket = socket
        self._service = service
        self._name = f"conv_{uuid.uuid4().hex[:16]}"
        self._narrator = Narrator(self._name, parley=parley)
        self._outgoing: asyncio.Queue[wire.ServerEvent] = asyncio.Queue(OUTGOING)
        self._card: Card | None = None
        self._commands: Commands | None = None
        """None while the engines are loading."""
        self._conversation: Conversation | None = None
        self._pace = Pace(asyncio.get_running_loop().time)
        self._following = ""
        """The response whose sound `_pace` follows."""
        self._sounded = asyncio.Event()

    async def run(self) -> None:
        await self._socket.accept()
        if self._service.conversations >= MAX_CONVERSATIONS:
            message = f"{MAX_CONVERSATIONS} conversations run already; close one (a tab, a program), then try again."
            await self._socket.send_text(_dump(_error("too_many_conversations", message)))
            await self._socket.close(TRY_AGAIN_LATER, "too many conversations")
            return
        self._service.conversations += 1
        try:
            with self._service.watching(self._settings_changed):
                await self._together()
        finally:
            self._service.conversations -= 1

    async def _together(self) -> None:
        works = (self._read(), self._converse(), self._write(), self._follow(), self._tell_engines())
        tasks = [asyncio.create_task(work) for work in works]
        code, reason = INTERNAL_ERROR, "something went wrong inside Parley; its log says what"
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            code, reason = NORMAL, ""
        except WebSocketDisconnect:
            code, reason = NORMAL, ""
        except EngineError as error:
            code, reason = GOING_AWAY, str(error)
        except SlowReader:
            code, reason = POLICY_VIOLATION, f"nothing was read for {PATIENCE:.0f} s"
            logger.warning("A client stopped reading and was disconnected.", extra={"conversation": self._name})
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
                async with asyncio.timeout(1):  # a client that does not read does not read this either
                    await self._socket.close(code, reason)

    # -- from the client ----------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            for answer in await self._answer(message):
                await self._outgoing.put(answer)

    async def _answer(self, message: Mapping[str, Any]) -> list[wire.ServerEvent]:
        """Whatever a client sends, the connection survives it."""
        text = message.get("text")
        if text is None:
            return [_error("invalid_message", "Send events as text messages in JSON; sound goes in base64.")]
        try:
            tree = json.loads(text)
        except (ValueError, RecursionError):
            return [_error("invalid_json", "This message is not JSON.")]
        if not isinstance(tree, dict):
            return [_error("invalid_json", "A message must be a JSON object with a type.")]
        event_id = tree.get("event_id") if isinstance(tree.get("event_id"), str) else None
        try:
            event = wire.CLIENT_EVENT.validate_python(tree)
        except ValidationError as error:
            return [_invalid(tree, error, event_id)]
        if event.type.startswith("parley.") and not self._narrator.parley:
            return [
                _error("parley_not_asked_for", "Ask for the parley messages first: connect with ?parley=1.", event_id)
            ]
        if self._commands is None or self._card is None:
            if isinstance(event, wire.InputAudioBufferAppend):
                return []  # said to someone who is not there yet
            return [_error("engines_loading", "The engines are still loading; wait for session.created.", event_id)]
        try:
            if isinstance(event, wire.ParleySoundcardStart | wire.ParleySoundcardStop):
                return await self._switch_card(self._card, isinstance(event, wire.ParleySoundcardStart))
            return await self._commands.obey(event)
        except Refusal as refusal:
            return [_error(refusal.code, str(refusal), event_id, refusal.param)]

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

    def _notice(self, severity: Severity, text: str) -> None:
        for told in self._narrator.notice(severity, text):
            self._post(told)

    def _post(self, event: wire.ServerEvent) -> None:
        """From where nothing can wait; a client that lets 256 messages lie misses this one."""
        with suppress(asyncio.QueueFull):
            self._outgoing.put_nowait(event)

    # -- from the conversation ----------------------------------------------------------------------------------------

    async def _converse(self) -> None:
        stages = await self._ready()
        settings = self._service.settings
        recording = Recording(self._service.recordings.folder(self._name)) if settings.recording.enabled else None
        conversation = Conversation(
            stages, settings, name=self._name, on_record=self._service.turns.add, recording=recording
        )
        writing = asyncio.create_task(recording.write()) if recording is not None else None
        commands = Commands(conversation, self._narrator, settings)
        card = Card(self._service.card_holder, conversation, self._notice, self._card_switched)
        async with conversation:
            self._conversation, self._commands, self._card = conversation, commands, card
            try:
                await self._outgoing.put(wire.SessionCreated(session=commands.session))
                async for event in conversation.events():
                    card.follow(event)
                    if recording is not None:
                        recording.follow(event)
                    self._keep_pace(event)
                    for told in self._narrator.tell(event):
                        await self._outgoing.put(told)
            finally:
                await card.stop()
                await commands.close()
                if writing is not None:
                    writing.cancel()
                    await asyncio.gather(writing, return_exceptions=True)

    def _keep_pace(self, event: Event) -> None:
        """A client clears what it plays when it is told that speech has started, so the pace stops there too."""
        if isinstance(event, ReplyPaused) and not self._narrator.manual:
            self._pace.pause()
        elif isinstance(event, ReplyResumed):
            self._pace.resume()
            self._sounded.set()

    async def _ready(self) -> Stages:
        """Wait for the engines; a client is told once of each that failed."""
        told: set[str] = set()
        async for health in self._service.engines.changes():
            with suppress(EngineError):
                return self._service.engines.stages()
            for stage, status in health.items():
                if status.state == "failed" and status.last_error and status.last_error not in told:
                    told.add(status.last_error)
                    for each in self._narrator.notice("error", f"{stage}: {status.last_error}"):
                        await self._outgoing.put(each)
        raise EngineError("The engines were stopped.")

    def _settings_changed(self, settings: Settings) -> None:
        if self._commands is not None:
            with suppress(EngineError):  # a stage that is just restarting keeps its place in the conversation
                self._commands.configure(settings, self._service.engines.stages())
        if self._narrator.parley:
            self._post(wire.ParleySettings(settings=public_settings(settings)))

    async def _tell_engines(self) -> None:
        async for health in self._service.engines.changes():
            if self._narrator.parley:
                engines = {stage: wire.ParleyEngine.of(status) for stage, status in health.items()}
                await self._outgoing.put(wire.ParleyEngines(engines=engines))
        await asyncio.Event().wait()

    # -- to the client ------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            event = await self._outgoing.get()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._socket.send_text(_dump(event))
            except TimeoutError:
                raise SlowReader from None
            if isinstance(event, wire.ResponseCreated):
                self._following = event.response.id
                self._pace.begin()
            elif isinstance(event, wire.ResponseOutputAudioDelta):
                self._pace.sent(samples_of(event.delta))
                self._sounded.set()

    async def _follow(self) -> None:
        """For a client without playback reports: what real time has allowed it to play since it was sent."""
        while True:
            await self._sounded.wait()
            self._sounded.clear()
            while not self._narrator.parley:
                answer = self._narrator.answer
                if self._conversation is not None and answer is not None and answer.response_id == self._following:
                    self._conversation.played(self._pace.played)
                left = self._pace.left
                if left <= 0:
                    break
                await asyncio.sleep(min(REPORT_EVERY, left))


def _dump(event: wire.ServerEvent) -> str:
    return event.model_dump_json(exclude_none=True)


def _error(code: str, message: str, event_id: str | None = None, param: str | None = None) -> wire.ErrorEvent:
    detail = wire.ErrorDetail(type="invalid_request_error", code=code, message=message, param=param, event_id=event_id)
    return wire.ErrorEvent(error=detail)


def _invalid(tree: dict[str, Any], error: ValidationError, event_id: str | None) -> wire.ErrorEvent:
    first = error.errors(include_url=False)[0]
    if not first["loc"] and first["type"] == "union_tag_not_found":
        return _error("missing_type", "The message has no type.", event_id, "type")
    if not first["loc"]:
        return _error("unknown_event", f"There is no event of the type {str(tree['type'])[:100]!r}.", event_id, "type")
    field, sentence = explain(error, tree)
    return _error("invalid_value", sentence, event_id, field)
