"""Whisper itself, in its worker process: turns sound into text (faster-whisper's model, on CTranslate2).

Whisper was trained on windows of 30 s, so a user who says "yes" would wait for 29 s of silence to be computed. On a CPU
the window is as long as the sound plus a margin, but at least ten seconds: with shorter windows Whisper was seen to
repeat one phrase again and again. If it still does, it decodes again with the whole window. If both decodings repeat
the phrase in the same words, it was really said.

Two checks keep out what it invents in noise: Silero must hear a voice first, and Whisper's own measures must allow it.
OpenAI's published decoding drops text with a no-speech probability above 0.6 and a mean log probability below -1.
Nothing is cut out of the sound.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from config.engines import fetches, is_path
from pipeline.audio import EAR_RATE, Samples
from pipeline.engine import EngineError, Progress, Report
from pipeline.models.fetching import fetched
from pipeline.stt import CannotFulfil, TranscriptionWishes, Word, Written
from pipeline.stt.features import features
from pipeline.stt.plausible import WORDS_A_SECOND, WORDS_AT_ONCE, invented, loops, repeats, too_many, words_of
from pipeline.stt.together import Features, Together
from pipeline.stt.word_times import ends_of, spoken_parts

WHOLE_S = 30.0
"""Whisper's own window (Radford et al. 2022, section 2.1)."""

SHORTEST_S, MARGIN_S = 10.0, 1.0
"""The window on a CPU is as long as the sound plus MARGIN_S, but at least SHORTEST_S."""

CERTAIN, CERTAIN_S = 0.8, 2.0
"""Probability of a language, and seconds heard, from which a turn keeps that language. A later change would unsettle
its words, and language detection takes time."""

VOICE, VOICE_FRAMES, VOICE_PIECE = 0.5, 2, EAR_RATE
"""Silero's probability, and the frames of 32 ms in a row, that count as a voice; samples checked at a time."""

UNSURE, BEAM = -0.25, 3
"""Mean log probability of a token below which the sound is decoded again, and with how many beams. Of 40 sentences in
noise of 10 dB this is one in ten, and these had a third of the wrong words (docs/PERFORMANCE.md)."""

WARMER = (0.4, 0.8)
"""Temperatures at which a looping passage of a recording is tried again: every second one of OpenAI's."""

PROMPT_CHARS = 200
"""Characters of the words before this sound that are used as context."""

AT_ONCE = 8
"""Sounds that a GPU encodes together, from one gateway or several; it takes hardly longer than for one. A CPU gains
nothing from that, so there one decoding runs at a time."""

_CORES = os.cpu_count() or 1
THREADS = min(4, _CORES, max(2, _CORES - 1))
"""One core is left free, except that of two both are used: then 3 s were understood in 0.68 s instead of 1.1 while
other work had a load of 8. CTranslate2's threads wait for each other by spinning: if one of four has to share its core
with another program, 1 s of work was seen to take 9 to 34 s (docs/PERFORMANCE.md)."""


