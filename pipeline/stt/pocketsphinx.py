"""pocketsphinx: a small recognizer for English that needs no download. It suits short, clearly spoken questions.

The acoustic model, the trigram language model and the dictionary come from its wheel. A decoder keeps the state of one
utterance, so each turn that is being heard gets its own decoder from a pool. The C code holds the GIL, so threads gain
nothing: a worker process decodes a few turns, each in about a sixth of real time on one core, and more workers are
started when several people speak at once.

The second pass (`fwdflat`) is off: on the test recordings it made as many errors, and it delayed the end of a turn by
50 to 1000 ms. An utterance is not ended while its speaker may go on. Instead, silence is appended after the last sample
and the best path so far is read: it is the same as at the end, costs nothing, and keeps a sentence with a pause whole.
"""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np

from pipeline.audio import EAR_RATE, Samples
from pipeline.audio.pcm import to_pcm16
from pipeline.engine import EngineError, Report
from pipeline.stt.ears import WorkerEars
from pipeline.workers.place import MakePlace, Wanted, WorkerDied
from pipeline.workers.worker import Worker

_DECODERS = 6
"""Turns that a worker hears at a time; each decoder takes some 95 MB, allocated when first needed."""

_BUSY = 2
"""With this many turns at a worker, another worker is started."""

_CEPSTRAL_MEAN = "40,3,-1,0,0,0,0,0,0,0,0,0,0"
"""Start of the live mean in every turn, so that no turn depends on an earlier one. It is pocketsphinx's own default."""

_ACTIVE_STATES = 6000
"""Hidden Markov models searched per frame; pocketsphinx allows 30000. A third less work, and no more errors."""

_AT_ONCE = EAR_RATE
"""Samples given to the decoder in one call."""

_LOOK_AHEAD = EAR_RATE // 10
"""Samples that the decoder holds back: 5 frames of look-ahead and 3 for the features' differences, rounded up."""


class _Utterance:
    """A decoder that is working on one turn."""

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder
        self._text = ""
        decoder.set_cmn(_CEPSTRAL_MEAN)
        decoder.start_utt()

    def feed(self, samples: Samples) -> str | None:
        """Return the text so far if it has changed, else None."""
        self._process(samples)
        text = self._best()
        if text == self._text:
            return None
        self._text = text
        return text

    def finish(self) -> str:
        self._process(np.zeros(_LOOK_AHEAD, np.float32))
        self._text = self._best()
        return self._text

    def end(self) -> None:
        self.decoder.end_utt()

    def _process(self, samples: Samples) -> None:
        for start in range(0, len(samples), _AT_ONCE):  # each call holds the GIL, which the process needs in between
            self.decoder.process_raw(to_pcm16(samples[start : start + _AT_ONCE]))

    def _best(self) -> str:
        best = self.decoder.hyp()
        return best.hypstr if best is not None else ""


class Decoders:
    """The pool of decoders, in a worker process. A turn is identified by the number that its listener chose."""

    def __init__(self, report: Report) -> None:
        self._free = [self._decoder()]
        self._turns: dict[int, _Utterance] = {}

    def open(self, turn: int) -> None:
        if len(self._turns) == _DECODERS:
            raise EngineError("PocketSphinx is listening to too many people: wait until one of them has finished.")
        self._turns[turn] = _Utterance(self._free.pop() if self._free else self._decoder())

    def feed(self, turn: int, samples: Samples) -> tuple[str, int] | None:
        """Return the text so far if it has changed, else None; none of it is stable before the end."""
        text = self._turn(turn).feed(samples)
        return None if text is None else (spelled(text), 0)

    def finish(self, turn: int) -> str:
        return natural(self._turn(turn).finish())

    def close_turn(self, turn: int) -> None:
        if utterance := self._turns.pop(turn, None):
            utterance.end()
            self._free.append(utterance.decoder)

    def _turn(self, turn: int) -> _Utterance:
        try:
            return self._turns[turn]
        except KeyError:
            raise WorkerDied("PocketSphinx was restarted and lost what you said: please say it again.") from None

    def _decoder(self) -> Any:
        import pocketsphinx

        return pocketsphinx.Decoder(fwdflat=False, bestpath=False, maxhmmpf=_ACTIVE_STATES, loglevel="ERROR")


class PocketSphinx(WorkerEars):
    """Speech to text by pocketsphinx in worker processes, at most one per core."""

    def __init__(self, language: str = "en", *, place: MakePlace = Worker) -> None:
        self._language = language
        wanted = Wanted("pocketsphinx", f"{__name__}:Decoders")
        super().__init__(lambda: place(wanted), most=os.cpu_count() or 1, busy=_BUSY)

    async def start(self, report: Report) -> None:
        if self._language not in ("en", "auto"):
            raise EngineError("PocketSphinx understands only English: choose English, or another engine.")
        await super().start(report)


_ASKING = "what|who|whom|whose|where|when|why|how|which"
_AUXILIARY = (
    "am|is|are|was|were|do|does|did|have|has|had|can|could|will|would|shall|should|may|might|must|"
    "isn't|aren't|wasn't|weren't|don't|doesn't|didn't|haven't|hasn't|can't|couldn't|won't|wouldn't|shouldn't"
)
_SUBJECT = "i|you|he|she|it|we|they|there|this|that|these|those|the|my|your|his|her|its|our|their|anyone|anybody"
_QUESTION = re.compile(
    rf"(?:(?:and|so|but|well|okay|please|hello|hi|hey)\s)*"
    rf"(?:(?:{_ASKING})\s(?!a\s|an\s|(?:{_SUBJECT})\s)(?:\S+\s){{0,2}}?(?:{_AUXILIARY})\b"
    rf"|(?:{_ASKING})'(?:s|re|d|ll)\b"
    rf"|(?:how|what)\sabout\b"
    rf"|(?:{_AUXILIARY})\s(?:{_SUBJECT})\b)"
)


def spelled(words: str) -> str:
    """Add the capitals that are certain to a decoder's lower-case words: "what do i see" becomes "What do I see"."""
    text = re.sub(r"\bi(?=$|[\s'])", "I", words.strip())
    return text[:1].upper() + text[1:]


def natural(words: str) -> str:
    """Return a whole turn as people write it, with a question mark if its first words ask a question.

    They do if an auxiliary soon follows a question word ("what time is it"), or precedes its subject ("can you").
    "When I was young" and "what a day" are not questions.
    """
    return spelled(words) + ("?" if _QUESTION.match(words.strip()) else "")
