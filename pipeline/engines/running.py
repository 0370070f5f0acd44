"""The running set of engines: all started at once, watched, and replaced without a gap."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import date
from functools import partial
from pathlib import Path
from typing import cast

from config.engines import Stage
from config.settings import Settings
from pipeline.audio import Samples
from pipeline.conversation.stages import Stages
from pipeline.engine import Engine, EngineError, EngineStatus
from pipeline.engines.lease import LeasedEars, LeasedMind, LeasedVoice
from pipeline.engines.memory import WorkerMemory
from pipeline.engines.plans import LEASES, OFF, PEER_S, STAND_INS, Planner, SmallModel
from pipeline.engines.slot import TITLES, EnginePlan, Part, Slot
from pipeline.speakers.encoder import Direction, WorkerVoiceEncoder
from pipeline.speakers.people import Heard, People, Person
from pipeline.tts import ManyVoiced, TextToSpeech, VoiceChoice
from pipeline.turns.model import WorkerTurnModel
from pipeline.turns.vad import VoiceActivity, VoiceActivityLike
from pipeline.workers.place import MakePlace
from pipeline.workers.worker import Worker
from rag import MemoryVerbs

log = logging.getLogger(__name__)

AGAIN_S = 15.0
"""Seconds until a remote server that was unreachable is tried again."""


class Engines:
    def __init__(
        self,
        settings: Settings,
        data: Path,
        place: MakePlace = Worker,
        *,
        peer_s: float = PEER_S,
        again_s: float = AGAIN_S,
    ) -> None:
        """
        Args:
            place: creates the places where engines compute; by default a process each.
            peer_s: time limit for a start that depends on a remote server.
            again_s: seconds until such a start is tried again.
        """
        self.people = People(data)
        """The people whose voices are known."""
        self._planner = Planner(data, place, peer_s)
        self._again_s = again_s
        self._asking_again: asyncio.Task[None] | None = None
        self._change = asyncio.Event()
        self._stopped = False
        self._slots = {part: Slot(part, plan, self._changed) for part, plan in self._plans(settings).items()}
        self._changing = {part: asyncio.Lock() for part in self._slots}
        self._fresh: dict[Part, Slot] = {}
        """The slots that apply() is starting."""
        self._going: set[asyncio.Task[None]] = set()
        """Tasks that stop replaced engines once their current work is done."""
        self._waking: asyncio.Task[None] | None = None
        self._retries: dict[Part, asyncio.Task[None]] = {}

    async def start(self, *, without: Collection[str] = ()) -> None:
        """Start every part at once, except those left out. One that fails reports it in health() and stops no other."""
        slots = (slot for part, slot in self._slots.items() if part not in without)
        await asyncio.gather(*(slot.start() for slot in slots), return_exceptions=True)
        if not self._stopped and self._asking_again is None:
            self._asking_again = asyncio.create_task(self._ask_again())

    async def _ask_again(self) -> None:
        """Retry, again and again, what failed because of a remote server. Memory is not retried until the user asks,
        because a retry has to stop it: no two may use the same files."""
        while True:
            await asyncio.sleep(self._again_s)
            for part, slot in self._slots.items():
                if slot.lacking and not slot.wanted.alone:
                    self._try_beside(part, slot.wanted)

    async def stand_in(self) -> dict[str, str]:
        """For each failed stage, start an engine that needs only this computer, until apply() brings a better one.

        Returns:
            by stage, what to tell the user about the substitution.
        """
        failed = [part for part, name in STAND_INS.items()
                  if self._slots[part].status.state == "failed" and self._slots[part].plan.engine != name]  # fmt: skip
        told = await asyncio.gather(*(self._stand_in(part) for part in failed))
        return {part: text for part, text in zip(failed, told, strict=True) if text is not None}

    async def _stand_in(self, part: Part) -> str | None:
        async with self._changing[part]:
            slot = self._slots[part]
            if slot.status.state != "failed":  # a change has repaired it meanwhile
                return None
            plan = self._planner.chosen(cast(Stage, part), STAND_INS[part], Settings())
            other = Slot(part, plan, self._changed, instead_of=slot)
            try:
                await other.start()
                await self._take_over({part: other})
            except EngineError as error:  # only the original failure is reported: the user can fix that one
                log.warning("%s cannot take the place of %s: %s", plan.engine, slot.plan.engine, error)
                return None
            finally:
                if self._slots[part] is not other:
                    await other.stop()
            return f"{slot.status.last_error} {plan.label} is used until then."

    @asynccontextmanager
    async def resting(self, part: Part) -> AsyncIterator[None]:
        """Stop a part during the block to free its resources, then start loading it again without waiting for that.
        A part that is not running is left alone."""
        async with self._changing[part]:
            slot = self._slots[part]
            if slot.status.state != "ready":
                yield
                return
            try:
                await slot.stop()
                yield
            finally:  # also if cancelled while the part was being stopped
                if not self._stopped:
                    self._waking = asyncio.create_task(_wake(slot))

    async def apply(self, settings: Settings) -> list[str]:
        """Load what the settings change and what had failed. Return those parts.

        A new engine is ready before the old one stops, except for the memory, because no two may use the same files. An
        engine that can change in place does so last, when all others are ready. What is being heard, written or spoken
        finishes with the old engines; new work goes to the new ones. A conversation keeps its speaker: call stages()
        again to get a new one.

        Raises:
            EngineError: an engine that the settings ask for could not be started; everything is as it was.
        """
        plans = self._plans(settings)
        async with AsyncExitStack() as held:
            mine = self._concerned(plans)
            for part in mine:
                await held.enter_async_context(self._changing[part])
            # the call that held a part until now may already have loaded what is asked for
            asked = {part for part in mine if plans[part] != self._slots[part].wanted}
            again = {part for part in mine if self._slots[part].lacking} - asked
            changed = {part for part in asked if self._slots[part].can_become(plans[part])}
            fresh = {part: Slot(part, plans[part], self._changed) for part in mine if part in asked - changed | again}
            alone = [self._slots[part] for part in fresh if self._slots[part].plan.alone]
            self._fresh |= fresh
            try:
                await _stop(alone)
                results = await asyncio.gather(*(slot.start() for slot in fresh.values()), return_exceptions=True)
                for part, result in zip(fresh, results, strict=True):
                    if isinstance(result, BaseException) and (part in asked or not isinstance(result, EngineError)):
                        raise result
                for part in changed:
                    try:
                        await self._slots[part].become(plans[part])
                    except EngineError as error:
                        log.info("%s is loaded anew: %s", plans[part].engine, error)
                        self._fresh[part] = fresh[part] = Slot(part, plans[part], self._changed)
                        await fresh[part].start()
            except BaseException:
                await _stop([*fresh.values()])
                if not self._stopped:
                    await asyncio.gather(*(slot.start() for slot in alone), return_exceptions=True)
                raise
            finally:
                for part in fresh:
                    del self._fresh[part]
            await self._take_over(fresh)
            return [part for part in mine if part in fresh or part in changed]

    def _concerned(self, plans: Mapping[Part, EnginePlan]) -> list[Part]:
        """Return the parts to load, always in the same order, so that no two calls wait for each other.

        A part that is unchanged but failed because of a remote server is retried in the background instead.
        """
        concerned: list[Part] = []
        for part, plan in plans.items():
            slot = self._slots[part]
            if plan != slot.wanted:
                concerned.append(part)
                if (trying := self._retries.get(part)) is not None:
                    trying.cancel()
            elif slot.lacking and plan.patience_s is None:
                concerned.append(part)
            elif slot.lacking:
                self._try_beside(part, plan)
        return concerned

    def _try_beside(self, part: Part, plan: EnginePlan) -> None:
        if plan.patience_s is not None and part not in self._retries and not self._changing[part].locked():
            self._retries[part] = asyncio.create_task(self._retry(part, plan))

    async def _retry(self, part: Part, plan: EnginePlan) -> None:
        slot = Slot(part, plan, self._changed)
        try:
            async with self._changing[part]:
                if plan.alone:
                    await self._slots[part].stop()
                await slot.start()
                await self._take_over({part: slot})
        except EngineError as error:
            log.info("%s is still not here: %s", plan.engine, error)
        finally:
            del self._retries[part]
            if self._slots[part] is not slot:
                await slot.stop()

    async def _take_over(self, fresh: Mapping[Part, Slot]) -> None:
        """Send new work to the fresh slots; the old ones stop when their current work is done."""
        old = {part: self._slots[part] for part in fresh}
        for part, slot in fresh.items():
            old[part].give_way(slot)
        self._slots |= fresh
        self._changed()
        leaving = [slot for slot in old.values() if not slot.plan.alone]
        for slot in leaving:
            if slot.in_use:
                task = asyncio.create_task(slot.stop_when_idle())
                self._going.add(task)
                task.add_done_callback(self._going.discard)
        await _stop([slot for slot in leaving if not slot.in_use])

    def differing(self, one: Settings, other: Settings) -> set[str]:
        """Return the parts that a change from one to the other would load again."""
        plans, others = self._plans(one), self._plans(other)
        return {part for part, plan in plans.items() if plan != others[part]}

    def stages(self) -> Stages:
        """Return the stages for a conversation. The memory may still be loading: its calls wait.

        Raises:
            EngineError: a stage is loading or has failed, in one sentence.
        """
        turns = self._slots["turns"]
        return Stages(
            vad=partial(VoiceActivity, cast(SmallModel, self.running("vad")).model),
            ears=cast(LeasedEars, self.running("ears")),
            mind=cast(LeasedMind, self.running("mind")),
            voice=cast(LeasedVoice, self.running("voice")),
            memory=cast("WorkerMemory | None", self._slots["memory"].engine),
            finished=None if turns.status.state == "failed" else self._finished,
            speakers=self if self._slots["speakers"].plan.engine != OFF else None,
        )

    def vad(self) -> VoiceActivityLike:
        """Return a voice activity detector for this caller alone. Raises EngineError as `running` does."""
        return VoiceActivity(cast(SmallModel, self.running("vad")).model)

    def running(self, part: Part) -> Engine:
        """Return the engine of a part, whatever the state of the others.

        Raises:
            EngineError: it is loading or has failed, in one sentence.
        """
        slot = self._slots[part]
        status = slot.status
        if status.state == "ready" and slot.engine is not None:
            return slot.engine
        if status.state == "loading":
            raise EngineError(f"{TITLES[part]} ({status.engine}) is not ready yet: try again in a moment.")
        raise EngineError(status.last_error or f"{TITLES[part]} ({status.engine}) is not running.")

    def memory(self) -> MemoryVerbs:
        """Return the memory, whatever the state of the other parts. Its calls wait while it loads. Without its model or
        its Chroma server, it has failed, but goes on by words.

        Raises:
            EngineError: it could not be opened, in one sentence.
        """
        slot = self._slots["memory"]
        if slot.engine is None or slot.engine.status.state == "failed":
            raise EngineError(slot.status.last_error or "The memory is not open yet: try again in a moment.")
        return cast(MemoryVerbs, slot.engine)

    def health(self) -> dict[str, EngineStatus]:
        """Return the status by part: vad, turns, ears, mind, voice, memory and, if people are told apart, speakers."""
        return {part: slot.status for part, slot in self._slots.items() if slot.plan.engine != OFF}

    def busy(self) -> dict[str, int]:
        """Return by stage how much is being heard, written or spoken right now."""
        return {stage: self._slots[stage].busy for stage in LEASES}

    def reloading(self) -> dict[str, EngineStatus]:
        """Return the status of the parts that apply() is loading; the old ones run until these are ready."""
        return {part: slot.status for part, slot in self._fresh.items()}

    async def changes(self) -> AsyncIterator[dict[str, EngineStatus]]:
        """Yield the health now and after each change, until stop(). A slow consumer misses steps, but not the last."""
        while not self._stopped:
            change = self._change
            yield self.health()
            await change.wait()

    def own_voice(self) -> TextToSpeech:
        """Return the running voice as a conversation has it. Raises EngineError."""
        return cast(LeasedVoice, self.running("voice"))

    async def voices(self) -> list[VoiceChoice]:
        """Return the voices of the running voice engine; none if it has only one. Raises EngineError."""
        engine = cast(LeasedVoice, self.running("voice")).engine
        return await engine.voices() if isinstance(engine, ManyVoiced) else []

    async def stop(self) -> None:
        """Stop every engine and child process, loaded or still loading. Safe to call twice."""
        self._stopped = True
        asking = () if self._asking_again is None else (self._asking_again,)
        ending = (*self._going, *self._retries.values(), *asking)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        if self._waking is not None:
            self._waking.cancel()
            await asyncio.wait([self._waking])
        await _stop([*self._slots.values(), *self._fresh.values()])
        self._changed()

    async def direction(self, sound: Samples) -> Direction | None:
        """Return the direction of the voice in 16 kHz sound of one speaker; None for silence. Raises EngineError."""
        return await cast(WorkerVoiceEncoder, self.running("speakers")).direction(sound)

    def known(self) -> tuple[Person, ...]:
        """Return the people whose voices are known."""
        return self.people.all()

    async def learn(self, name: str, heard: Sequence[Heard], today: date) -> Person:
        """Learn a person's voice. Raises OSError."""
        return await asyncio.to_thread(self.people.learn, name, heard, today)

    async def forget(self, name: str) -> bool:
        """Forget what a person's voice is like. Raises OSError."""
        return await asyncio.to_thread(self.people.forget, name)

    async def _finished(self, samples: Samples) -> float:
        return await cast(WorkerTurnModel, self.running("turns")).finished(samples)

    def _plans(self, settings: Settings) -> dict[Part, EnginePlan]:
        return self._planner.plans(settings)

    def _changed(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()


async def _wake(slot: Slot) -> None:
    with suppress(EngineError):  # its status reports the error
        await slot.start()


async def _stop(slots: list[Slot]) -> None:
    await asyncio.gather(*(slot.stop() for slot in slots))
