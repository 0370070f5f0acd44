"""Summarises days while nobody is talking: with the current language model, newest day first, one at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime
from typing import cast

from config import Settings
from config.engines import CATALOGUE, named
from config.models import find
from pipeline.cleanup import uninterrupted
from pipeline.conversation.conversation import local_now
from pipeline.engine import EngineError
from pipeline.engines.lease import LeasedMind
from pipeline.llm import USER
from pipeline.llm.summary import summary
from web.service import Service
from web.summaries import Summary

IDLE_S = 60.0
"""Seconds between two looks for days without a summary."""
TROUBLE_S = 3600.0
"""Seconds to wait after the language model has failed."""
MOST_TURNS = 5_000
"""The most turns of a day: more than anybody says."""
SPEAKERS = {"user": "You", "assistant": "Assistant"}
TOO_SMALL = (
    "The current language model is too small to summarise: it would make things up. Choose one of a billion "
    "parameters or more "
    "in Setup, under Mind."
)

logger = logging.getLogger(__name__)


def unable(service: Service) -> str:
    """Return why no day can be summarised now, in one sentence; empty if it is possible."""
    try:
        mind = cast(LeasedMind, service.engines.running("mind"))
    except EngineError as error:
        return str(error)
    return "" if mind.summarises else TOO_SMALL


def model_name(settings: Settings) -> str:
    """Return the language model's display name."""
    mind = settings.mind
    known = find("mind", mind.engine, mind.model)
    return known.label if known else named("mind", mind.engine, mind.model) or CATALOGUE["mind", mind.engine].label


class Summarizer:
    def __init__(self, service: Service, now: Callable[[], datetime] = local_now) -> None:
        self._service = service
        self._now = now
        self._making: asyncio.Task[bool] | None = None
        self._changed = asyncio.Event()
        """Set when the settings have changed."""
        self._failed: set[date] = set()
        """Days on which the language model failed: the others are tried first."""
        self._complete: object = None
        """The state in which no day lacked a summary."""

    async def run(self) -> None:
        """Summarise days until cancelled."""
        self._service.talk_watchers.append(self._talk)
        try:
            with self._service.watching(self._settings_changed):
                while True:
                    self._changed.clear()
                    pause = await self._look()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await self._changed.wait()
        finally:
            self._service.talk_watchers.remove(self._talk)

    async def _look(self) -> float | None:
        """Return the seconds until the next look; None if only changed settings make one worthwhile."""
        try:
            if await self.make_one():
                return 0
            return IDLE_S if self._service.settings.memory.summaries else None
        except (EngineError, OSError) as error:
            logger.warning("A day could not be summarised: %s", error)
            return TROUBLE_S

    def _talk(self, talking: bool) -> None:
        if talking and self._making is not None:
            self._making.cancel()

    def _settings_changed(self, settings: Settings) -> None:
        self._changed.set()
        if not settings.memory.summaries and self._making is not None:
            self._making.cancel()

    async def make_one(self) -> bool:
        """Summarise the newest day that lacks a summary; False if there is none or somebody talks. If the user wants no
        summaries, delete all.

        Raises EngineError if the language model or the memory fails, OSError if the disk does.
        """
        service = self._service
        if not service.settings.memory.summaries:
            await asyncio.to_thread(service.summaries.forget, everything=True)
            return False
        if service.conversations or unable(service):
            return False
        self._making = asyncio.create_task(self._newest())
        try:
            await asyncio.wait([self._making])
            return not self._making.cancelled() and self._making.result()
        finally:
            self._making.cancel()
            await uninterrupted(asyncio.wait([self._making]))
            self._making = None

    async def _newest(self) -> bool:
        today, deletions = self._now().date(), self._service.summaries.deletions
        memory = self._service.engines.memory()
        conversations = await memory.conversations()
        if self._complete == (everything := (conversations, today, deletions)):
            return False
        kept = await asyncio.to_thread(self._service.summaries.all)
        for day in sorted(await memory.days(), key=lambda day: day in self._failed):
            if day < today and await self._summarise(day, kept.get(day), deletions):
                return True
        self._complete = everything
        return False

    async def _summarise(self, day: date, kept: Summary | None, deletions: int) -> bool:
        """Return whether a new summary of this day was saved."""
        service = self._service
        turns = await service.engines.memory().turns(day=day, limit=MOST_TURNS)
        ids = tuple(turn.id for turn in turns)
        if not any(turn.speaker == USER for turn in turns) or (kept is not None and kept.turns == ids):
            return False
        mind = cast(LeasedMind, service.engines.running("mind"))
        lines = [f"{SPEAKERS.get(turn.speaker, turn.speaker)}: {turn.text}" for turn in turns]
        try:
            text = await summary(mind.write, lines)
        except EngineError:
            self._failed.add(day)
            raise
        conversations = tuple(dict.fromkeys(turn.conversation for turn in turns))
        new = Summary(text, model_name(service.settings), ids, conversations)
        return await asyncio.to_thread(lambda: service.summaries.keep(day, new, deletions=deletions))
