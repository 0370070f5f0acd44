"""What each part of the running set should be, according to the settings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from config.engines import CATALOGUE, Stage
from config.settings import Settings
from pipeline.engine import Engine, EngineError, EngineStatus, Report
from pipeline.engines.catalogue import create
from pipeline.engines.lease import LeasedEars, LeasedMind, LeasedVoice, Precedence
from pipeline.engines.memory import WorkerMemory
from pipeline.engines.slot import TITLES, EnginePlan, Part
from pipeline.speakers.encoder import WorkerVoiceEncoder
from pipeline.turns.model import WorkerTurnModel
from pipeline.turns.vad import load_model
from pipeline.workers.deployment import Cluster
from pipeline.workers.place import MakePlace
from pipeline.workers.ray import RayPlace
from rag import ChromaServer

LEASES: dict[Stage, Callable[[Any, Precedence], Engine]] = {
    "ears": LeasedEars,
    "mind": LeasedMind,
    "voice": LeasedVoice,
}

PEER_S = 45.0
"""Time limit for everything a remote server is asked when it is taken into use. A healthy one answers in 35 s, of which
it may take 30 to load its model."""

OFF = "off"
"""The engine of a part that is switched off."""

STAND_INS: dict[Part, str] = {"ears": "pocketsphinx", "mind": "builtin", "voice": "espeak"}
"""Engines that need nothing but this computer."""


class Planner:
    def __init__(self, data: Path, place: MakePlace, peer_s: float) -> None:
        """
        Args:
            place: creates the places where engines compute.
            peer_s: time limit for a start that depends on a remote server.
        """
        self._data = data
        self._place = place
        self._precedence = Precedence()
        self._peer_s = peer_s

    def plans(self, settings: Settings) -> dict[Part, EnginePlan]:
        memory, turns = settings.memory, self._place_of("turns", settings)
        chroma = ChromaServer(memory.chroma_host, memory.chroma_port) if memory.chroma_host else None
        open_memory = partial(
            WorkerMemory, self._data / "memory", owner=memory.owner, chroma=chroma, embedding=memory.embedding,
            place=self._place,
        )  # fmt: skip
        return {
            "vad": EnginePlan("silero", partial(SmallModel, "silero", load_model)),
            "turns": EnginePlan("smart-turn", partial(WorkerTurnModel, turns), made_of=_where("turns", settings),
                            patience_s=self._peer_s if "turns" in settings.cluster.stages else None),
            "ears": self.chosen("ears", settings.ears.engine, settings),
            "mind": self.chosen("mind", settings.mind.engine, settings),
            "voice": self.chosen("voice", settings.voice.engine, settings),
            "memory": EnginePlan("memory", open_memory, made_of=(memory.owner, chroma, memory.embedding), alone=True,
                            patience_s=self._peer_s if chroma else None),
            "speakers": EnginePlan("resemblyzer", partial(WorkerVoiceEncoder, self._place)) if memory.people
                        else EnginePlan(OFF, Nothing),
        }  # fmt: skip

    def chosen(self, stage: Stage, name: str, settings: Settings) -> EnginePlan:
        spec = CATALOGUE.get((stage, name))
        if spec is None:
            return EnginePlan(name, partial(_refuse, stage, name))

        def leased() -> Engine:
            place = self._place_of(stage, settings)
            return LEASES[stage](create(spec, settings, self._data, place), self._precedence)

        arguments = spec.arguments(settings, self._data)
        elsewhere = "url" in arguments or stage in settings.cluster.stages
        patience_s = self._peer_s if elsewhere else None
        return EnginePlan(name, leased, arguments, _where(stage, settings), patience_s=patience_s, label=spec.label)

    def _place_of(self, stage: str, settings: Settings) -> MakePlace:
        """Return the place to use: here, or in the cluster."""
        cluster = _where(stage, settings)
        return self._place if cluster is None else partial(RayPlace, cluster=cluster, stage=stage)


def _where(stage: str, settings: Settings) -> Cluster | None:
    """Return the cluster that runs a stage; None if it runs here."""
    chosen = settings.cluster
    return Cluster(chosen.url, chosen.key.get_secret_value()) if stage in chosen.stages else None


class SmallModel:
    """A model small enough to run in this process; only loading it happens off the event loop."""

    def __init__(self, engine: str, load: Callable[[], Any]) -> None:
        self._engine = engine
        self._load = load
        self.model: Any = None

    async def start(self, report: Report) -> None:
        self.model = await asyncio.to_thread(self._load)

    async def stop(self) -> None:
        """Do nothing: there is nothing to release."""

    @property
    def status(self) -> EngineStatus:
        return EngineStatus(self._engine, "stopped" if self.model is None else "ready")


class Nothing:
    """A part that is switched off."""

    async def start(self, report: Report) -> None:
        """Do nothing: there is nothing to load."""

    async def stop(self) -> None:
        """Do nothing: there is nothing to release."""

    @property
    def status(self) -> EngineStatus:
        return EngineStatus(OFF, "ready")


def _refuse(stage: Stage, name: str) -> NoReturn:
    known = ", ".join(spec.name for spec in CATALOGUE.values() if spec.stage == stage)
    raise EngineError(f"There is no engine {name!r} for {TITLES[stage].lower()}: choose one of {known}.")
