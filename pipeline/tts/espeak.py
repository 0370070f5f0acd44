"""espeak-ng: a small formant synthesizer that needs no download. It sounds like a machine and answers at once.

The library and its data come from the wheel espeakng-loader and are called through ctypes. The library keeps its state
in globals, so it runs in a worker process that synthesizes one utterance at a time. That takes a thousandth of the time
it takes to hear it, so nobody waits for long, and a slow listener does not hold up the others.

Constants and structures are those of espeak-ng 1.52, speak_lib.h.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import chain, count, takewhile
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import soxr

from pipeline.audio import MOUTH_RATE, Samples
from pipeline.audio.pcm import from_pcm16
from pipeline.engine import EngineError, Report
from pipeline.tts import SPEECH, Spoken, VoiceChoice, WordTime
from pipeline.tts.unbroken import unbroken
from pipeline.workers.place import MakePlace, Place, PlacedEngine, Wanted
from pipeline.workers.worker import Worker

DEFAULT_VOICE = "en-us"

_CONVERSATIONS = 32
"""Utterances that may be listened to at a time; each has a thread, which sleeps nearly all of the time."""

_LONGEST_PATH = 160
"""N_PATH_HOME in espeak-ng's speech.h; if its data has a longer path, it looks for it elsewhere."""

_BUFFER_MS = 60
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_ENDPAUSE = 0x1000
_RATE, _VOLUME, _PITCH = 1, 2, 3
_EVENT_LIST_TERMINATED, _EVENT_WORD = 0, 1


_UNSPOKEN = frozenset("en-shaw fa-latn cmn-latn-pinyin grc ia io jbo lfn nci piqd py qdb qya sjn xex".split())
"""Alphabets, languages from films and books, extinct ones and a test; they can still be named in the settings."""

_NAMES = {
    "cmn": "Chinese (Mandarin)",
    "en-gb": "English (United Kingdom)",
    "en-us": "English (United States)",
    "en-us-nyc": "English (United States, New York City)",
    "ga": "Irish",
    "gd": "Scottish Gaelic",
    "my": "Burmese",
}
"""Names of languages for which the library's own name is not the usual one."""


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def loaded_library(output: int) -> tuple[ctypes.CDLL, int]:
    """Load the library, initialised with its data, and return its rate in Hz; once per process. Raises EngineError."""
    import espeakng_loader

    data = espeakng_loader.get_data_path()
    if len(os.fsencode(data)) >= _LONGEST_PATH:
        raise EngineError(
            f"eSpeak accepts only paths shorter than {_LONGEST_PATH} bytes: move Parley to a folder nearer the root."
        )
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate: int = library.espeak_Initialize(output, _BUFFER_MS, os.fsencode(data), _INITIALIZE_DONT_EXIT)
    if rate <= 0:
        raise EngineError(f"eSpeak cannot read its data in {data}: reinstall the package espeakng-loader.")
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    return library, rate


def listed_voices(library: ctypes.CDLL) -> dict[str, _Voice]:
    """Return the library's voices by the code of their language and accent."""
    pointers = library.espeak_ListVoices(None)
    voices = [pointer.contents for pointer in takewhile(bool, (pointers[index] for index in count()))]
    # `languages` begins with a priority byte
    return {voice.languages[1:].decode(): voice for voice in reversed(voices)}


@dataclass(frozen=True, slots=True)
class Block:
    """The result of one callback: 16-bit samples at espeak's rate, and the words that begin in them."""

    samples: Samples
    words: tuple[tuple[int, int], ...]
    """For each word: its first character, and the sample at which it begins."""


_Blocks = SimpleQueue[Block | EngineError | None]
"""Blocks, then an error or None."""


