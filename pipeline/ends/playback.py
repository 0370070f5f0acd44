"""The reply's audio between the conversation and its output: it can be paused and dropped without clicks."""

from __future__ import annotations

from collections import deque
from threading import Lock

import numpy as np

from pipeline.audio import Samples
from pipeline.conversation.events import Event, ReplyAudio, ReplyDone, ReplyMade, ReplyPaused, ReplyResumed

FADE = 120
"""Samples of every fade (5 ms at 24 kHz): long enough to avoid clicks, too short to be heard as a fade."""

ReplyKey = tuple[int, int]
"""A reply's turn and revision."""


class Playback:
    """Filled by the conversation's events on the loop and emptied by `take`, which a device's own thread may call."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._blocks: deque[Samples] = deque()
        self._reply: ReplyKey | None = None
        self._played = 0
        self._paused = False
        self._complete = False
        self._tail: Samples = np.zeros(0, np.float32)
        """A fade-out still to be played. Its samples do not count as played, and are repeated after a pause."""
        self._rising = 0
        """How many samples of the fade-in were played; FADE is full loudness."""
        self._sounding = False

    def follow(self, event: Event) -> None:
        """Apply an event of the conversation; events that are not about audio are ignored."""
        with self._lock:
            match event:
                case ReplyAudio(turn, revision, samples, _):
                    self._add((turn, revision), samples)
                case ReplyPaused():
                    self._fade_out()
                    self._paused = True
                case ReplyResumed():
                    self._paused = False
                case ReplyMade(turn, revision, _) if self._reply == (turn, revision):
                    self._complete = True
                case ReplyDone():
                    self._fade_out()
                    self._forget()

    def take(self, limit: int) -> Samples:
        """Return at most `limit` samples (24 kHz) to play now; none while paused or waiting for more."""
        with self._lock:
            parts = [self._tail[:limit]]
            self._tail = self._tail[limit:]
            wanted = limit - len(parts[0])
            if wanted and not self._paused:
                parts.append(self._next(wanted))
            return np.concatenate(parts)

    @property
    def reply(self) -> ReplyKey | None:
        """The reply being played."""
        return self._reply

    @property
    def played(self) -> int:
        """How many samples of the reply were taken."""
        return self._played

    @property
    def waiting(self) -> int:
        """How many samples of the reply are still to be taken, paused or not."""
        with self._lock:
            return len(self._tail) + sum(len(block) for block in self._blocks)

    def _add(self, reply: ReplyKey, samples: Samples) -> None:
        if reply != self._reply:
            self._fade_out()
            self._forget()
            self._reply = reply
        if len(samples):
            self._blocks.append(samples)

    def _forget(self) -> None:
        self._blocks.clear()
        self._reply, self._played, self._rising = None, 0, 0
        self._paused = self._complete = self._sounding = False

    def _next(self, wanted: int) -> Samples:
        parts: list[Samples] = []
        while wanted and self._blocks:
            block = self._blocks.popleft()
            parts.append(block[:wanted])
            if len(block) > wanted:
                self._blocks.appendleft(block[wanted:])
            wanted -= len(parts[-1])
        sound = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        self._played += len(sound)
        if not len(sound):
            return sound
        if self._rising < FADE:
            gain = np.clip((self._rising + np.arange(len(sound))) / FADE, 0, 1)
            sound = (sound * gain).astype(np.float32)
            self._rising += len(sound)
        self._sounding = True
        if wanted and not self._complete:  # the voice is late: fade out here, and fade in again later
            fade = min(FADE, len(sound))
            sound = np.concatenate([sound[:-fade], sound[-fade:] * np.linspace(1, 0, fade, dtype=np.float32)])
            self._silenced()
        return sound

    def _fade_out(self) -> None:
        if not self._sounding:
            return
        ahead: list[Samples] = []
        for block in self._blocks:
            ahead.append(block[: FADE - sum(len(part) for part in ahead)])
        sound = np.concatenate(ahead) if ahead else np.zeros(0, np.float32)
        self._tail = sound * np.linspace(1, 0, len(sound), dtype=np.float32)
        self._silenced()

    def _silenced(self) -> None:
        self._sounding = False
        self._rising = 0
