"""What pages, API and WebSockets share: the engines, the current settings, and notices for the user."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from config import Settings, SettingsError, SettingsStore
from config.store import Staged
from pipeline.audio.portaudio import SoundCardError
from pipeline.cleanup import uninterrupted
from pipeline.conversation.conversation import local_now
from pipeline.conversation.events import Severity
from pipeline.engine import WENT_WRONG, EngineError
from pipeline.engines.own_tools import own_tools
from pipeline.engines.running import Engines
from pipeline.tools.builtin.timers import Timers
from pipeline.turns.record import TurnRecord
from web import logs
from web.changes import SettingsRefused, check
from web.labels import Labels
from web.metrics.metrics import Metrics
from web.places import NoPlace, Places, of_this_machine
from web.recordings import Recordings
from web.summaries import Summaries
from web.talks import Talks
from web.turn_log import TurnLog

logger = logging.getLogger(__name__)

NOTICES = 50

Edit = Callable[[Settings], Settings]
"""Returns new settings made from the current ones, which it leaves unchanged."""


@dataclass(frozen=True, slots=True)
class Told:
    """Something the user was told, and when (ISO 8601)."""

    at: str
    severity: Severity
    text: str


def public_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings that a page may see: everything but the keys."""
    tree = settings.model_dump(mode="json")
    tree["mind"].pop("api_key")
    tree["cluster"].pop("key")
    for server in tree["tools"]["servers"]:
        server["key"], server["env"] = "", dict.fromkeys(server["env"], "")
    return tree


@dataclass(frozen=True, slots=True)
class Dismissal:
    """The end of all conversations, requested by the server."""

    why: str
    """The text of the close frame: at most 123 bytes."""
    sentence: str = ""
    """Spoken to each user before the end; empty if there is no time for it."""
    elsewhere: bool = False
    """Whether the user already talks somewhere else, so that the client must not reconnect by itself."""


class CardInUse(SoundCardError):
    """Another page is using the sound card."""


class CardHolder:
    """There is one sound card and any number of pages: the first to start has it until it stops."""

    def __init__(self) -> None:
        self._owner: object | None = None

    def take(self, owner: object) -> None:
        if self._owner not in {None, owner}:
            raise CardInUse("The sound card is in use by another page: stop talking there, or close it.")
        self._owner = owner

    def release(self, owner: object) -> None:
        if self._owner is owner:
            self._owner = None


@dataclass(eq=False, slots=True)
class _Attempt:
    """A change that is being tried."""

    settings: Settings
    """The settings that would be in force after it."""
    task: asyncio.Task[list[str]] = field(init=False)


