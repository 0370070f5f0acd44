"""Which words of a growing transcript will stay: those on which two decodings in a row agree.

Macháček, Dabre, Bojar 2023, "Turning Whisper into Real-Time Transcription System" (LocalAgreement-2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.stt import Word


class Agreement:
    """Words of one turn, with times in seconds from its start, as decodings of its sound from `begin` on give them."""

    def __init__(self) -> None:
        self.settled: list[Word] = []
        self.begin = 0.0
        """From where on the turn's sound is to be decoded."""
        self._first = 0
        """Which settled word is the first after `begin`."""
        self._last: list[Word] = []

    @property
    def words(self) -> list[Word]:
        """The newest hypothesis, its settled beginning included."""
        return [*self.settled, *self._last]

    def decoded(self, words: Sequence[Word]) -> None:
        """Take a decoding from `begin` on; what follows the settled words and was there last time too is settled."""
        rest = self._unsettled(words)
        agreed = 0
        for old, new in zip(self._last, rest, strict=False):
            if _sound(old.text) != _sound(new.text):
                break
            agreed += 1
        self.settled += rest[:agreed]
        self._last = rest[agreed:]

    def final(self, words: Sequence[Word] | None = None) -> None:
        """The last decoding of this stretch of speech (by default the one before) is right as it is."""
        self.settled += self._last if words is None else self._unsettled(words)
        self._last = []

    def leave_behind(self, until: float) -> None:
        """Sound before the end of the last word that ends by `until` need not be decoded again."""
        behind = [place for place, word in enumerate(self.settled) if word.end <= until]
        if behind and self.settled[behind[-1]].end > self.begin:
            self._first = behind[-1] + 1
            self.begin = self.settled[behind[-1]].end

    def _unsettled(self, words: Sequence[Word]) -> list[Word]:
        """What a decoding has beyond the settled words: by their number if they are the same, else by their times."""
        known = self.settled[self._first :]
        if [_sound(word.text) for word in words[: len(known)]] == [_sound(word.text) for word in known]:
            return list(words[len(known) :])
        until = known[-1].end if known else self.begin
        return [word for word in words if (word.start + word.end) / 2 > until]


def _sound(word: str) -> str:
    """Case and punctuation change between decodings and mean nothing."""
    return re.sub(r"[^\w']", "", word).lower()


def text_of(words: Sequence[Word]) -> str:
    """Whisper's words carry their own leading spaces."""
    return "".join(word.text for word in words).strip()
