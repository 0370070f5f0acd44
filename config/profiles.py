"""Profiles are data: which engines make up each. The setup page changes any single choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

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
    available: bool
    """Whether every engine of it is part of this version."""
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


PROFILES: Mapping[Name, Profile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile(
                "offline",
                "Nothing to download: small engines that run anywhere, with built-in replies and a synthetic voice.",
                available=True,
                ears=Choice("pocketsphinx"),
                mind=Choice("builtin"),
                voice=Choice("espeak"),
            ),
            Profile(
                "cpu",
                "Whisper, a language model on a server of your choice, and CSM in four bits. Not part of this version.",
                available=False,
                ears=Choice("whisper", "base.en"),
                mind=Choice("openai"),
                voice=Choice("csm"),
            ),
            Profile(
                "gpu",
                "Whisper large-v3-turbo, vLLM and CSM on one CUDA GPU. Not part of this version.",
                available=False,
                ears=Choice("whisper", "large-v3-turbo"),
                mind=Choice("vllm"),
                voice=Choice("csm"),
            ),
        )
    }
)
