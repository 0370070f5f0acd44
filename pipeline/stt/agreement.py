"""Which words of a growing transcript will stay: those on which two decodings in a row agree.

Macháček, Dabre, Bojar 2023, "Turning Whisper into Real-Time Transcription System" (LocalAgreement-2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.stt import Word


class Agreement:
    def __init__(self) -> None:
        self.settled: list[Word] = []
        self._last: list[Word] = []

    @property
    def words(self) -> list[Word]:
        """The newest hypothesis, its settled beginning included."""
        return [*self.settled, *self._last]

    @property
    def settled_until(self) -> float:
        """Seconds of the turn's sound that need not be decoded again."""
        return self.settled[-1].end if self.settled else 0.0

    def decoded(self, words: Sequence[Word]) -> None:
        """Take a decoding of what follows the settled words; its words that were there last time too are settled."""
        agreed = 0
        for old, new in zip(self._last, words, strict=False):
            if _sound(old.text) != _sound(new.text):
                break
            agreed += 1
        self.settled.extend(words[:agreed])
        self._last = list(words[agreed:])

    def final(self, words: Sequence[Word]) -> None:
        """The last decoding of this stretch of speech is right as it is."""
        self.settled.extend(words)
        self._last = []


def _sound(word: str) -> str:
    """Case and punctuation change between decodings and mean nothing."""
    return re.sub(r"[^\w']", "", word).lower()


def text_of(words: Sequence[Word]) -> str:
    """Whisper's words carry their own leading spaces."""
    return "".join(word.text for word in words).strip()
