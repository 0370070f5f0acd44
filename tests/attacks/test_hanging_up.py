"""A hundred talks hung up, each at another point of a turn: everything that they had opened is closed again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import psutil

from pipeline.audio import EAR_RATE, Samples
from pipeline.cleanup import uninterrupted
from pipeline.conversation.conversation import Conversation
from pipeline.conversation.stages import Stages
from pipeline.engine import EngineStatus, Report
from pipeline.engines.lease import LeasedEars, LeasedMind, LeasedVoice
from pipeline.engines.trial import transcribe
from pipeline.llm import LanguageModel, Prompt, Truncated
from pipeline.stt import Hearing, SpeechToText, Transcript
from pipeline.stt.pocketsphinx import _DECODERS, PocketSphinx
from pipeline.tools.calls import ToolCall
from pipeline.tts import Speaker, Spoken, TextToSpeech
from tests.support import virtual_time
from tests.support.scene import Scene, Told, end_of_the_sound

TALKS = 100
APART_S = 0.045
CLOSING_S = 0.02
"""What an engine takes to let go of something."""


class Engine:
    status = EngineStatus("counted", "ready")

    def __init__(self, opened: Counter[str]) -> None:
        self.opened = opened

    async def start(self, report: Report) -> None: ...

    async def stop(self) -> None: ...


class Ears(Engine):
    def __init__(self, ears: SpeechToText, opened: Counter[str]) -> None:
        super().__init__(opened)
        self._ears = ears

    def listen(self) -> Hearing:
        self.opened["hearing"] += 1
        return OneHearing(self._ears.listen(), self.opened)


class OneHearing:
    def __init__(self, hearing: Hearing, opened: Counter[str]) -> None:
        self._hearing = hearing
        self._opened = opened

    async def feed(self, samples: Samples) -> Transcript | None:
        return await self._hearing.feed(samples)

    async def finish(self) -> Transcript:
        return await self._hearing.finish()

    async def close(self) -> None:
        await asyncio.sleep(CLOSING_S)
        self._opened["hearing"] -= 1


class Mind(Engine):
    def __init__(self, mind: LanguageModel, opened: Counter[str]) -> None:
        super().__init__(opened)
        self._mind = mind

    async def reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall | Truncated, None]:
        self.opened["reply"] += 1
        try:
            async with aclosing(self._mind.reply(prompt)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            await asyncio.sleep(CLOSING_S)
            self.opened["reply"] -= 1


class Voice(Engine):
    def __init__(self, voice: TextToSpeech, opened: Counter[str]) -> None:
        super().__init__(opened)
        self._voice = voice

    def speaker(self) -> Speaker:
        self.opened["speaker"] += 1
        return OneSpeaker(self._voice.speaker(), self.opened)


class OneSpeaker:
    def __init__(self, speaker: Speaker, opened: Counter[str]) -> None:
        self._speaker = speaker
        self._opened = opened

    def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        return self._speaker.speak(text)

    async def user_said(self, text: str, samples: Samples) -> None:
        await asyncio.sleep(CLOSING_S)

    async def reply_heard(self, samples: int) -> None:
        self._opened["reply_heard"] += 1
        await asyncio.sleep(CLOSING_S)
        self._opened["reply_heard"] -= 1

    async def close(self) -> None:
        await asyncio.sleep(CLOSING_S)
        self._opened["speaker"] -= 1


def a_talk() -> Scene:
    """A turn with a pause in it, its reply, an interruption, one more reply: 4.5 s in which everything is open once."""
    scene = Scene(meaning=True)
    scene.user(0.2, 0.8, "tell me please")
    scene.user(1.0, 1.4, "what time it is")
    scene.reply("It is noon, and the sun is shining. Shall we go for a walk together?")
    scene.user(2.3, 3.3, "no thank you very much")
    return scene


async def hung_up(scene: Scene, stages: Stages, at: float, times: int) -> None:
    """Talk, and be cancelled after so many seconds; more than once, as when the server ends meanwhile."""

    async def converse() -> None:
        async with Conversation(stages, scene.settings, name="talk", now=scene.now) as conversation:
            told = Told([], [], [], [], [])
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(end_of_the_sound(conversation, told, scene))
                tasks.create_task(scene.microphone(conversation, 60))
                await asyncio.sleep(2.0)
                conversation.configure(scene.settings, stages=replace(stages, voice=LeasedVoice(stages.voice)))

    talk = asyncio.create_task(converse())
    await asyncio.sleep(at)
    for again in range(times):
        talk.cancel()
        await asyncio.sleep(0.001 * again)
    await asyncio.wait([talk])
    assert talk.cancelled()


def test_a_hundred_talks_hung_up_leave_nothing_open() -> None:
    async def hang_up_everywhere() -> tuple[Counter[str], set[str]]:
        scene, opened = a_talk(), Counter[str]()
        plain = scene.stages()
        ears = LeasedEars(Ears(plain.ears, opened))
        mind = LeasedMind(Mind(plain.mind, opened))
        voice = LeasedVoice(Voice(plain.voice, opened))
        stages = replace(plain, ears=ears, mind=mind, voice=voice)
        talks = (hung_up(scene, stages, APART_S * number, 1 + number % 4) for number in range(TALKS))
        await asyncio.gather(*talks)
        assert all(lease.idle for lease in (ears, mind, voice))
        left = asyncio.all_tasks() - {asyncio.current_task()}
        return +opened, {str(task.get_coro()) for task in left}

    opened, tasks = virtual_time.run(hang_up_everywhere())
    assert opened == Counter()
    assert tasks == set()


def test_the_cleaning_up_goes_on_while_its_task_is_cancelled_again_and_again() -> None:
    async def clean(done: list[str]) -> None:
        await asyncio.sleep(1)
        done.append("closed")

    async def cancel_often() -> list[str]:
        done: list[str] = []
        task = asyncio.create_task(uninterrupted(clean(done)))
        for _ in range(5):
            await asyncio.sleep(0.1)
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return done

    assert virtual_time.run(cancel_often()) == ["closed"]


async def test_real_ears_hear_after_more_talks_were_hung_up_than_they_have_recognisers() -> None:
    ears = PocketSphinx()
    await ears.start(lambda progress: None)
    processes = len(psutil.Process().children(recursive=True))
    leased, scene = LeasedEars(ears), Scene()
    stages = replace(scene.stages(), ears=leased)
    speech = np.full(EAR_RATE // 2, 0.1, np.float32)
    try:
        for round_ in range(_DECODERS + 2):
            conversation = Conversation(stages, scene.settings, name="talk")
            talk = asyncio.create_task(_speak_for_ever(conversation, speech))
            while leased.idle:  # noqa: ASYNC110 - until it is heard: nothing tells
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.02 * round_)
            talk.cancel()
            await asyncio.wait([talk])
            assert leased.idle
        assert await transcribe(leased, np.zeros(EAR_RATE, np.float32))
        assert len(psutil.Process().children(recursive=True)) == processes
    finally:
        await ears.stop()


async def _speak_for_ever(conversation: Conversation, speech: Samples) -> None:
    async with conversation:
        conversation.hear(speech)
        await conversation.caught_up()
        await asyncio.Event().wait()
