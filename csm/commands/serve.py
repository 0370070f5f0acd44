"""csm-serve: speech over HTTP with the library alone; all requests are spoken together in one batch.

    POST /v1/audio/speech   OpenAI's: input, voice, response_format (wav, pcm, mp3, opus, flac), stream_format
    POST /generate_audio    {"text"} → a WAV in base64
    GET  /v1/models, /v1/audio/voices, /health

Python's own server uses one thread per request; csm.scheduler computes in a single thread. Sound is sent while it is
made, without a watermark, which would need the whole recording; a WAV says in its metadata that it is synthetic.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import io
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from collections.abc import Generator as Pieces
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any, ClassVar

import soundfile
import torch
from torch import Tensor

from ..errors import CsmError, NoSpeech
from ..prompt import Segment, speakable
from ..scheduler import Scheduler
from ..session import Session
from ..sound.audio_files import read_foreign
from ..sound.encoders import ENCODERS, Encoder
from ..synthesis import Generator
from .pace import PacedReader
from .voices import Voices

__all__ = ["SpeechServer", "sentences"]

LONGEST = 10_000
"""The most characters of a text, as in Parley."""
BODY = 40_000_000
"""The most bytes of a request; recordings arrive in base64."""
LONGEST_REFERENCE_S = 60.0
"""As of a voice that is kept."""
WAITING = 16
"""The most requests that may wait for a slot; further ones get status 429."""
SOON_S = 5
"""Seconds after which a client may ask again."""
PATIENCE_S = 60
"""Seconds to wait for a request, or for the next part of a long one, and for a client to read."""
SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?<=[.!?…][\"'”’)])\s+|(?<=[。！？])|\n+")
SAID_AT_ONCE = 300
"""The most characters spoken at once: a longer sentence is cut at its last comma or space."""


class ServerBusy(Exception):
    """All slots are taken, and too many requests are waiting already."""


class Refusal(Exception):
    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param = status, param


def sentences(text: str) -> Iterator[str]:
    """Split a text into pieces to speak one after another, each in the context of the previous ones."""
    for sentence in SENTENCE.split(text):
        rest = (sentence or "").strip()
        while len(rest) > SAID_AT_ONCE:
            head = rest[:SAID_AT_ONCE]
            cut = max(head.rfind(", "), head.rfind("; ")) + 1 or head.rfind(" ") + 1 or SAID_AT_ONCE
            yield rest[:cut].strip()
            rest = rest[cut:].strip()
        if any(character.isalnum() for character in rest):
            yield rest


class SpeechServer(ThreadingHTTPServer):
    """Serve with `serve_forever`; to end, call `shutdown` from another thread, then `server_close`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        generator: Generator,
        voices: Voices,
        address: tuple[str, int],
        *,
        slots: int = 8,
        key: str | None = None,
        voice: str | None = None,
        temperature: float = 0.9,
        topk: int = 50,
    ) -> None:
        """
        Args:
            key: what clients send as Bearer; None if no key is needed, which is only for this computer.
            voice: the default if a request names none; None leaves the voice to the model.
        """
        self.generator, self.voices, self.key, self.voice = generator, voices, key, voice
        self.temperature, self.topk = temperature, topk
        self.scheduler = Scheduler(generator, slots)
        self._places = threading.Semaphore(slots)
        self._most = slots + WAITING
        self._inside = 0
        self._counting = threading.Lock()
        super().__init__(address, _Request)

    def server_close(self) -> None:
        super().server_close()
        self.scheduler.close()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Wait for a slot. Raises ServerBusy if too many requests wait."""
        with self._counting:
            if self._inside >= self._most:
                raise ServerBusy
            self._inside += 1
        try:
            with self._places:
                yield
        finally:
            with self._counting:
                self._inside -= 1

    def speech(self, text: str, context: list[Segment]) -> Pieces[Tensor, None, None]:
        """Yield float32 [samples] as they are made. Raises CsmError, ServerBusy."""
        with self.place(), closing(self.scheduler.talker()) as talker:
            session = Session(self.generator, context, talker)
            try:
                for sentence in sentences(text):
                    yield from session.speak(sentence, 0, temperature=self.temperature, topk=self.topk)
            finally:
                session.stop()

    def context(self, voice: str) -> list[Segment]:
        """The recording of a voice as context; OpenAI's names, or no name, give the default voice or nothing. Raises
        VoiceError."""
        known = {each.name for each in self.voices.all()}
        name = voice if voice in known or voice not in OPENAI else ""
        return [self.voices.get(name or self.voice or "").segment(0)] if (name or self.voice) else []


OPENAI = frozenset("alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split())
"""Voice names that stock clients send."""


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE_S
    server: SpeechServer
    connection: socket.socket
    server_version, sys_version = "csm-serve", ""
    _POSTS: ClassVar[dict[str, str]] = {"/v1/audio/speech": "_speak", "/generate_audio": "_generate"}

    def setup(self) -> None:
        super().setup()
        self._paced = PacedReader(self.connection, PATIENCE_S)
        self.rfile = io.BufferedReader(self._paced)

    def handle_one_request(self) -> None:
        self._paced.begin()
        super().handle_one_request()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: who asks and what is said is private."""

    def do_GET(self) -> None:
        if not self._allowed():
            return
        match self.path.partition("?")[0]:
            case "/health":
                self._tell(200, {"ok": True})
            case "/v1/models":
                self._tell(200, {"object": "list", "data": [{"id": "csm-1b", "object": "model", "owned_by": "sesame"}]})
            case "/v1/audio/voices":
                offered = [{"id": voice.name, "name": voice.name} for voice in self.server.voices.all()]
                self._tell(200, {"object": "list", "voices": offered, "data": offered})
            case _:
                self._refuse(404, "There is nothing here: POST to /v1/audio/speech or /generate_audio.")

    def do_POST(self) -> None:
        if not self._allowed():
            return
        self._begun = False
        try:
            asked = self._body()
            work = self._POSTS.get(self.path.partition("?")[0])
            if work is None:
                raise Refusal(404, "There is nothing here: POST to /v1/audio/speech or /generate_audio.")
            getattr(self, work)(asked)
        except Refusal as error:
            self._refuse(error.status, str(error), error.param)
        except ServerBusy:
            self._refuse(429, f"{WAITING} requests are already waiting: try again in {SOON_S} s.", retry=True)
        except NoSpeech as error:
            self._refuse(503, str(error), retry=True)
        except CsmError as error:
            self._refuse(400, str(error))
        except OSError:  # the client left, or stopped reading
            self.close_connection = True

    # -- requests -----------------------------------------------------------------------------------------------------

    def _speak(self, asked: dict[str, Any]) -> None:
        text, format = _text(asked, "input"), asked.get("response_format", "mp3")
        if not isinstance(format, str) or format not in ENCODERS:
            raise Refusal(400, f"response_format must be one of {', '.join(ENCODERS)}.", "response_format")
        if asked.get("speed", 1) != 1:
            raise Refusal(400, "CSM speaks at its own pace: leave speed out.", "speed")
        events = asked.get("stream_format", "audio") == "sse"
        voice = asked.get("voice") or ""
        context = self.server.context(str(voice.get("id", "") if isinstance(voice, dict) else voice))
        media_type, make = ENCODERS[format]
        self._stream(text, context, "text/event-stream" if events else media_type, make, events=events)

    def _generate(self, asked: dict[str, Any]) -> None:
        began, text = time.monotonic(), _text(asked, "text")
        context = _references(asked) or self.server.context(str(asked.get("voice") or ""))
        if asked.get("stream"):
            self._stream(text, context, *ENCODERS["wav"], events=False)
            return
        with closing(self.server.speech(text, context)) as sounds:
            spoken = torch.cat([torch.zeros(0), *sounds])
        file = io.BytesIO()
        soundfile.write(file, spoken.clamp(-1, 1).numpy(), self.server.generator.sample_rate, format="WAV")
        audio = base64.b64encode(file.getvalue()).decode("ascii")
        result = {"audio_data": audio, "format": "wav", "encoding": "base64"}
        run_time = round((time.monotonic() - began) * 1000, 1)
        self._tell(200, {"run_id": str(uuid.uuid4()), "result": result, "run_time_ms": run_time})

    def _stream(
        self, text: str, context: list[Segment], media_type: str, make: Callable[[int], Encoder], *, events: bool
    ) -> None:
        """Send speech in chunks. An error before the first becomes an error status; a later one leaves the end out."""
        encoder, sent = make(self.server.generator.sample_rate), 0
        with closing(self.server.speech(text, context)) as sounds:
            for sound in sounds:
                sent += self._piece(encoder.feed(sound), media_type, events)
        sent += self._piece(encoder.finish(), media_type, events)
        if events:
            words = len(text.split())
            usage = {"input_tokens": words, "output_tokens": sent, "total_tokens": words + sent}
            self._chunk(_event({"type": "speech.audio.done", "usage": usage}))
        self._chunk(b"")

    def _piece(self, data: bytes, media_type: str, events: bool) -> int:
        if not data:
            return 0
        if not self._begun:
            self._begun = True
            self.send_response(200)
            self.send_header("Content-Type", media_type)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
        audio = {"type": "speech.audio.delta", "audio": base64.b64encode(data).decode("ascii")}
        self._chunk(_event(audio) if events else data)
        return 1

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    # -- access -------------------------------------------------------------------------------------------------------

    def _allowed(self) -> bool:
        """Refuse web pages, requests to a host name that is not this server's, and requests without the key."""
        name = _host(self.headers.get("Host", ""))
        if "Origin" in self.headers or self.headers.get("Sec-Fetch-Site") not in (None, "none", "same-origin"):
            self._refuse(403, "Requests from web pages are not accepted here.")
        elif name != "localhost" and not _is_address(name):
            self._refuse(421, "Use this server's address, or localhost.")
        elif not self._knows_the_key():
            self._refuse(401, "Send the key as Authorization: Bearer ….")
        else:
            return True
        self.close_connection = True
        return False

    def _knows_the_key(self) -> bool:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        return self.server.key is None or (
            scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self.server.key.encode())
        )

    def _body(self) -> dict[str, Any]:
        """Read the body. Raises Refusal if it is not a JSON object."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.close_connection = True
            raise Refusal(411, "Send the length of the body.")
        if len(length) > 20 or int(length) > BODY:  # Python turns no more than 4300 digits into a number
            self.close_connection = True
            raise Refusal(413, f"A request may have {BODY // 1_000_000} MB.")
        if self.headers.get_content_type() != "application/json":
            self.close_connection = True
            raise Refusal(415, "Send JSON, with the header Content-Type: application/json.")
        try:
            tree = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise Refusal(400, "The body is not JSON.") from None
        if not isinstance(tree, dict):
            raise Refusal(400, "The body must be a JSON object.")
        return tree

    # -- answers ------------------------------------------------------------------------------------------------------

    def _refuse(self, status: int, message: str, param: str | None = None, *, retry: bool = False) -> None:
        if getattr(self, "_begun", False):  # too late for a status: the missing end shows that it failed
            self.close_connection = True
            return
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status, "invalid_request_error")
        error = {"message": message, "type": "server_error" if status >= 500 else kind, "param": param, "code": None}
        self._tell(status, {"error": error}, {"Retry-After": str(SOON_S)} if retry else {})

    def _tell(self, status: int, tree: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(tree).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)


def _text(asked: dict[str, Any], param: str) -> str:
    text = asked.get(param)
    if not isinstance(text, str) or not text.strip():
        raise Refusal(400, f"{param} is empty: write something to say.", param)
    if len(text) > LONGEST:
        raise Refusal(400, f"{param} may have at most {LONGEST} characters.", param)
    speakable(text)
    if not any(True for _ in sentences(text)):
        raise Refusal(400, f"Nothing in {param} can be said aloud: write it in words.", param)
    return text


def _references(asked: dict[str, Any]) -> list[Segment]:
    """Read recordings of the voice to speak with, and what is said in them. Raises Refusal and CsmError."""
    given = asked.get("references") or []
    if not given:
        return []
    if asked.get("consent") is not True:
        raise Refusal(400, "Send consent: true if everyone in the references has agreed to this.", "consent")
    segments = []
    for reference in given[:3] if isinstance(given, list) else ():
        try:
            data, text = base64.b64decode(reference["audio_data"], validate=True), str(reference["text"])
        except (TypeError, KeyError, ValueError, binascii.Error):
            raise Refusal(400, "A reference needs audio_data (base64) and text.", "references") from None
        if len(text) > LONGEST:
            raise Refusal(400, f"The text of a reference may have at most {LONGEST} characters.", "references")
        audio, rate = read_foreign(data, LONGEST_REFERENCE_S)
        segments.append(Segment(text, 0, audio, rate))
    return segments


def _event(tree: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(tree)}\n\n".encode()


def _host(header: str) -> str:
    """The host without the port."""
    return header.rpartition("]")[0].lstrip("[") if header.startswith("[") else header.partition(":")[0].lower()


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
