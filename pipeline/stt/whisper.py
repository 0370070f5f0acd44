"""Whisper by faster-whisper (CTranslate2): partial transcripts while one speaks, the final one mostly decoded already.

The turn's sound is decoded again and again from the last settled word on; words on which two decodings agree are
settled (agreement.py). Text that Whisper invents on noise is kept out by its own measures and by masking what is no
speech: OpenAI's published decoding drops a segment whose probability of no speech is above 0.6 while its mean log
probability is below -1, and one that compresses better than 2.4 is a loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import numpy as np

from pipeline.audio import EAR_RATE, Samples
from pipeline.engine import EngineError, EngineStatus, Progress, Report
from pipeline.stt import Transcript, Word
from pipeline.stt.agreement import Agreement, text_of
from pipeline.worker import Worker

DECODE_EVERY = round(0.6 * EAR_RATE)
"""New samples worth another partial decoding."""

TAIL = round(0.25 * EAR_RATE)
"""Fewer new samples than this are the silence of a pause: the last decoding is the final one."""

NO_SPEECH, LOG_PROBABILITY, COMPRESSION = 0.6, -1.0, 2.4

LOUD = 1e-3
"""RMS (of full scale) below which a turn is silence and is not decoded at all."""


class _Turn:
    def __init__(self) -> None:
        self.sound: Samples = np.zeros(0, np.float32)
        self.decoded = 0
        """How many samples the last decoding had."""
        self.agreement = Agreement()

    @property
    def text(self) -> str:
        return text_of(self.agreement.words)

    @property
    def stable(self) -> int:
        return min(len(text_of(self.agreement.settled)), len(self.text))


class Recognizer:
    """Whisper itself, for a worker process. A turn goes by the number that its listener chose."""

    def __init__(self, report: Report, model: str, language: str, device: str, compute_type: str, threads: int) -> None:
        from faster_whisper import WhisperModel

        report(Progress(f"loading Whisper {model}"))
        self._model: Any = WhisperModel(model, device=device, compute_type=compute_type, cpu_threads=threads)
        self._language = None if language == "auto" else language
        self._turns: dict[int, _Turn] = {}
        report(Progress("warming up Whisper"))
        self._decode(np.zeros(EAR_RATE, np.float32), "")

    def open(self, turn: int) -> None:
        self._turns[turn] = _Turn()

    def close_turn(self, turn: int) -> None:
        self._turns.pop(turn, None)

    def feed(self, turn: int, samples: Samples) -> tuple[str, int] | None:
        """Text and its stable length, when a decoding was due and has changed it."""
        state = self._turn(turn)
        state.sound = np.concatenate([state.sound, samples])
        if len(state.sound) - state.decoded < DECODE_EVERY:
            return None
        before = state.text
        state.agreement.decoded(self._rest(state))
        return (state.text, state.stable) if state.text != before else None

    def finish(self, turn: int) -> tuple[str, list[tuple[str, float, float]]]:
        """The text, and its words with seconds from the start of the turn."""
        state = self._turn(turn)
        if len(state.sound) - state.decoded >= TAIL or not state.decoded:
            state.agreement.final(self._rest(state))
        else:
            state.agreement.final(state.agreement.words[len(state.agreement.settled) :])
        return state.text, [(word.text.strip(), word.start, word.end) for word in state.agreement.settled]

    def _turn(self, turn: int) -> _Turn:
        try:
            return self._turns[turn]
        except KeyError:
            raise EngineError("What was said before Whisper was restarted is lost: please say it again.") from None

    def _rest(self, state: _Turn) -> list[Word]:
        """Decode what follows the settled words."""
        begin = round(state.agreement.settled_until * EAR_RATE)
        state.decoded = len(state.sound)
        heard = self._decode(state.sound[begin:], text_of(state.agreement.settled)[-200:])
        shift = begin / EAR_RATE
        return [Word(word.text, word.start + shift, word.end + shift) for word in heard]

    def _decode(self, sound: Samples, before: str) -> list[Word]:
        if not len(sound) or float(np.sqrt(np.mean(sound**2))) < LOUD:
            return []
        segments, _ = self._model.transcribe(
            sound,
            language=self._language,
            beam_size=1,
            temperature=[0.0, 0.4],
            condition_on_previous_text=False,
            initial_prompt=before or None,
            word_timestamps=True,
            vad_filter=True,
            no_speech_threshold=NO_SPEECH,
            log_prob_threshold=LOG_PROBABILITY,
            compression_ratio_threshold=COMPRESSION,
        )
        return [
            Word(word.word, float(word.start), float(word.end))
            for segment in segments
            if not invented(segment.no_speech_prob, segment.avg_logprob, segment.compression_ratio)
            for word in segment.words or ()
        ]


def invented(no_speech: float, log_probability: float, compression: float) -> bool:
    """Whether a segment is what Whisper says to noise, by its own three measures."""
    return compression > COMPRESSION or (no_speech > NO_SPEECH and log_probability < LOG_PROBABILITY)


class WhisperHearing:
    def __init__(self, worker: Worker, turn: int) -> None:
        self._worker = worker
        self._turn = turn
        self._open = False

    async def feed(self, samples: Samples) -> Transcript | None:
        partial: tuple[str, int] | None = await self._call("feed", samples)
        return None if partial is None else Transcript(*partial)

    async def finish(self) -> Transcript:
        final: tuple[str, Sequence[tuple[str, float, float]]] = await self._call("finish")
        text, timed = final
        return Transcript(text, len(text), tuple(Word(*word) for word in timed))

    async def close(self) -> None:
        if self._open:
            self._open = False
            with suppress(EngineError):  # a process that is gone holds nothing
                await self._worker.call("close_turn", self._turn)

    async def _call(self, method: str, *args: object) -> Any:
        if not self._open:
            self._open = True
            await self._worker.call("open", self._turn)
        return await self._worker.call(method, self._turn, *args)


class Whisper:
    """Speech to text by Whisper in a worker process."""

    def __init__(
        self, model: str, language: str = "auto", device: str = "auto", compute_type: str = "default", threads: int = 4
    ) -> None:
        """`model` is a size ("large-v3-turbo", "base.en"), a hub id or a folder, in CTranslate2's form."""
        arguments = {
            "model": model,
            "language": language,
            "device": device,
            "compute_type": compute_type,
            "threads": threads,
        }
        self._worker = Worker("Whisper", f"{__name__}:Recognizer", arguments)
        self._turns = count()

    async def start(self, report: Report) -> None:
        await self._worker.start(report)

    async def stop(self) -> None:
        await self._worker.stop()

    @property
    def status(self) -> EngineStatus:
        return self._worker.status

    def listen(self) -> WhisperHearing:
        return WhisperHearing(self._worker, next(self._turns))