class Service:
    def __init__(
        self,
        engines: Engines,
        store: SettingsStore,
        data: Path,
        settings: Settings,
        metrics: Metrics | None = None,
        *,
        places: Places | None = None,
        rules: Callable[[Settings, Settings], None] = check,
    ) -> None:
        """
        Args:
            metrics: counts what happens here; several services can share it.
            places: those of this machine, unless they are shared with others.
            rules: raises SettingsRefused if new settings may not replace the old ones.
        """
        self._rules = rules
        self.engines = engines
        self.places = places or Places(of_this_machine(settings))
        self.store = store
        self.data = data
        self.settings = settings
        self.metrics = metrics or Metrics()
        self.turns = TurnLog(data, lambda: self.settings.log.words)
        self.recordings = Recordings(data)
        self.talks = Talks(engines, self.turns)
        self.labels = Labels(data)
        self.summaries = Summaries(data)
        self.notices: deque[Told] = deque(maxlen=NOTICES)
        self.conversations = 0
        """How many are running now."""
        self.talk_watchers: list[Callable[[bool], None]] = []
        """Called with whether somebody talks, whenever a conversation begins or ends."""
        self.card_holder = CardHolder()
        self.timers = Timers()
        self.tools = own_tools(engines, self.timers, lambda: self.settings, local_now)
        """The owner's tools."""
        self._loading: asyncio.Task[None] | None = None
        self._attempts: set[_Attempt] = set()
        self._watchers: set[Callable[[Settings], None]] = set()
        self._dismissal: Dismissal | None = None
        self._dismissed = asyncio.Event()

    def tell(self, severity: Severity, text: str) -> None:
        """Keep a notice for the next visitor of the page."""
        self.notices.append(Told(datetime.now().astimezone().isoformat(timespec="seconds"), severity, text))

    @contextmanager
    def conversing(self) -> Iterator[None]:
        """Count a conversation as running for the duration. Raises NoPlace."""
        with ExitStack() as held:
            try:
                held.enter_context(self.places.one())
            except NoPlace:
                self.metrics.refused("no_place")
                raise
            held.enter_context(self.metrics.talking())
            self.conversations += 1
            self._tell_of_talks()
            try:
                yield
            finally:
                self.conversations -= 1
                self._tell_of_talks()

    def dismiss(self, dismissal: Dismissal) -> None:
        """End every conversation, including later ones. Only the first call counts."""
        self._dismissal = self._dismissal or dismissal
        self._dismissed.set()

    async def dismissal(self) -> Dismissal:
        """Wait until all conversations are to end."""
        await self._dismissed.wait()
        assert self._dismissal is not None
        return self._dismissal

    def finished(self, record: TurnRecord) -> None:
        """Record a finished turn."""
        self.turns.add(record)
        self.metrics.turn(record)

    def _tell_of_talks(self) -> None:
        for hear in self.talk_watchers:
            hear(self.conversations > 0)

    @contextmanager
    def watching(self, changed: Callable[[Settings], None]) -> Iterator[None]:
        """Call `changed` after each change of the settings."""
        self._watchers.add(changed)
        try:
            yield
        finally:
            self._watchers.discard(changed)

    async def change(self, edit: Edit) -> list[str]:
        """Apply changed settings, then save them; returns the parts that were reloaded.

        Nothing is locked while engines load: a change of other parts does not wait for this one, and a change of the
        same parts replaces it.

        Args:
            edit: makes the new settings from the current ones; called again if those have changed meanwhile.

        Raises:
            SettingsRefused: a rule forbids it, an engine could not be loaded, or another change replaced this one.
            SettingsError: the new settings could not be saved.
            In each case the old ones stay in force and on disk.
        """
        await self._overrule(edit)
        attempt = _Attempt(edit(self.settings))
        attempt.task = asyncio.create_task(self._carry_out(edit, attempt))
        self._attempts.add(attempt)
        try:
            await asyncio.wait([attempt.task])
        finally:
            attempt.task.cancel()
            self._attempts.discard(attempt)
        if attempt.task.cancelled():
            raise SettingsRefused("The settings were not changed, because another change replaced this one.")
        return attempt.task.result()

    async def _overrule(self, edit: Edit) -> None:
        """Cancel the attempts that load parts which this edit changes again."""
        overruled: list[asyncio.Task[list[str]]] = []
        for attempt in self._attempts:
            loads = self.engines.differing(self.settings, attempt.settings)
            if loads & self.engines.differing(attempt.settings, edit(attempt.settings)):
                overruled.append(attempt.task)
                attempt.task.cancel()
        if overruled:
            await asyncio.wait(overruled)

    async def _carry_out(self, edit: Edit, attempt: _Attempt) -> list[str]:
        loaded: list[str] = []
        staged: list[Staged] = []

        def stage(settings: Settings) -> None:
            staged.append(self.store.stage(settings))

        try:
            while True:
                old = self.settings
                attempt.settings = new = edit(old)
                await asyncio.to_thread(self._rules, old, new)
                await uninterrupted(asyncio.to_thread(stage, new))  # a file once written must not be lost
                loaded += await self._applied(new)
                if self.settings is old:
                    staged[-1].keep()  # a rename, with nothing awaited before these are in force
                    self._put_in_force(new)
                    return sorted({*loaded})
                staged.pop().drop()
        except BaseException:
            for each in staged:
                each.drop()
            if loaded:
                with suppress(SettingsRefused):  # the stage's status says what does not run
                    await self._applied(self.settings)
            raise

    async def _applied(self, settings: Settings) -> list[str]:
        try:
            return await self.engines.apply(settings)
        except EngineError as error:
            raise SettingsRefused(f"The settings were not changed. {error}") from error
        except Exception as error:
            logger.exception("settings could not be applied")
            raise SettingsRefused(f"The settings were not changed. {WENT_WRONG}") from error

    def _put_in_force(self, settings: Settings) -> None:
        old, self.settings = self.settings, settings
        if settings.log != old.log:
            logs.configure(self.data, level=settings.log.level, words=settings.log.words)
        if settings.tools != old.tools:
            self.tools.configure(settings.tools)
        for changed in tuple(self._watchers):
            changed(settings)

    async def forget(self, **what: Any) -> int:
        """Delete what is kept besides the memory for a `conversation`, a `day` or `everything`: sound, words in logs.

        Returns how many recordings there were.
        """
        self.talks.forget(what.get("conversation"))
        sound = await asyncio.to_thread(self.recordings.forget, **what)
        await self.turns.written()
        try:
            await asyncio.to_thread(self.turns.forget, **what)
            await asyncio.to_thread(logs.forget, self.data, **what)
        except OSError as error:
            self.tell("error", f"What was said could not be removed from the logs in {self.data} ({error.strerror}): "
                               "delete turns.jsonl and the files parley.log there yourself.")  # fmt: skip
        return sound

    async def forget_people(self) -> None:
        """Delete the descriptions of all voices."""
        try:
            await asyncio.to_thread(self.engines.people.forget_all)
        except OSError as error:
            self.tell("error", f"Descriptions of voices are still in {self.data} ({error.strerror}): "
                               "delete people.json there yourself.")  # fmt: skip

    async def forget_summaries(self, **what: Any) -> None:
        """Delete the summaries made from a turn (its `id`), a `conversation`, a `day`, or `everything`."""
        try:
            await asyncio.to_thread(self.summaries.forget, **what)
        except OSError as error:
            self.tell("error", f"Summaries of what was deleted are still in {self.data} ({error.strerror}): "
                               "delete summaries.json there yourself.")  # fmt: skip

    async def keep_labels(self, conversations: Iterable[str]) -> None:
        """Keep only the labels of these conversations: the others were forgotten."""
        try:
            await asyncio.to_thread(self.labels.keep_only, set(conversations))
        except OSError as error:
            self.tell("error", f"The names of deleted conversations are still in {self.data} ({error.strerror}): "
                               "delete names.json there yourself.")  # fmt: skip

    def begin(self, *, keep: bool = False) -> None:
        """Load the engines in the background. `keep`: the settings are new, and are saved once they are in use."""
        self._loading = asyncio.create_task(self._load(keep))

    async def _load(self, keep: bool) -> None:
        await self.engines.start()
        told = await self.engines.stand_in()
        for part, why in told.items():
            self.tell("warning", f"{part}: {why}")
        if keep and not told:
            try:
                await self.change(lambda settings: settings)
            except (SettingsRefused, SettingsError) as error:
                self.tell("warning", str(error))

    async def end(self) -> None:
        """Stop the engines, loaded or still loading."""
        under_way: list[asyncio.Task[Any]] = [attempt.task for attempt in self._attempts]
        if self._loading is not None:
            under_way.append(self._loading)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        self.timers.stop()
        await self.tools.close()
        await self.engines.stop()
