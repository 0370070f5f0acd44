"""The running set of engines: started all at once, watched, and changed without a gap."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

from config.engines import CATALOGUE, Stage
from config.settings import Settings
from pipeline.audio import Samples
from pipeline.conversation.stages import Stages
from pipeline.engine import Engine, EngineError, EngineState, EngineStatus, Progress, Report
from pipeline.engines.catalogue import create
from pipeline.engines.lease import Lent, LentEars, LentMind, LentVoice
from pipeline.engines.memory import WorkerMemory
from pipeline.tts import ManyVoiced, VoiceChoice
from pipeline.turns.model import WorkerTurnModel
from pipeline.turns.vad import VoiceActivity, VoiceActivityLike, load_model
from pipeline.workers.place import MakePlace
from pipeline.workers.worker import Worker
from rag import ChromaServer

log = logging.getLogger(__name__)

Part = Literal["vad", "turns", "ears", "mind", "voice", "memory"]

LINGER_S = 120.0
"""After which an engine that has a successor is stopped even in the middle of a turn."""

_LENT: dict[Stage, Callable[[Any], Engine]] = {"ears": LentEars, "mind": LentMind, "voice": LentVoice}

_TITLES: dict[Part, str] = {
    "vad": "The voice detection",
    "turns": "The turn model",
    "ears": "The speech recognition",
    "mind": "The mind",
    "voice": "The voice",
    "memory": "The memory",
}


class _SmallModel:
    """A model small enough to run in this process; only loading it is kept off the loop."""

    def __init__(self, engine: str, load: Callable[[], Any]) -> None:
        self._engine = engine
        self._load = load
        self.model: Any = None

    async def start(self, report: Report) -> None:
        self.model = await asyncio.to_thread(self._load)

    async def stop(self) -> None:
        """There is nothing to let go of."""

    @property
    def status(self) -> EngineStatus:
        return EngineStatus(self._engine, "stopped" if self.model is None else "ready")


@dataclass(frozen=True)
class _Plan:
    """What a part is to be. Equal plans make equal engines."""

    engine: str
    create: Callable[[], Engine] = field(compare=False)
    made_of: object = None
    alone: bool = False
    """Whether the old one must be gone before the new one comes, since both would write the same files."""


class _Slot:
    """A part of the running set: what it is to be, and the engine once there is one."""

    def __init__(self, plan: _Plan, changed: Callable[[], None]) -> None:
        self.plan = plan
        self.engine: Engine | None = None
        self._changed = changed
        self._state: EngineState = "stopped"
        self._error: str | None = None
        self._progress: Progress | None = None

    async def start(self) -> None:
        """Raises EngineError, and keeps its sentence for the status. After a stop the same engine starts again."""
        self._turn("loading")
        try:
            self.engine = self.engine or self.plan.create()
            await self.engine.start(self._report)
        except EngineError as error:
            self._error = str(error)
            self._turn("failed")
            raise
        except BaseException:
            self._turn("stopped")
            raise
        self._turn("ready")

    async def stop(self) -> None:
        if self.engine is not None:
            await self.engine.stop()
        self._turn("stopped")

    @property
    def status(self) -> EngineStatus:
        """The engine's own while it runs, since it may die and come back; before and after, how far we came."""
        status = EngineStatus(self.plan.engine, self._state) if self.engine is None else self.engine.status
        state = status.state if self._state == "ready" else self._state
        progress = (status.progress or self._progress) if state == "loading" else None
        error = status.last_error or self._error
        return replace(status, engine=self.plan.engine, state=state, progress=progress, last_error=error)

    @property
    def in_use(self) -> bool:
        return isinstance(self.engine, Lent) and not self.engine.idle

    def give_way(self, successor: _Slot) -> None:
        """New work goes to the successor."""
        if isinstance(self.engine, Lent) and isinstance(successor.engine, Lent):
            self.engine.succeeded_by(successor.engine)

    async def stop_when_idle(self) -> None:
        """What is under way may end, within LINGER_S."""
        try:
            if isinstance(self.engine, Lent):
                async with asyncio.timeout(LINGER_S):
                    await self.engine.until_idle()
        except TimeoutError:
            log.warning("%s is stopped in the middle of a turn.", self.plan.engine)
        finally:
            await self.stop()

    def _report(self, progress: Progress) -> None:
        self._progress = progress
        self._changed()

    def _turn(self, state: EngineState) -> None:
        self._state = state
        self._changed()