@dataclass(frozen=True, slots=True)
class Decoded:
    text: str
    language: str | None = None
    """The language of the text, if it is certain."""
    loop: bool = False
    """Whisper repeated one thing again and again, as nobody said it; `text` is then empty."""
    ends: tuple[tuple[int, float], ...] = ()
    """If asked for, where each word ends: the number of characters of `text`, and the second of the sound."""
    written: Written | None = None
    """The same as a passage of a recording, with its words if `ends` are asked for."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """How to decode a sound."""

    before: str = ""
    language: str | None = None
    again: bool = True
    ends: bool = False
    wishes: TranscriptionWishes | None = None
    """How to transcribe it, if it is a passage of a recording."""


class Decoder:
    """Answers with streams that yield None between steps, where a caller that has lost interest can close them."""

    def __init__(
        self, report: Report, model: str, language: str, device: str, compute_type: str, shortest_s: float | None
    ) -> None:
        from faster_whisper.vad import get_vad_model

        self._model = _load(model, device, compute_type, report)
        if language not in ("auto", "en") and not self._model.model.is_multilingual:
            raise EngineError(
                f"The Whisper model {model} understands only English: choose English, or a model without “.en” in "
                "its name."
            )
        if language != "auto" and language not in self._model.supported_languages:
            raise EngineError(f"Whisper does not know the language {language!r}: choose another, or “auto”.")
        self._language = None if language == "auto" else language
        self._vad = get_vad_model()
        self._shortest_s = shortest_s or (SHORTEST_S if self._model.model.device == "cpu" else WHOLE_S)
        on_processor = self._model.model.device == "cpu"
        self._in_turn: AbstractContextManager[object] = threading.Lock() if on_processor else nullcontext()
        self._encode = Together(self._encoded, 1 if on_processor else AT_ONCE)
        report(Progress("warming up Whisper"))
        rng = np.random.default_rng(0)
        noise = 0.1 * rng.standard_normal(2 * EAR_RATE, np.float32)
        for _ in self._look(noise, self._shortest_s, 0.0, _Asked(again=False)):
            pass

    def decode(
        self, sound: Samples, before: str = "", language: str | None = None, *, again: bool = True, ends: bool = False
    ) -> Iterator[Decoded | None]:
        """Transcribe up to 30 s of sound; the last item is the answer.

        Args:
            before: the words that were said before this sound.
            language: its language, if known.
            again: whether to decode again if there is a loop, or words that are unsure.
            ends: whether to find where words end.
        """
        with self._in_turn:
            yield None  # a caller that has waited for the lock may have lost interest
            if self._voice_in(sound):
                yield from self._looks(sound, _Asked(before, language, again, ends))
            else:
                yield Decoded("")

    def write_down(self, sound: Samples, wishes: TranscriptionWishes) -> Iterator[Written | None]:
        """Transcribe up to 30 s of a recording; the last item is the answer. A loop is decoded again, warmer.

        Raises:
            CannotFulfil: this model does not know the language, or cannot translate.
        """
        self._check(wishes)
        with self._in_turn:
            yield None
            if not self._voice_in(sound):
                yield Written("", no_speech=1.0)
                return
            answer: Decoded | None = None
            for answer in self._looks(sound, _Asked(wishes.before, wishes.language, True, True, wishes)):
                if answer is None:
                    yield None
            yield answer.written if answer is not None and answer.written is not None else Written("")

    def _check(self, wishes: TranscriptionWishes) -> None:
        model = self._model
        if not model.model.is_multilingual and (wishes.translate or wishes.language not in (None, "en")):
            raise CannotFulfil(
                "This Whisper model understands only English: choose one without “.en” in its name on the setup page."
            )
        if wishes.language is not None and wishes.language not in model.supported_languages:
            raise CannotFulfil(f"Whisper does not know the language {wishes.language!r}: give a code such as en or de.")

    def _looks(self, sound: Samples, asked: _Asked) -> Iterator[Decoded | None]:
        """Decode until a decoding does not loop, or repeats an earlier one in the same words."""
        narrow = min(WHOLE_S, max(self._shortest_s, len(sound) / EAR_RATE + MARGIN_S))
        windows = (narrow, WHOLE_S) if asked.again and narrow < WHOLE_S else (narrow,)
        coolest = asked.wishes.temperature if asked.wishes else 0.0
        warmer = [one for one in WARMER if one > coolest] if asked.wishes else []
        looped: list[Decoded] = []
        for temperature in (coolest, *warmer):
            for window in windows:
                answer: Decoded | None = None
                for answer in self._look(sound, window, temperature, asked):
                    if answer is None:
                        yield None
                assert answer is not None
                if not answer.loop:
                    yield answer
                    return
                if answer.text and any(words_of(answer.text) == words_of(other.text) for other in looped):
                    yield replace(answer, loop=False)
                    return
                looped.append(answer)
        repeated = [look for look in looped if look.text]
        if asked.wishes and repeated:  # in a recording, too many words are better than a missing passage
            yield min(repeated, key=lambda look: len(look.text))
        else:
            yield replace(looped[-1], text="", ends=(), written=None)

    def _look(self, sound: Samples, window: float, temperature: float, asked: _Asked) -> Iterator[Decoded | None]:
        """Decode once, with a window of this many seconds; if unsure and `again` is set, decode with beam search, too.

        A loop keeps its text, unless the text has no end or more words than can be said in that time.
        """
        from faster_whisper.tokenizer import Tokenizer

        wishes = asked.wishes or TranscriptionWishes()
        model, seconds = self._model, len(sound) / EAR_RATE
        frames = 2 * round(50 * window)
        encoded = self._encode(features(model.feature_extractor, sound, frames))
        yield None
        spoken, certain = asked.language or self._language, 1.0
        found_out = asked.language is None if asked.wishes is not None else spoken is None
        if found_out and model.model.is_multilingual:
            token, certain = model.model.detect_language(encoded)[0][0]
            if spoken is None or (certain >= CERTAIN and seconds >= CERTAIN_S):
                spoken = token.strip("<|>")
        tokenizer = Tokenizer(
            model.hf_tokenizer,
            model.model.is_multilingual,
            task="translate" if wishes.translate else "transcribe",
            language=spoken or "en",
        )
        context = tokenizer.encode(" " + asked.before[-PROMPT_CHARS:].strip()) if asked.before else []
        prompt = model.get_prompt(tokenizer, context, without_timestamps=True)
        longest = round(1.5 * (WORDS_A_SECOND * seconds + WORDS_AT_ONCE))
        options = {
            "max_length": min(model.max_length, len(prompt) + longest),
            "return_scores": True,
            "return_no_speech_prob": True,
        }
        if temperature:
            options |= {"sampling_temperature": temperature, "sampling_topk": 0}
        (result,) = model.model.generate(encoded, [prompt], beam_size=1, **options)
        if asked.again and not temperature and result.scores[0] < UNSURE:
            yield None
            (result,) = model.model.generate(encoded, [prompt], beam_size=BEAM, **options)
        tokens = [token for token in result.sequences_ids[0] if token < tokenizer.eot]
        text = tokenizer.decode(tokens)
        likelihood = result.scores[0] * len(tokens) / (len(tokens) + 1)
        sure = spoken if certain >= CERTAIN and seconds >= CERTAIN_S else None
        written = Written("", (), spoken or "en", likelihood, result.no_speech_prob)
        loop = loops(text) or (window < WHOLE_S and repeats(text))
        if len(tokens) >= longest or too_many(text, seconds):
            yield Decoded("", sure, loop=True)
        elif invented(result.no_speech_prob, likelihood):
            yield Decoded("", sure, loop=loop, written=written)
        elif asked.ends:
            yield None
            found = model.find_alignment(tokenizer, [tokens], encoded, min(frames, round(100 * seconds)))[0]
            words = tuple(Word(word["word"], float(word["start"]), float(word["end"])) for word in found)
            written = replace(written, text=text.strip(), words=spoken_parts(words, sound))
            ends = ends_of(text, [(word.text, word.end) for word in words])
            yield Decoded(text.strip(), sure, loop, ends, written)
        else:
            yield Decoded(text.strip(), sure, loop)

    def _encoded(self, features: Sequence[Features]) -> Sequence[Any]:
        """Return the encoder's output for each. Several are split in the CPU's memory, which takes a few ms."""
        if len(features) == 1:
            return [self._model.encode(features[0])]
        from ctranslate2 import DataType, Device, StorageView

        together = self._model.encode(np.stack(features)).to(DataType.float32).to_device(Device.cpu)
        return [StorageView.from_array(each[None].copy()) for each in np.array(together)]

    def _voice_in(self, sound: Samples) -> bool:
        """Whether Silero hears a voice; stops at the first one."""
        for at in range(0, len(sound), VOICE_PIECE):
            piece = sound[at : at + VOICE_PIECE]
            likely = self._vad(np.pad(piece, (0, -len(piece) % 512)))[:,] >= VOICE
            if any(likely[n : n + VOICE_FRAMES].all() for n in range(len(likely) - VOICE_FRAMES + 1)):
                return True
        return False


def _load(model: str, device: str, compute_type: str, report: Report) -> Any:
    """Load the WhisperModel of a size, a hub id or a folder. Raises EngineError."""
    from ctranslate2 import get_cuda_device_count
    from faster_whisper import WhisperModel
    from faster_whisper.utils import available_models

    folder = Path(model).expanduser()
    if folder.is_file():
        raise EngineError(f"{folder} is a file: choose the folder that contains Whisper’s model.bin.")
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
        compute_type = "int8"  # a quarter less time than float32, to which a float16 file is converted on a CPU
    if missing := [name for name in ("model.bin", "config.json", "tokenizer.json") if not (folder / name).is_file()]:
        raise EngineError(
            f"The folder {folder} does not contain a Whisper model in CTranslate2's format ({missing[0]} is missing): "
            "choose another, or convert it with ct2-transformers-converter."
        )
    try:
        return WhisperModel(str(folder), device=device, compute_type=compute_type, cpu_threads=THREADS)
    except (OSError, ValueError, RuntimeError) as error:
        why = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise EngineError(
            f"The folder {folder} does not contain a Whisper model that can be loaded ({why})."
        ) from error
