"""Uses this computer's sound card in place of the page's own sound; the page still shows everything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from config.settings import AudioSettings
from pipeline.audio.portaudio import SoundCardError
from pipeline.conversation.conversation import Conversation
from pipeline.conversation.events import Event, Severity
from pipeline.ends.soundcard import SoundCard
from web.service import CardHolder

Tell = Callable[[Severity, str], None]


class Card:
    """One conversation's use of the sound card, started and stopped by its page."""

    def __init__(
        self, holder: CardHolder, conversation: Conversation, tell: Tell, changed: Callable[[bool], None]
    ) -> None:
        """`changed` is called when it starts and when it stops, for whatever reason."""
        self._holder = holder
        self._conversation = conversation
        self._tell = tell
        self._changed = changed
        self._card: SoundCard | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._running is not None

    def follow(self, event: Event) -> None:
        if self._card is not None:
            self._card.follow(event)

    def start(self, audio: AudioSettings) -> None:
        """Raises CardInUse if another page has the card. A card that fails is reported, and the use ends by itself."""
        if self._running is not None:
            return
        self._holder.take(self)
        self._card = SoundCard(audio.input, audio.output)
        self._running = asyncio.create_task(self._run(self._card))
        self._changed(True)

    async def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self, card: SoundCard) -> None:
        try:
            await card.run(self._conversation.hear, self._conversation.played, self._tell)
        except SoundCardError as error:
            self._tell("error", str(error))
        finally:
            self._card = self._running = None
            self._holder.release(self)
            self._conversation.cancel("the sound card was stopped")
            self._conversation.clear()
            self._changed(False)
