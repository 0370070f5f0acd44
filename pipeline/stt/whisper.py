"""Whisper by faster-whisper (CTranslate2): partial transcripts while one speaks, the final one mostly decoded already.

The turn's sound is decoded again and again; words on which two decodings agree are settled (agreement.py), and in a
long turn the sound of settled words is left behind. Text that Whisper invents on noise is kept out by masking what
Silero takes for no speech, and by Whisper's own measures: OpenAI's published decoding drops a segment whose
probability of no speech is above 0.6 while its mean log probability is below -1, and one that compresses better than
2.4 is a loop.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from config.engines import fetches, is_path
from pipeline.audio import EAR_RATE, Samples
from pipeline.engine import EngineError, Progress, Report
from pipeline.models.fetching import fetched
from pipeline.stt import Word
from pipeline.stt.agreement import Agreement, text_of
from pipeline.stt.ears import WorkerEars
from pipeline.workers.place import MakePlace
from pipeline.workers.worker import Worker

DECODE_EVERY = round(0.5 * EAR_RATE)
"""New samples worth another partial decoding. A slow machine decodes less often: what waits is fed in one piece."""

WINDOW_S, OVERLAP_S = 20.0, 5.0
"""Whisper hears 30 s at a time: from this length on, the sound of settled words is left behind, all but 5 s."""

QUIET = 0.1
"""Share of the turn's loudest moment below which what follows the last decoding is the silence of a pause (-20 dB)."""

NO_SPEECH, LOG_PROBABILITY, COMPRESSION = 0.6, -1.0, 2.4

CERTAIN, CERTAIN_AFTER = 0.8, 2 * EAR_RATE
"""Probability of a language, and samples heard, from which on a turn stays in it: a change on the way would unsettle
its words, and listening for the language doubles the work of a partial."""

THREADS = max(1, min(4, (os.cpu_count() or 1) - 1))
"""One core is left to the others. CTranslate2's threads wait for each other by spinning: where one of four has to share
its core with another program, 1 s of work was seen to take 9 to 34 s (docs/PERFORMANCE.md)."""

MOMENT = 512
"""Samples, 32 ms."""

LOUD = 1e-3
"""RMS (of full scale) of its loudest moment below which sound is silence and is not decoded at all."""

PROMPT_CHARS = 200
"""Of the words that were left behind, as context for the next decoding."""


class _Turn:
    def __init__(self) -> None:
        self.sound: Samples = np.zeros(0, np.float32)
        self.decoded = 0
        """How many samples the last decoding had."""
        self.language: str | None = None
        """Once it is certain."""
        self.agreement = Agreement()

    @property
    def text(self) -> str:
        return text_of(self.agreement.words)

    @property
    def stable(self) -> int:
        return min(len(text_of(self.agreement.settled)), len(self.text))


