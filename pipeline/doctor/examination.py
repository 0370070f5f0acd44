"""The examination: loads the engines if necessary, then runs check after check and reports each finding."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from config.cache import is_here
from config.packages import KOKORO
from config.settings import Settings
from pipeline.audio.portaudio import SoundCardError
from pipeline.doctor.answering import answering, remembering
from pipeline.doctor.check import PATIENCE_S, Check, Patient
from pipeline.doctor.computer import fetched, missing, room, suited
from pipeline.doctor.finding import Begun, Finding, Step, Verdict, Working
from pipeline.doctor.hearing import heard_back, noticing, understanding
from pipeline.doctor.sound import headphones, microphone
from pipeline.doctor.speaking import kokoro, precisions, speaking
from pipeline.ends.file import AudioFileError
from pipeline.engine import EngineError
from pipeline.engines.running import Engines
from pipeline.engines.trial import Clock

BEFORE = (Check("computer", "This computer", suited), Check("models", "Models", fetched))
"""The checks before anything is loaded."""

CHECKS = (
    Check("microphone", "Microphone", microphone),
    Check("speaker", "Headphones", headphones),
    Check("vad", "Noticing speech", noticing, "vad"),
    Check("ears", "Understanding", understanding, "ears"),
    Check("mind", "Answering", answering, "mind"),
    Check("voice", "Speaking", speaking, "voice"),
    Check("round", "Voice, heard back", heard_back, "ears"),
    Check("memory", "Remembering", remembering, "memory"),
    Check("room", "Memory of the computer", room),
)
KOKORO_TRIED = Check("kokoro", "Kokoro’s voices", kokoro)
PRECISIONS = Check("precisions", "The voice in each precision", precisions, "voice")

PARTS = {"vad": "the voice detection", "turns": "the turn model", "ears": "the ears", "mind": "the mind",
         "voice": "the voice", "memory": "the memory", "speakers": "the telling apart of voices"}  # fmt: skip


async def examine(
    engines: Engines,
    settings: Settings,
    data: Path,
    clock: Clock = time.monotonic,
    *,
    load: bool = False,
    talking: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[Step, None]:
    """Yield the start, progress and finding of each check. Close the generator (aclosing) to cancel.

    Args:
        load: start the engines first, except those whose models are not here; they are left running.
        talking: whether there is a conversation, which must not be disturbed.
    """
    patient = Patient(engines, settings, data, clock, talking)
    for check in BEFORE:
        async with aclosing(_carried_out(check, patient)) as steps:
            async for step in steps:
                yield step
    absent: set[str] = {choice.stage for choice in await asyncio.to_thread(missing, patient)}
    out_of_action = set(absent)
    if load:
        async with aclosing(loading(engines, absent, clock)) as steps:
            async for step in steps:
                yield step
        out_of_action |= {part for part, status in engines.health().items() if status.state == "failed"}
    further: tuple[Check, ...] = ()
    if settings.voice.engine == "csm":
        further = (PRECISIONS,)
    elif settings.voice.engine != "kokoro" and await asyncio.to_thread(is_here, KOKORO):
        further = (KOKORO_TRIED,)
    for check in (*CHECKS, *further):
        if check.needs in out_of_action:
            yield Finding(check.name, check.title, "skipped", "Its engine is not loaded: see above.")
            continue
        async with aclosing(_carried_out(check, patient)) as steps:
            async for step in steps:
                yield step


async def loading(engines: Engines, absent: set[str], clock: Clock) -> AsyncGenerator[Step, None]:
    """Start the engines all at once, and report how long each part took."""
    began = clock()
    starting = asyncio.create_task(engines.start(without=absent))
    told: set[str] = set(absent)
    said: dict[str, str] = {}
    try:
        async with aclosing(engines.changes()) as changes:  # type: ignore[type-var]  # an async generator
            async for health in changes:
                for part, status in health.items():
                    check, title = f"load-{part}", f"Loading {PARTS[part]} ({status.engine})"
                    if part in told or status.state == "stopped":
                        continue
                    if part not in said:
                        said[part] = ""
                        yield Begun(check, title)
                    if status.state in ("ready", "failed"):
                        told.add(part)
                        good = Verdict("good", "Loaded.", clock() - began)
                        bad = Verdict("bad", status.last_error or "It did not start.")
                        yield Finding.of(check, title, good if status.state == "ready" else bad)
                    elif status.progress is not None and status.progress.what not in ("loading", said[part]):
                        said[part] = status.progress.what
                        yield Working(check, title, said[part])
                if told >= set(health):
                    break
        await starting
    finally:
        starting.cancel()
        await asyncio.wait([starting])


async def _carried_out(check: Check, patient: Patient) -> AsyncGenerator[Step, None]:
    """Yield the steps of one check. Closing it cancels the check and waits until it has restored everything."""
    yield Begun(check.name, check.title)
    signs: asyncio.Queue[Working | None] = asyncio.Queue()
    looking = asyncio.create_task(_verdict(check, patient, signs.put_nowait))
    looking.add_done_callback(lambda _: signs.put_nowait(None))
    try:
        while (sign := await signs.get()) is not None:
            yield sign
        yield Finding.of(check.name, check.title, looking.result())
    finally:
        looking.cancel()
        await asyncio.wait([looking])


async def _verdict(check: Check, patient: Patient, sign: Callable[[Working], None]) -> Verdict:
    loop = asyncio.get_running_loop()
    patience = PATIENCE_S
    try:
        async with asyncio.timeout(patience) as limit:

            def tell(text: str, patience_s: float = PATIENCE_S, *, passing: bool = False) -> None:
                nonlocal patience
                patience = patience_s
                limit.reschedule(loop.time() + patience)
                sign(Working(check.name, check.title, text, passing))

            return await check.look(patient, tell)
    except (EngineError, AudioFileError, SoundCardError) as error:
        return Verdict("bad", str(error))
    except TimeoutError:
        return Verdict("bad", f"Nothing came within {patience:.0f} s: choose a smaller model, or restart Parley.")
