"""Serves one client: its requests, one after another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, suppress
from datetime import datetime
from typing import Any

from wyoming.asr import Transcribe, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.asr import Transcript as Heard
from wyoming.audio import AudioChunk, AudioFormat, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable
from wyoming.handle import Handled, HandledChunk, HandledStart, HandledStop, NotHandled
from wyoming.info import Describe
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from pipeline.audio import MOUTH_RATE
from pipeline.audio.pcm import to_pcm16
from pipeline.cleanup import uninterrupted
from pipeline.engine import EngineError
from pipeline.llm import Message, Prompt
from pipeline.tts.clauses import ClauseSplitter
from pipeline.tts.reading import clauses
from web.api.audio.chat import running_mind
from web.api.audio.errors import Refused, explained
from web.api.audio.queue import Queues
from web.api.audio.speech import LONGEST, spoken
from web.api.audio.transcriptions import running_ears
from web.api.audio.voice_choice import OWN, Choose, chosen, running_voice
from web.service import Service
from web.voices import Voices
from web.wyoming.info import base, ears_languages, info, voice_of
from web.wyoming.listening import Dictation, UnknownSound
from web.wyoming.wire import LINE, NotWyoming, read_event, write_event

IDLE_S = 300.0
"""Seconds that a client may send nothing …"""
SILENT_S = 15.0
"""… and while it uses the ears."""

REMEMBERED = 10
"""Messages of this connection that the mind is given again."""

FORMAT = AudioFormat(MOUTH_RATE, 2, 1)

logger = logging.getLogger(__name__)


class Handler:
    def __init__(
        self,
        service: Service,
        voices: Voices,
        queues: Queues,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._service, self._voices, self._queues = service, voices, queues
        self._reader, self._writer = reader, writer
        self._wanted = Transcribe()
        self._listening: Dictation | None = None
        self._place = AsyncExitStack()
        """The client's place at the ears."""
        self._told = ""
        """The part of the transcript that was sent while it grew."""
        self._reading: _Reading | None = None
        self._history: list[Message] = []

    async def run(self) -> None:
        """Serve until the client leaves, sends nothing for long, or sends something that is not Wyoming."""
        try:
            while True:
                async with asyncio.timeout(IDLE_S if self._listening is None else SILENT_S):
                    event = await read_event(self._reader)
                if event is None:
                    return
                await self._take(event)
        except _Failed as error:
            await self._part(error)
        except (TimeoutError, NotWyoming, ConnectionError) as error:
            logger.info("A Wyoming client was disconnected: %s", error or type(error).__name__)
        finally:
            await uninterrupted(self._stop_listening())

    async def _part(self, error: _Failed) -> None:
        """End the connection: Home Assistant waits for its result or the end of the connection, not for an error."""
        await self._stop_listening()  # others want the ears while this client goes on sending
        with suppress(ConnectionError, TimeoutError):
            await self._send(Error(str(error), error.code))
            self._writer.write_eof()
            async with asyncio.timeout(IDLE_S):
                while await self._reader.read(LINE):  # whatever it still sends: left unread, that would undo the error
                    pass

    async def _take(self, event: Event) -> None:
        try:
            await self._obey(event)
        except (EngineError, UnknownSound, Refused) as error:
            raise _Failed(str(error), _code(error)) from error
        except (KeyError, TypeError, AttributeError) as error:  # missing fields, or fields of the wrong type
            logger.info("A Wyoming event %r could not be read: %r", event.type[:40], error)
            raise _Failed(
                f"The event {event.type[:40]} cannot be read: one of its fields is missing or has the wrong type.",
                "invalid_event",
            ) from error

    async def _obey(self, event: Event) -> None:
        if Describe.is_type(event.type):
            await self._send(await info(self._service, self._voices))
        elif Ping.is_type(event.type):
            await self._send(Pong(Ping.from_event(event).text))
        elif Transcribe.is_type(event.type):
            self._wanted = Transcribe.from_event(event)
            self._language()  # refuse before anything is said
        elif AudioStart.is_type(event.type):
            await self._listen(AudioStart.from_event(event))
        elif AudioChunk.is_type(event.type):
            await self._hear(AudioChunk.from_event(event))
        elif AudioStop.is_type(event.type):
            await self._understand()
        elif Synthesize.is_type(event.type):
            await self._read(Synthesize.from_event(event))
        elif SynthesizeStart.is_type(event.type):
            self._reading = _Reading(await self._voice(SynthesizeStart.from_event(event).voice))
        elif SynthesizeChunk.is_type(event.type):
            await self._read_on(SynthesizeChunk.from_event(event).text)
        elif SynthesizeStop.is_type(event.type):
            await self._read_to_the_end()
        elif Heard.is_type(event.type):
            await self._handle(Heard.from_event(event))

    async def _send(self, event: Eventable) -> None:
        await write_event(self._writer, event)

    # -- the ears -----------------------------------------------------------------------------------------------------

    async def _listen(self, sound: AudioFormat) -> None:
        await self._stop_listening()
        await self._place.enter_async_context(self._queues.listening.taken_in())
        with explained():
            self._listening = Dictation(running_ears(self._service), sound, self._language())
        await self._send(TranscriptStart(language=self._wanted.language))

    def _language(self) -> str | None:
        """Return the requested language if it differs from the one the ears expect anyway. Raises Refused."""
        wanted = base(self._wanted.language or "")
        if wanted and wanted not in ears_languages(self._service):
            message = f"The ears do not understand {wanted[:20]!r}: use a language that Parley lists."
            raise Refused(400, message, "language", "unsupported_language")
        return wanted if wanted not in ("", self._service.settings.ears.language) else None

    async def _hear(self, chunk: AudioChunk) -> None:
        if self._listening is None:
            await self._listen(chunk)
        assert self._listening is not None
        partial = await self._listening.feed(chunk.audio)
        if partial is not None and partial.text[: partial.stable].startswith(self._told):
            await self._say(partial.text[: partial.stable])

    async def _understand(self) -> None:
        if self._listening is None:
            return
        with explained():
            text = await self._listening.finish()
        if text.startswith(self._told):
            await self._say(text)
        await self._send(Heard(text, language=self._wanted.language))
        await self._send(TranscriptStop())
        await self._stop_listening()

    async def _say(self, text: str) -> None:
        """Send what is new in a transcript."""
        if new := text[len(self._told) :]:
            self._told = text
            await self._send(TranscriptChunk(new))

    async def _stop_listening(self) -> None:
        listening, self._listening = self._listening, None
        self._told = ""
        try:
            if listening is not None:
                await listening.close()
        finally:
            await self._place.aclose()

    # -- the voice ----------------------------------------------------------------------------------------------------

    async def _voice(self, wanted: SynthesizeVoice | None) -> Choose:
        name = OWN if wanted is None else wanted.name
        if wanted is not None and not name and wanted.language:
            name = await voice_of(self._service, self._voices, wanted.language)
        return await chosen(self._service, self._voices, name or OWN)

    async def _read(self, asked: Synthesize) -> None:
        if self._reading is not None:
            return  # this repeats the text of the chunks, for servers that do not take chunks
        if len(_text(asked.text)) > LONGEST:
            raise Refused(400, f"A text may have at most {LONGEST} characters.", code="invalid_request")
        reading = _Reading(await self._voice(asked.voice))
        await self._speak(reading, asked.text)
        await self._end(reading)

    async def _read_on(self, text: str) -> None:
        reading = self._reading
        if reading is None:
            return
        reading.characters += len(_text(text))
        if reading.characters > LONGEST:
            raise Refused(400, f"A text may have at most {LONGEST} characters.", code="invalid_request")
        for clause in reading.splitter.feed(text):
            await self._speak(reading, clause)

    async def _read_to_the_end(self) -> None:
        reading = self._reading
        if reading is None:
            return
        for clause in reading.splitter.finish():
            await self._speak(reading, clause)
        self._reading = None
        await self._end(reading)
        await self._send(SynthesizeStopped())

    async def _speak(self, reading: _Reading, text: str) -> None:
        if not (said := await asyncio.to_thread(clauses, text)):
            return
        sounds = spoken(running_voice(self._service), reading.choose, said, self._queues.speaking)
        async with aclosing(sounds):
            async for sound in sounds:
                await self._begin(reading)
                await self._send(AudioChunk(FORMAT.rate, FORMAT.width, FORMAT.channels, audio=to_pcm16(sound)))

    async def _begin(self, reading: _Reading) -> None:
        if not reading.begun:
            reading.begun = True
            await self._send(AudioStart(FORMAT.rate, FORMAT.width, FORMAT.channels))

    async def _end(self, reading: _Reading) -> None:
        """End the sound, even if nothing could be said: the client waits for the end."""
        await self._begin(reading)
        await self._send(AudioStop())

    # -- the mind -----------------------------------------------------------------------------------------------------

    async def _handle(self, heard: Heard) -> None:
        said: list[str] = []
        self._history = [*self._history, Message("user", _text(heard.text)[:LONGEST])][-REMEMBERED:]
        try:
            pieces = self._reply()
            await self._send(HandledStart(context=heard.context))
            async with aclosing(pieces):
                async for piece in pieces:
                    said.append(piece)
                    await self._send(HandledChunk(piece))
        except (EngineError, Refused) as error:
            self._history.pop()
            await self._send(NotHandled(str(error), heard.context))
            await self._send(HandledStop())
            return
        text = "".join(said).strip()
        self._history.append(Message("assistant", text))
        await self._send(Handled(text, heard.context))
        await self._send(HandledStop())

    async def _reply(self) -> AsyncGenerator[str, None]:
        mind = self._service.settings.mind
        prompt = Prompt(
            persona=mind.persona,
            history=tuple(self._history),
            recalled=None,
            now=datetime.now().astimezone(),
            temperature=mind.temperature,
            max_tokens=mind.max_tokens,
        )
        async with self._queues.writing.place(), aclosing(running_mind(self._service).write(prompt)) as pieces:
            async for piece in pieces:
                if isinstance(piece, str):
                    yield piece


class _Failed(Exception):
    """An error after which nothing more is sent on this connection: one sentence and a code."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class _Reading:
    """A text that arrives in chunks and is read aloud meanwhile."""

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.splitter = ClauseSplitter()
        self.characters = 0
        self.begun = False


def _text(field: object) -> str:
    """Check the type, which the package does not do. Raises TypeError."""
    if not isinstance(field, str):
        raise TypeError(f"{type(field).__name__} in place of a text")
    return field


def _code(error: Exception) -> str:
    code: Any = getattr(error, "code", None)
    return code or ("invalid_request" if isinstance(error, UnknownSound) else "unavailable")
