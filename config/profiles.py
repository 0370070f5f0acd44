"""Profiles and the engines that belong to each, as data. One is proposed for a machine; any choice can be changed on
the setup page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from config.engines import PIPER
from config.hardware import GB, Hardware, in_words
from config.models import LLAMA_1B, QWEN_1_5B, QWEN_4B, find
from config.packages import SMOLLM2_135M
from config.settings import Settings

Name = Literal["offline", "small", "cpu", "gpu"]


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
        """Return the settings with this profile's engines; everything else is kept."""
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
        """Memory on a graphics card that all its models need together."""
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
                "small",
                "On two cores: Whisper, a very small language model, and a clear voice.",
                ears=Choice("whisper", "base"),
                mind=Choice("llama", SMOLLM2_135M.name),
                voice=Choice("piper", PIPER),
            ),
            Profile(
                "cpu",
                "Without a graphics card: Whisper, a small language model, and CSM in four bits.",
                ears=Choice("whisper", "base.en"),
                mind=Choice("llama", QWEN_1_5B),
                voice=Choice("csm"),
            ),
            Profile(
                "gpu",
                "On one NVIDIA card: Whisper large v3 turbo, a language model on vLLM, and CSM.",
                ears=Choice("whisper", "large-v3-turbo"),
                mind=Choice("vllm", "Qwen/Qwen3-4B-Instruct-2507"),
                voice=Choice("csm"),
            ),
        )
    }
)

CARD_SETS = tuple(
    (Choice("whisper", ears), Choice("vllm", mind) if mind else Choice("openai"))
    for ears, mind in (
        ("large-v3-turbo", "Qwen/Qwen2.5-7B-Instruct"),
        ("large-v3-turbo", "Qwen/Qwen3-4B-Instruct-2507"),
        ("large-v3-turbo", "Qwen/Qwen2.5-1.5B-Instruct"),
        ("small", "Qwen/Qwen2.5-1.5B-Instruct"),
        ("large-v3-turbo", ""),
        ("small", ""),
    )
)
"""Pairs of ears and mind that fit beside CSM on one card, best first. Smaller ears hurt a conversation less than a mind
of half a billion parameters; if no larger mind fits, a server provides it."""

OLDEST_CARD = 7.5
"""CUDA's compute capability below which vLLM has no kernels (Turing, 2018, has 7.5)."""

CPU_MEMORY, CPU_CORES = 12 * GB, 4
"""What the profile cpu needs: CSM 4.5 GB while it loads, the language model 1.6, Whisper 0.5, Parley 1 GB, and the rest
for the system."""

LARGER_MEMORY, LARGER_CORES = 16 * GB, 8
"""From here on its mind is the larger one, which takes 3.9 GB and three times the work per word."""


LLAMA_MEMORY = int(5.5 * GB)
"""From here on, two cores are offered a mind of a billion parameters: 1.3 GB, and half of this stays free."""
SMALL_MEMORY, SMALL_CORES = int(3.6 * GB), 2
"""What the profile small needs: a machine sold with 4 GB, some of which the system reserves. Its engines take 1.4 GB
together, Parley 1 GB."""


@dataclass(frozen=True, slots=True)
class Proposal:
    profile: Profile
    why: str


def propose(hardware: Hardware) -> Proposal:
    """Return the profile for this machine with the best models that fit. A pure function of the hardware."""
    with_card = _for_card(hardware)
    if with_card is not None:
        return with_card
    no_card = _why_no_card(hardware)
    cores, memory = hardware.cores, f"{hardware.memory_bytes / GB:.0f} GB of memory"
    least = PROFILES["small" if runs_small(hardware) else "offline"]
    if least.name == "small" and hardware.memory_bytes >= LLAMA_MEMORY:
        least = replace(least, mind=Choice("llama", LLAMA_1B))
    if cores < CPU_CORES:
        return Proposal(least, f"{no_card} CSM needs {CPU_CORES} cores, but this computer has {cores}.")
    if hardware.memory_bytes < CPU_MEMORY:
        wanted = f"Whisper, a language model and CSM need {CPU_MEMORY / GB:.0f} GB of memory"
        return Proposal(least, f"{no_card} {wanted}, but this computer has {hardware.memory_bytes / GB:.0f} GB.")
    if not hardware.instructions & {"avx2", "neon"}:
        return Proposal(
            least, f"{no_card} Larger engines need a processor with AVX2 or NEON, but this one has neither."
        )
    profile = PROFILES["cpu"]
    if cores >= LARGER_CORES and hardware.memory_bytes >= LARGER_MEMORY:
        profile = replace(profile, mind=Choice("llama", QWEN_4B))
    return Proposal(profile, f"{no_card} {cores} cores and {memory} are enough for Whisper, a small "
                                     "language model, and CSM in four bits.")  # fmt: skip


def runs_small(hardware: Hardware) -> bool:
    """Whether the profile small keeps up with a conversation on this machine."""
    enough = hardware.cores >= SMALL_CORES and hardware.memory_bytes >= SMALL_MEMORY
    return enough and bool(hardware.instructions & {"avx2", "neon"})


def _for_card(hardware: Hardware) -> Proposal | None:
    gpu = hardware.gpu
    if gpu is None or (gpu.capability and gpu.capability < OLDEST_CARD):
        return None
    linux = hardware.system == "Linux"
    for ears, mind in CARD_SETS:
        fitting = replace(PROFILES["gpu"], ears=ears, mind=mind)
        if gpu.free_bytes < fitting.gpu_bytes or (mind.engine == "vllm" and not linux):
            continue
        taken = in_words(fitting.gpu_bytes)
        room = f"The {gpu.name} has {in_words(gpu.free_bytes)} free; Whisper {ears.model}"
        if mind.engine == "vllm":
            return Proposal(fitting, f"{room}, CSM and {mind.model.partition('/')[2]} take {taken}.")
        why = "No language model fits beside them" if linux else "vLLM runs on Linux only"
        return Proposal(fitting, f"{room} and CSM take {taken}. {why}, so choose a language model on a server such "
                                 "as Ollama.")  # fmt: skip
    return None


def _why_no_card(hardware: Hardware) -> str:
    gpu = hardware.gpu
    if gpu is None:
        return hardware.gpu_trouble or "No NVIDIA graphics card was found."
    if gpu.capability and gpu.capability < OLDEST_CARD:
        return f"The {gpu.name} is too old for today’s engines."
    ears, mind = CARD_SETS[-1]
    least = replace(PROFILES["gpu"], ears=ears, mind=mind).gpu_bytes
    found = f"The {gpu.name} has {in_words(gpu.free_bytes)} free, and Whisper and CSM take {in_words(least)}"
    if gpu.memory_bytes >= least:
        return f"{found}: end the programs that use it (`nvidia-smi` lists them) and try again."
    return f"{found}."