class Engines:
    def __init__(self, settings: Settings, data: Path, place: MakePlace = Worker) -> None:
        """`place` makes the places where engines compute: by default a process each."""
        self._data = data
        self._place = place
        self._change = asyncio.Event()
        self._stopped = False
        self._applying = asyncio.Lock()
        self._slots = {part: _Slot(plan, self._changed) for part, plan in self._plans(settings).items()}
        self._fresh: dict[Part, _Slot] = {}
        """Those that apply() is starting."""
        self._going: set[asyncio.Task[None]] = set()
        """Engines that have a successor, and end with what they do just now."""
        self._waking: asyncio.Task[None] | None = None

    async def start(self, *, without: Collection[str] = ()) -> None:
        """Start every part at once, but for those left out. One that fails says so in health() and stops no other."""
        slots = (slot for part, slot in self._slots.items() if part not in without)
        await asyncio.gather(*(slot.start() for slot in slots), return_exceptions=True)

    @asynccontextmanager
    async def resting(self, part: Part) -> AsyncIterator[None]:
        """A part is stopped meanwhile, so that what it holds is free; afterwards it is loaded again, and nobody waits
        for that. One that does not run is left alone."""
        async with self._applying:
            slot = self._slots[part]
            if slot.status.state != "ready":
                yield
                return
            await slot.stop()
            try:
                yield
            finally:
                if not self._stopped:
                    self._waking = asyncio.create_task(_wake(slot))

    async def apply(self, settings: Settings) -> list[str]:
        """Load what the settings change, and what had failed; returns those parts.

        A new engine is ready before the old one goes, but for the memory: of that there is never a second on the same
        files. What is being heard, written or spoken just then ends with the old engines; new work goes to the new
        ones. A speaker is its conversation's: take stages() again for a new one.

        Raises:
            EngineError: an engine that the settings ask for could not be started; everything is as it was.
        """
        async with self._applying:
            plans = self._plans(settings)
            asked = {part for part, plan in plans.items() if plan != self._slots[part].plan}
            again = {part for part in plans if self._slots[part].status.state == "failed"} - asked
            fresh = {part: _Slot(plans[part], self._changed) for part in plans if part in asked | again}
            old = {part: self._slots[part] for part in fresh}
            alone = [slot for slot in old.values() if slot.plan.alone]
            self._fresh = fresh
            try:
                await _stop(alone)
                results = await asyncio.gather(*(slot.start() for slot in fresh.values()), return_exceptions=True)
                for part, result in zip(fresh, results, strict=True):
                    if isinstance(result, BaseException) and (part in asked or not isinstance(result, EngineError)):
                        raise result
            except BaseException:
                await _stop([*fresh.values()])
                if not self._stopped:
                    await asyncio.gather(*(slot.start() for slot in alone), return_exceptions=True)
                raise
            finally:
                self._fresh = {}
            for part, slot in fresh.items():
                old[part].give_way(slot)
            self._slots |= fresh
            self._changed()
            leaving = [slot for slot in old.values() if slot not in alone]
            for slot in leaving:
                if slot.in_use:
                    task = asyncio.create_task(slot.stop_when_idle())
                    self._going.add(task)
                    task.add_done_callback(self._going.discard)
            await _stop([slot for slot in leaving if not slot.in_use])
            return list(fresh)

    def stages(self) -> Stages:
        """What a conversation talks through. The memory is there while it still loads: its calls wait.

        Raises:
            EngineError: a stage is loading or has failed, in one sentence.
        """
        turns = self._slots["turns"]
        return Stages(
            vad=partial(VoiceActivity, cast(_SmallModel, self.running("vad")).model),
            ears=cast(LentEars, self.running("ears")),
            mind=cast(LentMind, self.running("mind")),
            voice=cast(LentVoice, self.running("voice")),
            memory=cast("WorkerMemory | None", self._slots["memory"].engine),
            finished=None if turns.status.state == "failed" else self._finished,
        )

    def vad(self) -> VoiceActivityLike:
        """A voice detection of the caller's own. Raises EngineError as `running` does."""
        return VoiceActivity(cast(_SmallModel, self.running("vad")).model)

    def running(self, part: Part) -> Engine:
        """The engine of a part, whatever the others do.

        Raises:
            EngineError: it is loading or has failed, in one sentence.
        """
        slot = self._slots[part]
        status = slot.status
        if status.state == "ready" and slot.engine is not None:
            return slot.engine
        if status.state == "loading":
            raise EngineError(f"{_TITLES[part]} ({status.engine}) is not ready yet: try again in a moment.")
        raise EngineError(status.last_error or f"{_TITLES[part]} ({status.engine}) is not running.")

    def memory(self) -> WorkerMemory:
        """To be read and corrected, whatever the other parts do. Its calls wait while it loads.

        Raises:
            EngineError: it could not be opened, in one sentence.
        """
        slot = self._slots["memory"]
        if slot.engine is None or slot.status.state == "failed":
            raise EngineError(slot.status.last_error or "The memory is not open yet: try again in a moment.")
        return cast(WorkerMemory, slot.engine)

    def health(self) -> dict[str, EngineStatus]:
        """By part: vad, turns, ears, mind, voice, memory."""
        return {part: slot.status for part, slot in self._slots.items()}

    def reloading(self) -> dict[str, EngineStatus]:
        """Those that apply() is loading, by part; the old ones run until these are ready."""
        return {part: slot.status for part, slot in self._fresh.items()}

    async def changes(self) -> AsyncIterator[dict[str, EngineStatus]]:
        """The health now and after each change, until stop(). Who is slow misses steps, but never the last one."""
        while not self._stopped:
            change = self._change
            yield self.health()
            await change.wait()

    async def voices(self) -> list[VoiceChoice]:
        """Those to choose from with the running voice engine; none when it has but one. Raises EngineError."""
        engine = cast(LentVoice, self.running("voice")).engine
        return await engine.voices() if isinstance(engine, ManyVoiced) else []

    async def stop(self) -> None:
        """End every engine and every child process, loaded or still loading. Safe to call twice."""
        self._stopped = True
        for task in self._going:
            task.cancel()
        await asyncio.gather(*self._going, return_exceptions=True)
        if self._waking is not None:
            self._waking.cancel()
            await asyncio.wait([self._waking])
        await _stop([*self._slots.values(), *self._fresh.values()])
        self._changed()

    async def _finished(self, samples: Samples) -> float:
        return await cast(WorkerTurnModel, self.running("turns")).finished(samples)

    def _changed(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()

    def _plans(self, settings: Settings) -> dict[Part, _Plan]:
        memory = settings.memory
        chroma = ChromaServer(memory.chroma_host, memory.chroma_port) if memory.chroma_host else None
        open_memory = partial(WorkerMemory, self._data / "memory", owner=memory.owner, chroma=chroma, place=self._place)
        return {
            "vad": _Plan("silero", partial(_SmallModel, "silero", load_model)),
            "turns": _Plan("smart-turn", partial(WorkerTurnModel, self._place)),
            "ears": self._chosen("ears", settings.ears.engine, settings),
            "mind": self._chosen("mind", settings.mind.engine, settings),
            "voice": self._chosen("voice", settings.voice.engine, settings),
            "memory": _Plan("memory", open_memory, (memory.owner, chroma), alone=True),
        }

    def _chosen(self, stage: Stage, name: str, settings: Settings) -> _Plan:
        spec = CATALOGUE.get((stage, name))
        if spec is None:
            return _Plan(name, partial(_refuse, stage, name))

        def lent() -> Engine:
            return _LENT[stage](create(spec, settings, self._data, self._place))

        return _Plan(name, lent, spec.arguments(settings, self._data))


async def _wake(slot: _Slot) -> None:
    with suppress(EngineError):  # its status says so
        await slot.start()


async def _stop(slots: list[_Slot]) -> None:
    await asyncio.gather(*(slot.stop() for slot in slots))


def _refuse(stage: Stage, name: str) -> NoReturn:
    known = ", ".join(spec.name for spec in CATALOGUE.values() if spec.stage == stage)
    raise EngineError(f"There is no engine {name!r} for {_TITLES[stage].lower()}: choose one of {known}.")
