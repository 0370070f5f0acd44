"""Records both sides of a conversation as they were heard, on one time axis, if the user asked for it.

It writes two files of 16-bit samples: the user at 16 kHz, and the part of the replies that was really played at
24 kHz. Both begin at the same moment. Data is only ever appended, so a power cut loses nothing that was written.
"""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path

import numpy as np

from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.audio.pcm import to_pcm16
from pipeline.conversation.events import Event, ReplyAudio, ReplyStarted
from pipeline.disk import Appender

USER, REPLY = "user.s16", "reply.s16"

logger = logging.getLogger(__name__)


class Recording:
    def __init__(self, folder: Path) -> None:
        """The folder is created with the first sound; an existing recording is continued."""
        self.folder = folder
        self._heard = _samples(folder / USER)
        """Samples (16 kHz) of the user so far; this is the recording's clock."""
        self._written = _samples(folder / REPLY)
        """Samples (24 kHz) of the replies so far, including the silence between them."""
        self._coming: deque[Samples] = deque()
        """Sound of the current reply that was sent but not played yet."""
        self._played = 0
        self._disk = Appender(self._append)
        self._open = True
        """False once writing to the disk has failed."""

    def hear(self, samples: Samples) -> None:
        """Record samples of the user's microphone (16 kHz)."""
        self._heard += len(samples)
        self._put(USER, samples)

    def follow(self, event: Event) -> None:
        """Take an event of the conversation; every event must be passed in."""
        match event:
            case ReplyStarted():
                self._coming.clear()
                self._played = 0
            case ReplyAudio():
                self._coming.append(event.samples)

    def played(self, samples: int) -> None:
        """Record how much of the current reply was heard so far (24 kHz); its newest sample ended just now."""
        sound = self._take(samples - self._played)
        self._played += len(sound)
        now = self._heard * MOUTH_RATE // EAR_RATE
        silence = max(0, now - len(sound) - self._written)
        self._written += silence + len(sound)
        self._put(REPLY, np.concatenate([np.zeros(silence, np.float32), sound]))

    async def write(self) -> None:
        """Write sound to disk as it comes until cancelled, then write what is still queued."""
        await self._disk.run()

    def _take(self, count: int) -> Samples:
        parts: list[Samples] = []
        while count > 0 and self._coming:
            block = self._coming.popleft()
            parts.append(block[:count])
            if len(block) > count:
                self._coming.appendleft(block[count:])
            count -= len(parts[-1])
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _put(self, side: str, samples: Samples) -> None:
        if len(samples) and self._open:
            self._disk.add((side, to_pcm16(samples)))

    def _append(self, sounds: list[tuple[str, bytes]]) -> None:
        if not self._open:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for side in (USER, REPLY):
                if data := b"".join(sound for to, sound in sounds if to == side):
                    with (self.folder / side).open("ab") as file:
                        file.write(data)
        except OSError as error:
            self._open = False
            logger.warning("The recording of the conversation has ended: %s.", error.strerror)


def _samples(file: Path) -> int:
    return file.stat().st_size // 2 if file.exists() else 0
