"""Creates engines from their entries in config/engines.py."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import cast

from config.engines import CATALOGUE, EngineSpec
from config.settings import Settings
from pipeline.engine import Engine, EngineError
from pipeline.turns.model import WorkerTurnModel
from pipeline.workers.place import MakePlace, Place, PlacedEngine, Wanted
from pipeline.workers.worker import Worker


def create(spec: EngineSpec, settings: Settings, data: Path, place: MakePlace = Worker) -> Engine:
    """Return the entry's engine, which computes in places created by `place`; by default in its own process.

    Raises:
        EngineError: its packages are not installed.
    """
    module, _, name = spec.target.partition(":")
    try:
        kind = getattr(import_module(module), name)
    except ImportError as error:
        raise EngineError(f"{spec.label} cannot be used ({error}): run `python3 setup.py` to install it.") from error
    arguments = spec.arguments(settings, data)
    return cast(Engine, kind(**arguments, place=place) if issubclass(kind, PlacedEngine) else kind(**arguments))


def wanted(stage: str, settings: Settings, data: Path) -> Wanted:
    """Return the place that a stage's engine requests, so that it can be created elsewhere.

    Args:
        stage: ears, turns or voice.

    Raises:
        EngineError: there is no such engine, or it does not use a place.
    """
    asked: list[Wanted] = []

    def noted(wanted: Wanted) -> Place:
        asked.append(wanted)
        return Worker(wanted)

    if stage == "turns":
        WorkerTurnModel(noted)
    elif spec := CATALOGUE.get((stage, getattr(settings, stage).engine)) if stage in ("ears", "voice") else None:
        create(spec, settings, data, noted)
    if not asked:
        raise EngineError(f"There is no engine for {stage!r} that could be deployed: choose ears, turns or voice.")
    return asked[0]
