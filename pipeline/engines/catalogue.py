"""Engines made from their entries in config/engines.py."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import cast

from config.engines import EngineSpec
from config.settings import Settings
from pipeline.engine import Engine, EngineError
from pipeline.workers.place import MakePlace, PlacedEngine
from pipeline.workers.worker import Worker


def create(spec: EngineSpec, settings: Settings, data: Path, place: MakePlace = Worker) -> Engine:
    """The engine of that entry, which computes in places made by `place`; by default in a process of its own.

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
