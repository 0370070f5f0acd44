"""Checks whether the computer suits the chosen engines, their models are here, and memory is left."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import psutil

from config.cache import is_here
from config.engines import Stage, fetches
from config.hardware import GB, Hardware, ask_nvidia, in_words, look, resident
from config.models import Model, find, verdict
from config.profiles import PROFILES, propose
from config.settings import Settings
from pipeline.doctor.check import Patient, Tell
from pipeline.doctor.cuda import ask_torch, trouble
from pipeline.doctor.finding import Verdict

LOW_MEMORY = GB // 2
"""Free memory below which the system soon kills programs."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """An engine from the settings, and its model's entry in the table, if there is one."""

    stage: Stage
    engine: str
    name: str
    model: Model | None

    @property
    def label(self) -> str:
        return self.model.label if self.model is not None else self.name or self.engine

    def here(self) -> bool:
        return all(is_here(fetch) for fetch in fetches(self.stage, self.engine, self.name))


def chosen(settings: Settings) -> Iterator[Chosen]:
    for stage in get_args(Stage):
        choice = getattr(settings, stage)
        yield Chosen(stage, choice.engine, choice.model, find(stage, choice.engine, choice.model))


def missing(patient: Patient) -> list[Chosen]:
    """Return the choices whose models are not on this computer. Reads the disk."""
    return [choice for choice in _not_running(patient) if not choice.here()]


def _not_running(patient: Patient) -> list[Chosen]:
    """Return the choices that are not running; running ones have proved themselves and hold their memory already."""
    health = patient.engines.health()
    return [choice for choice in chosen(patient.settings) if health[choice.stage].state != "ready"]


async def suited(patient: Patient, tell: Tell) -> Verdict:
    hardware = await asyncio.to_thread(look)
    choices = _not_running(patient)
    gpu_trouble = ""
    if any(choice.model is not None and choice.model.gpu_bytes for choice in choices):
        gpu_trouble = hardware.gpu_trouble
        if hardware.gpu is not None:
            tell("asking PyTorch for the card")
            gpu_trouble = trouble(hardware.gpu, await ask_torch())
    found = judged(hardware, choices, gpu_trouble)
    patient.suits = found.grade != "bad"
    return found


def judged(hardware: Hardware, choices: list[Chosen], gpu_trouble: str = "") -> Verdict:
    """Judge the computer. A pure function of the hardware, the choices, and what is wrong with the card."""
    here = described(hardware)
    refusals = [
        f"{choice.label}: {found.why}"
        for choice in choices
        if choice.model is not None and (found := verdict(choice.model, hardware)).runs == "no"
    ]
    if refusals:
        name = propose(hardware).profile.name
        choose = f"`python3 main.py --profile {name}`"
        if gpu_trouble:  # everything else follows from that
            return Verdict("bad", f"{here}. {gpu_trouble} Until then, choose the profile {name}: {choose}.")
        advice = f"The profile {name} suits this computer: choose it with {choose}."
        return Verdict("bad", " ".join([f"{here}.", *refusals, advice]))
    if gpu_trouble:
        return Verdict("fair", f"{here}. {gpu_trouble}")
    together = sum(choice.model.gpu_bytes for choice in choices if choice.model is not None)
    gpu = hardware.gpu
    if gpu is not None and together > gpu.free_bytes:
        return Verdict("fair", f"{here}. The engines together take {in_words(together)} of the card: choose smaller "
                       "ones, or end the programs that use it.")  # fmt: skip
    return Verdict("good", f"{here}.")


def described(hardware: Hardware) -> str:
    cards = [f"{gpu.name} with {gpu.free_bytes / GB:.1f} of {gpu.memory_bytes / GB:.1f} GB free"
             for gpu in hardware.gpus]  # fmt: skip
    no_card = "an NVIDIA card that Parley cannot use" if hardware.gpu_trouble else "no NVIDIA card"
    if hardware.apple_silicon:
        no_card = "this Mac’s own GPU"
    return (
        f"{hardware.processor}, {hardware.cores} cores, {hardware.free_memory_bytes / GB:.1f} of "
        f"{hardware.memory_bytes / GB:.1f} GB of memory free, {_listed(cards or [no_card])}"
    )


async def fetched(patient: Patient, tell: Tell) -> Verdict:
    lacking = await asyncio.to_thread(missing, patient)
    if not lacking:
        return Verdict("good", "Everything that the chosen engines need is here.")
    if not patient.suits:
        return Verdict("skipped", "They are missing, but would not suit this computer anyway: see above.")
    names = _listed([f"{choice.label}{_size(choice.model)}" for choice in lacking])
    verb = "is" if len(lacking) == 1 else "are"
    return Verdict("bad", f"{names} {verb} not on this computer yet: `{command(patient.settings)}`, or “This computer” "
                   "on the setup page, downloads what is missing.")  # fmt: skip


def command(settings: Settings) -> str:
    """Return the command that downloads the settings' models, whether they are saved or only a profile being tried."""
    profile = PROFILES[settings.profile]
    same = all(
        (choice.engine, choice.model) == (getattr(settings, stage).engine, getattr(settings, stage).model)
        for stage, choice in profile.choices
    )
    return f"python3 setup.py models --profile {profile.name}" if same else "python3 setup.py models"


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _size(model: Model | None) -> str:
    return f" ({in_words(model.download_bytes)})" if model is not None and model.download_bytes else ""


async def room(patient: Patient, tell: Tell) -> Verdict:
    """Report the memory that Parley's processes hold together."""
    used = await asyncio.to_thread(resident, os.getpid(), children=True) or 0
    free = psutil.virtual_memory().available
    cards = await asyncio.to_thread(ask_nvidia)
    text = f"Parley holds {in_words(used)}, and {in_words(free)} are free"
    text += "".join(f"; {in_words(card.free_bytes)} free on the {card.name}" for card in cards)
    figures = {"memory_gb": round(used / GB, 2), "free_gb": round(free / GB, 2)}
    if free < LOW_MEMORY:
        return Verdict("fair", f"{text}: end other programs, or choose smaller models.", None, figures)
    return Verdict("good", f"{text}.", None, figures)