class Recognizer:
    """Whisper itself, for a worker process. A turn goes by the number that its listener chose."""

    def __init__(self, report: Report, model: str, language: str, device: str, compute_type: str) -> None:
        self._model = _load(model, device, compute_type, report)
        if language not in ("auto", "en") and not self._model.model.is_multilingual:
            raise EngineError(
                f"The Whisper model {model} knows English only: choose English, or a model without “.en” in its name."
            )
        if language != "auto" and language not in self._model.supported_languages:
            raise EngineError(f"Whisper does not know the language {language!r}: choose another, or “auto”.")
        self._language = None if language == "auto" else language
        self._turns: dict[int, _Turn] = {}
        report(Progress("warming up Whisper"))
        rng = np.random.default_rng(0)
        noise = 0.1 * rng.standard_normal(EAR_RATE, np.float32)
        list(self._model.transcribe(noise, language=self._language, beam_size=1, temperature=0.0)[0])

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
        before = state.text, state.stable
        state.agreement.decoded(self._decode(state))
        return now if (now := (state.text, state.stable)) != before else None

    def finish(self, turn: int) -> tuple[str, list[tuple[str, float, float]]]:
        """The text, and its words with seconds from the start of the turn."""
        state = self._turn(turn)
        state.agreement.final(self._decode(state) if self._speaks_since(state) else None)
        return state.text, [(word.text.strip(), word.start, word.end) for word in state.agreement.settled]

    def _turn(self, turn: int) -> _Turn:
        try:
            return self._turns[turn]
        except KeyError:
            raise EngineError("What was said before Whisper was restarted is lost: please say it again.") from None

    def _speaks_since(self, state: _Turn) -> bool:
        """Whether there may be speech that the last decoding has not had; if not, that was the final one."""
        new = loudest(state.sound[state.decoded :])
        return new >= LOUD and new >= QUIET * loudest(state.sound[: state.decoded])

    def _decode(self, state: _Turn) -> list[Word]:
        """The words from where the agreement begins, with seconds from the start of the turn."""
        agreement = state.agreement
        if len(state.sound) / EAR_RATE - agreement.begin > WINDOW_S:
            agreement.leave_behind(len(state.sound) / EAR_RATE - OVERLAP_S)
        state.decoded = len(state.sound)
        begin = agreement.begin
        sound = state.sound[round(begin * EAR_RATE) :]
        if loudest(sound) < LOUD:
            return []
        before = text_of([word for word in agreement.settled if word.end <= begin])[-PROMPT_CHARS:]
        segments, info = self._transcribe(sound, before, state.language or self._language)
        if info.language_probability >= CERTAIN and len(sound) >= CERTAIN_AFTER:
            state.language = info.language
        return [
            Word(word.word, begin + float(word.start), begin + float(word.end))
            for segment in segments
            if not invented(segment.no_speech_prob, segment.avg_logprob, segment.compression_ratio)
            for word in segment.words or ()
        ]

    def _transcribe(self, sound: Samples, before: str, language: str | None) -> Any:
        """Segments, decoded as they are taken, and what was found out before. None: the language is listened for."""
        return self._model.transcribe(
            sound,
            language=language,
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


def loudest(sound: Samples) -> float:
    """RMS of the loudest 32 ms; 0 for no sound."""
    if not len(sound):
        return 0.0
    moments = np.pad(sound, (0, -len(sound) % MOMENT)).reshape(-1, MOMENT)
    return float(np.sqrt(np.square(moments).mean(axis=1).max()))


def invented(no_speech: float, log_probability: float, compression: float) -> bool:
    """Whether a segment is what Whisper says to noise, by its own three measures."""
    return compression > COMPRESSION or (no_speech > NO_SPEECH and log_probability < LOG_PROBABILITY)


def _load(model: str, device: str, compute_type: str, report: Report) -> Any:
    """A WhisperModel of a size, a hub id or a folder. Raises EngineError."""
    from ctranslate2 import get_cuda_device_count
    from faster_whisper import WhisperModel
    from faster_whisper.utils import available_models

    folder = Path(model).expanduser()
    if folder.is_file():
        raise EngineError(f"{folder} is a file, and Whisper is a folder: choose the folder that holds model.bin.")
    if not folder.is_dir():
        if is_path(model):
            raise EngineError(f"There is no folder {folder}: correct the path of the Whisper model.")
        if "/" not in model and model not in available_models():
            raise EngineError(
                f"There is no Whisper model {model!r}: choose one such as base.en, small or large-v3-turbo."
            )
        (fetch,) = fetches("ears", "whisper", model)
        folder = fetched(fetch, report)
    report(Progress(f"loading Whisper {model}"))
    if compute_type == "default" and (device == "cpu" or not get_cuda_device_count()):
        compute_type = "int8"  # a quarter less time than float32, which a file in float16 becomes on a processor
    if missing := [name for name in ("model.bin", "config.json", "tokenizer.json") if not (folder / name).is_file()]:
        raise EngineError(
            f"The folder {folder} holds no Whisper in CTranslate2's form ({missing[0]} is missing): "
            "choose another, or convert it with ct2-transformers-converter."
        )
    try:
        return WhisperModel(str(folder), device=device, compute_type=compute_type, cpu_threads=THREADS)
    except (OSError, ValueError, RuntimeError) as error:
        why = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise EngineError(f"The folder {folder} holds no Whisper that can be loaded ({why}).") from error


class Whisper(WorkerEars):
    """Speech to text by Whisper in a worker process."""

    def __init__(
        self,
        model: str,
        language: str = "auto",
        *,
        device: str = "auto",
        compute_type: str = "default",
        place: MakePlace = Worker,
    ) -> None:
        """
        Args:
            model: a size ("large-v3-turbo", "base.en"), a hub id or a folder, in CTranslate2's form.
            language: ISO 639-1, or "auto".
            device, compute_type: CTranslate2's names; by default a GPU if there is one, and the model file's own type
                there, int8 on a processor.
        """
        arguments = {"model": model, "language": language, "device": device, "compute_type": compute_type}
        super().__init__(lambda: place("Whisper", f"{__name__}:Recognizer", arguments))