class Synthesizer:
    """The library itself, inside a worker process; it can be initialised only once per process."""

    def __init__(self, report: Report, voice: str, words_per_minute: int, pitch: int, volume: float) -> None:
        import espeakng_loader

        self._library, self._rate = loaded_library(_AUDIO_OUTPUT_SYNCHRONOUS)
        self._data = Path(espeakng_loader.get_data_path())
        self._parameters = ((_RATE, words_per_minute), (_PITCH, pitch), (_VOLUME, round(100 * volume)))
        self._own = self._chosen = voice
        self._choose(voice)
        self._one_at_a_time = threading.Lock()

    def voices(self) -> list[VoiceChoice]:
        """Return the voices of living languages, English ones first, then by name."""
        names = {code: voice.name.decode().strip() for code, voice in listed_voices(self._library).items()}
        voices = [VoiceChoice(code, _NAMES.get(code, name)) for code, name in names.items() if code not in _UNSPOKEN]
        return sorted(voices, key=lambda voice: (not voice.name.startswith("en"), voice.label.casefold()))

    def speak(self, text: str, voice: str | None = None) -> Iterator[Spoken]:
        """Yield sound at 24 kHz, block by block as espeak makes it. Closing the generator stops the synthesis.

        Args:
            voice: None means the settings'.
        """
        blocks: _Blocks = SimpleQueue()
        unwanted = threading.Event()
        synthesis = threading.Thread(target=self._synthesize, args=(text, voice or self._own, blocks, unwanted))
        synthesis.start()
        try:
            yield from at_mouth_rate(text, _delivered(blocks), self._rate)
        finally:
            unwanted.set()
            synthesis.join()

    def _choose(self, name: str) -> None:
        """Choose a voice by code, or with a variant as in "en-us+f3"; nothing else, because espeak accepts paths."""
        code, plus, variant = name.partition("+")
        listed = listed_voices(self._library)
        variants = {file.name for file in (self._data / "voices" / "!v").iterdir()}
        if code not in listed or (plus and variant not in variants):
            raise EngineError(f"eSpeak has no voice {name!r}: choose one of its list, for example {DEFAULT_VOICE!r}.")
        identifier = listed[code].identifier + (plus + variant).encode()
        if self._library.espeak_SetVoiceByName(identifier) != 0:
            raise EngineError(f"eSpeak cannot load its voice {name!r}: reinstall the package espeakng-loader.")
        for parameter, value in self._parameters:
            self._library.espeak_SetParameter(parameter, value, 0)
        self._chosen = name

    def _synthesize(self, text: str, voice: str, blocks: _Blocks, unwanted: threading.Event) -> None:
        def deliver(samples: Any, length: int, events: Any) -> int:
            if samples and length:
                pcm = np.ctypeslib.as_array(samples, (length,))
                blocks.put(Block(from_pcm16(pcm.tobytes()), tuple(_words(events))))
            return int(unwanted.is_set())

        callback = _Callback(deliver)
        utf8 = text.replace("\0", " ").encode("utf-8", "replace")
        size = ctypes.c_size_t(len(utf8) + 1)
        with self._one_at_a_time:
            try:
                if voice != self._chosen:
                    self._choose(voice)
            except EngineError as error:
                blocks.put(error)
                return
            self._library.espeak_SetSynthCallback(callback)
            failed = self._library.espeak_Synth(utf8, size, 0, _POS_CHARACTER, 0, _CHARS_UTF8 | _ENDPAUSE, None, None)
        blocks.put(EngineError(f"eSpeak could not say this (its error {failed}).") if failed else None)


def at_mouth_rate(text: str, blocks: Iterable[Block], rate: int) -> Iterator[Spoken]:
    """Convert the sample rate, and pass each word on with the samples in which it begins."""
    resampler = soxr.ResampleStream(rate, MOUTH_RATE, 1, dtype="float32")
    # espeak splits "don't" and "1,234" and times the parts loosely, so words are split at spaces here
    spans = deque(match.span() for match in re.finditer(r"\S+", text))
    coming: deque[WordTime] = deque()
    made = 0
    for block in chain(blocks, [None]):
        for character, sample in block.words if block else ():
            while spans and spans[0][1] <= character:
                spans.popleft()
            if spans and spans[0][0] <= character:
                coming.append(WordTime(*spans.popleft(), round(sample * MOUTH_RATE / rate)))
        pcm = block.samples if block else np.zeros(0, np.float32)
        samples = resampler.resample_chunk(pcm, last=block is None)
        made += len(samples)
        begun = []
        while coming and (coming[0].sample < made or block is None):
            begun.append(coming.popleft())
        if len(samples):
            yield Spoken(samples, tuple(begun))


def _words(events: Any) -> Iterator[tuple[int, int]]:
    """Yield the words among espeak's events, whose text positions count characters from 1."""
    for event in takewhile(lambda event: event.type != _EVENT_LIST_TERMINATED, (events[index] for index in count())):
        if event.type == _EVENT_WORD:
            yield event.text_position - 1, event.sample


def _delivered(blocks: _Blocks) -> Iterator[Block]:
    while (block := blocks.get()) is not None:
        if isinstance(block, EngineError):
            raise block
        yield block


class EspeakSpeaker:
    """A speaker without context: espeak keeps nothing of the conversation."""

    def __init__(self, place: Place, voice: str | None = None) -> None:
        self._place, self._voice = place, voice

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        async with aclosing(unbroken(self._place, text, self._stream)) as blocks:
            async for spoken in blocks:
                yield spoken

    def _stream(self, text: str) -> AsyncGenerator[Spoken, None]:
        return self._place.stream("speak", text, self._voice)

    async def user_said(self, text: str, samples: Samples) -> None:
        pass

    async def close(self) -> None:
        pass


class Espeak(PlacedEngine[Place]):
    """Text to speech by espeak-ng in a worker process."""

    def __init__(
        self,
        voice: str = DEFAULT_VOICE,
        *,
        words_per_minute: int = 175,
        pitch: int = 50,
        volume: float = 1.0,
        place: MakePlace = Worker,
    ) -> None:
        """
        Args:
            voice: one of voices() by name, with a variant if wanted: "en-gb", "en-us+f3".
            words_per_minute: 80 to 450.
            pitch: 0 to 99.
            volume: 0 to 1.
        """
        settings = {"voice": voice, "words_per_minute": words_per_minute, "pitch": pitch, "volume": volume}
        wanted = Wanted("espeak", f"{__name__}:Synthesizer", settings, concurrency=_CONVERSATIONS, kinds=SPEECH)
        super().__init__(place(wanted))

    def speaker(self) -> EspeakSpeaker:
        return EspeakSpeaker(self._place)

    def speaker_of(self, voice: str) -> EspeakSpeaker:
        return EspeakSpeaker(self._place, voice)

    async def voices(self) -> list[VoiceChoice]:
        """Return the voices for the setup page. Raises EngineError."""
        voices: list[VoiceChoice] = await self._place.call("voices")
        return voices
