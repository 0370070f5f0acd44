"""A real Ray cluster: talks whose ears and voice are there, while replicas are killed, taken away and replaced."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from config import SettingsStore
from config.settings import ClusterSettings, MemorySettings, Settings
from pipeline.audio import Samples
from pipeline.conversation.conversation import Conversation
from pipeline.ends.file import Held, hold, read_sound
from pipeline.engine import EngineError
from pipeline.engines.lease import LeasedEars, LeasedVoice
from pipeline.engines.running import Engines
from pipeline.stt import Hearing
from tests.integration.test_gateways import answer, ask, gateway, talk, until
from tests.support.ray_cluster import RayCluster, ray_cluster, wait_until
from tests.support.recordings import recording
from web.gateway import accounts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), pytest.mark.xdist_group("ray")]

QUESTION = "What is the weather in paris?"
STORY = "This is a long story, which somebody hears. " * 20
STAGES = ("ears", "turns", "voice")


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    with ray_cluster(tmp_path_factory.mktemp("ray")) as ray:
        ray.deploy(replicas=2)
        for stage in STAGES:
            wait_until(ray.running(stage, 2))
        yield ray


def settings(ray: RayCluster, key: str | None = None) -> Settings:
    address = ClusterSettings(url=ray.cluster.url, key=key or ray.cluster.key, stages=[*STAGES])
    return Settings(memory=MemorySettings(enabled=False), cluster=address)


class Talks:
    """Engines of which three are in the cluster."""

    def __init__(self, ray: RayCluster, data: Path) -> None:
        self.settings = settings(ray)
        self.engines = Engines(self.settings, data)
        self.question: Samples = read_sound(recording("weather_question.wav"))

    async def __aenter__(self) -> Talks:
        await self.engines.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engines.stop()

    def listen(self) -> Hearing:
        ears = self.engines.running("ears")
        assert isinstance(ears, LeasedEars)
        return ears.listen()

    async def said(self, text: str, now_and_then: Callable[[], Awaitable[None]] | None = None) -> list[str]:
        """The words as they were spoken; what is to be done meanwhile, twice."""
        voice = self.engines.running("voice")
        assert isinstance(voice, LeasedVoice)
        words: list[str] = []
        speaker, times = voice.speaker(), 0
        async with aclosing(speaker.speak(text)) as sounds:
            async for sound in sounds:
                words += [text[word.start : word.end] for word in sound.words]
                if now_and_then is not None and times < 2 and len(words) > 10 * (times + 1):
                    times += 1
                    await now_and_then()
        await speaker.close()
        return words

    async def turn(self) -> Held:
        async with Conversation(self.engines.stages(), self.settings, name="talk") as conversation:
            return await hold(conversation, [self.question])


async def test_a_talk_through_the_cluster(ray: RayCluster, tmp_path: Path) -> None:
    async with Talks(ray, tmp_path) as talks:
        assert {status.state for status in talks.engines.health().values()} == {"ready"}
        held = await talks.turn()
    (record,) = held.records
    assert record.user == QUESTION and record.heard and len(held.sound)
    assert not held.notices


class Killing:
    """One replica after the other, each once all are there: then also the one in use has been killed."""

    def __init__(self, ray: RayCluster, stage: str) -> None:
        self._ray, self._stage = ray, stage
        self._victims = sorted(ray.replicas(stage))
        self._dead: set[int] = set()

    @property
    def left(self) -> int:
        return len(self._victims)

    async def __call__(self) -> None:
        await asyncio.to_thread(wait_until, self._ray.running(self._stage, 2, frozenset(self._dead)))
        victim = self._victims.pop()
        self._dead.add(victim)
        os.kill(victim, signal.SIGKILL)


async def test_a_voice_that_is_killed_in_mid_sentence(ray: RayCluster, tmp_path: Path) -> None:
    async with Talks(ray, tmp_path) as talks:
        assert await talks.said(STORY, Killing(ray, "voice")) == STORY.split(), "each word once, by whoever is left"
        assert talks.engines.health()["voice"].state == "ready"


async def test_ears_that_are_killed_in_mid_turn(ray: RayCluster, tmp_path: Path) -> None:
    async with Talks(ray, tmp_path) as talks:
        hearing, kill = talks.listen(), Killing(ray, "ears")
        for part in np.array_split(talks.question, 3):
            await hearing.feed(part)
            if kill.left:
                await kill()
        assert (await hearing.finish()).text == QUESTION, "another one has heard all of it"
        await hearing.close()


def test_a_talk_through_a_gateway_goes_on_when_its_voice_is_killed(ray: RayCluster, tmp_path: Path) -> None:
    for stage in STAGES:
        wait_until(ray.running(stage, 2))
    SettingsStore(tmp_path).stage(settings(ray)).keep()
    token = accounts.add(tmp_path / accounts.FILE_NAME, "anna")
    with gateway(tmp_path) as product, talk(product, token) as (connection, _):
        for victim in sorted(ray.replicas("voice")):
            ask(connection, "Tell me about yourself.", "audio")
            until(connection, "response.output_audio.delta")
            os.kill(victim, signal.SIGKILL)
            (said,) = json.loads(answer(connection))
            assert said["status"] == "completed" and said["content"][0]["transcript"][-1] in ".!?", "to its end"
            wait_until(ray.running("voice", 2, frozenset({victim})))


async def test_a_rolling_update_and_scaling_down_lose_no_turn(ray: RayCluster, tmp_path: Path) -> None:
    for stage in STAGES:
        await asyncio.to_thread(wait_until, ray.running(stage, 2))
    async with Talks(ray, tmp_path) as talks:
        for replicas, data in ((2, "other-data"), (1, "other-data")):
            before = frozenset(process for stage in STAGES for process in ray.replicas(stage))
            old = before if replicas == 2 else frozenset[int]()
            deploying = asyncio.create_task(asyncio.to_thread(ray.deploy, replicas, data))
            while not deploying.done() or not all(ray.running(stage, replicas, old)() for stage in STAGES):
                spoken, held = await asyncio.gather(talks.said(STORY), talks.turn())
                assert spoken == STORY.split()
                assert [record.user for record in held.records] == [QUESTION]
                assert held.records[0].heard and not held.notices
            await deploying


async def test_what_is_wrong_with_a_cluster_is_told_in_a_sentence(ray: RayCluster, tmp_path: Path) -> None:
    async def told(wrong: Settings) -> str:
        engines = Engines(wrong, tmp_path)
        await engines.start(without=("vad", "turns", "ears", "mind", "memory"))
        sentence = engines.health()["voice"].last_error
        with pytest.raises(EngineError):
            engines.running("voice")
        await engines.stop()
        assert sentence is not None and "\n" not in sentence
        return sentence

    assert "refuses the key" in await told(settings(ray, key="another"))
    fast = settings(ray)
    fast.voice.words_per_minute = 300
    assert "with words_per_minute 175, and here it is 300" in await told(fast)
    nothing = settings(ray)
    nothing.cluster.url += "/nothing"
    assert "has no free replica of espeak" in await told(nothing)
