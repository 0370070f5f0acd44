"""Profiles are data: which engines make up each. One is proposed for a machine; the setup page changes any choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from config.hardware import GB, Hardware
from config.models import find
from config.settings import Settings

Name = Literal["offline", "cpu", "gpu"]


@dataclass(frozen=True, slots=True)
class Choice:
    engine: str
    model: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    name: Name
    line: str
    """One honest line for the setup page."""
    ears: Choice
    mind: Choice
    voice: Choice

    def applied_to(self, settings: Settings) -> Settings:
        """The settings with this profile's engines; everything else is kept."""
        changed = settings.model_copy(deep=True)
        changed.profile = self.name
        for stage, choice in ((changed.ears, self.ears), (changed.mind, self.mind), (changed.voice, self.voice)):
            stage.engine, stage.model = choice.engine, choice.model
        return changed

    @property
    def choices(self) -> tuple[tuple[Literal["ears", "mind", "voice"], Choice], ...]:
        return ("ears", self.ears), ("mind", self.mind), ("voice", self.voice)

    @property
    def gpu_bytes(self) -> int:
        """Of a graphics card, all its models together."""
        models = (find(stage, choice.engine, choice.model) for stage, choice in self.choices)
        return sum(model.gpu_bytes for model in models if model is not None)


PROFILES: Mapping[Name, Profile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile(
                "offline",
                "Nothing to download: small engines that run anywhere, with built-in replies and a synthetic voice.",
                ears=Choice("pocketsphinx"),
                mind=Choice("builtin"),
                voice=Choice("espeak"),
            ),
            Profile(
                "cpu",
                "Without a graphics card: Whisper, a language model on a server of yours, and CSM in four bits.",
                ears=Choice("whisper", "base.en"),
                mind=Choice("openai"),
                voice=Choice("csm"),
            ),
            Profile(
                "gpu",
                "On one NVIDIA card: Whisper large v3 turbo, a language model by vLLM, and CSM.",
                ears=Choice("whisper", "large-v3-turbo"),
                mind=Choice("vllm", "Qwen/Qwen3-4B-Instruct-2507"),
                voice=Choice("csm"),
            ),
        )
    }
)

MINDS_BY_SIZE = ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen3-4B-Instruct-2507", "Qwen/Qwen2.5-1.5B-Instruct",
                 "Qwen/Qwen2.5-0.5B-Instruct")  # fmt: skip
"""For vLLM beside Whisper and CSM on one card, the largest first."""

OLDEST_CARD = 7.5
"""CUDA's compute capability below which vLLM has no kernels (Turing, 2018, has 7.5)."""

CPU_MEMORY, CPU_CORES = 8 * GB, 4
"""What Whisper and CSM want of a machine without a card; less, and small engines serve better."""


@dataclass(frozen=True, slots=True)
class Proposal:
    profile: Profile
    why: str


def propose(hardware: Hardware) -> Proposal:
    """The profile for this machine, its language model as large as fits. A pure function of the hardware."""
    gpu = hardware.gpu
    without_card = "There is no NVIDIA card here"
    if gpu is not None:
        with_card = _for_card(hardware)
        if with_card is not None:
            return with_card
        without_card = f"The {gpu.name} has too little free memory ({gpu.free_bytes / GB:.1f} GB) for all three models"
        if gpu.capability and gpu.capability < OLDEST_CARD:
            without_card = f"The {gpu.name} is too old for today’s engines"
    if hardware.memory_bytes < CPU_MEMORY or hardware.cores < CPU_CORES:
        return Proposal(
            PROFILES["offline"],
            f"{without_card}, and {hardware.cores} cores with {hardware.memory_bytes / GB:.0f} GB of memory are few "
            "for a speech model.",
        )
    if not hardware.instructions & {"avx2", "neon"}:
        return Proposal(PROFILES["offline"], f"{without_card}, and the processor has neither AVX2 nor NEON.")
    return Proposal(
        PROFILES["cpu"],
        f"{without_card}; {hardware.cores} cores and {hardware.memory_bytes / GB:.0f} GB of memory are enough for "
        "Whisper, and for CSM in four bits.",
    )


def _for_card(hardware: Hardware) -> Proposal | None:
    gpu = hardware.gpu
    if gpu is None or (gpu.capability and gpu.capability < OLDEST_CARD):
        return None
    profile = PROFILES["gpu"]
    if hardware.system != "Linux":
        profile = replace(profile, mind=Choice("openai"))
        if gpu.free_bytes < profile.gpu_bytes:
            return None
        return Proposal(profile, f"The {gpu.name} has room for Whisper and CSM; vLLM runs on Linux only, so the "
                                 "language model comes from a server such as Ollama.")  # fmt: skip
    for mind in MINDS_BY_SIZE:
        fitting = replace(profile, mind=Choice("vllm", mind))
        if gpu.free_bytes >= fitting.gpu_bytes:
            return Proposal(
                fitting,
                f"The {gpu.name} has {gpu.free_bytes / GB:.0f} GB free; Whisper, CSM and {mind.partition('/')[2]} "
                f"take {fitting.gpu_bytes / GB:.0f} GB.",
            )
    return None
