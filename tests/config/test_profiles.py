"""Which profile is proposed for which computer, and why: on computers that are made up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from config.hardware import GB, Gpu, Hardware
from config.models import LLAMA_1B, QWEN_1_5B, QWEN_4B
from config.profiles import CARD_SETS, PROFILES, Choice, propose

MIB = 1024**2
LAPTOP = Hardware("Linux", "a laptop", 8, frozenset({"avx2"}), int(16.7 * GB), 9 * GB, free_disk_bytes=100 * GB)
SMALL_LAPTOP = replace(LAPTOP, memory_bytes=int(8.2 * GB))
MACBOOK = replace(LAPTOP, system="Darwin", processor="Apple M2", instructions=frozenset({"neon"}))


def with_cards(*cards: Gpu, system: str = "Linux") -> Hardware:
    return replace(LAPTOP, system=system, memory_bytes=32 * GB, gpus=cards)


def card(name: str, total: int, free: int, capability: float = 8.6) -> Gpu:
    """Total and free memory in MiB, as nvidia-smi has them."""
    return Gpu(name, total * MIB, free * MIB, "580.95", capability)


RTX_3060 = card("RTX 3060", 12288, 11900)
RTX_4090 = card("RTX 4090", 24564, 23010, 8.9)
CROWDED = card("RTX 4090", 24564, 400, 8.9)


@pytest.mark.parametrize(
    ("hardware", "profile", "ears", "mind", "why"),
    [
        (
            SMALL_LAPTOP,
            "small",
            "base",
            "llama",
            "Whisper, a language model and CSM need 12 GB of memory, but this computer has 8",
        ),
        (
            replace(LAPTOP, cores=2, memory_bytes=int(3.9 * GB)),
            "small",
            "base",
            "llama",
            "needs 4 cores, but this computer has 2.",
        ),
        (replace(LAPTOP, cores=1), "offline", "", "builtin", "needs 4 cores, but this computer has 1."),
        (
            replace(SMALL_LAPTOP, memory_bytes=3 * GB),
            "offline",
            "",
            "builtin",
            "12 GB of memory, but this computer has 3",
        ),
        (replace(LAPTOP, instructions=frozenset()), "offline", "", "builtin", "this one has neither"),
        (
            LAPTOP,
            "cpu",
            "base.en",
            "llama",
            "No NVIDIA graphics card was found. 8 cores and 17 GB of memory are enough",
        ),
        (MACBOOK, "cpu", "base.en", "llama", "No NVIDIA graphics card was found."),
        (with_cards(RTX_3060), "gpu", "large-v3-turbo", "Qwen/Qwen2.5-1.5B-Instruct", "has 12.5 GB free; Whisper"),
        (with_cards(card("RTX 3060", 12288, 11000)), "gpu", "small", "Qwen/Qwen2.5-1.5B-Instruct", "take 11.2 GB."),
        (with_cards(card("RTX 3070", 8192, 7700)), "gpu", "large-v3-turbo", "openai", "server such as Ollama."),
        (
            with_cards(card("RTX 3050", 4096, 3900)),
            "cpu",
            "base.en",
            "llama",
            "has 4.1 GB free, and Whisper and CSM",
        ),
        (with_cards(RTX_4090), "gpu", "large-v3-turbo", "Qwen/Qwen3-4B-Instruct-2507", "take 18.1 GB."),
        (with_cards(card("H100", 81559, 80990, 9.0)), "gpu", "large-v3-turbo", "Qwen/Qwen2.5-7B-Instruct", "26.1 GB."),
        (
            with_cards(CROWDED),
            "cpu",
            "base.en",
            "llama",
            "end the programs that use it (`nvidia-smi` lists them)",
        ),
        (with_cards(RTX_3060, RTX_4090), "gpu", "large-v3-turbo", "Qwen/Qwen3-4B-Instruct-2507", "The RTX 4090 has"),
        (with_cards(CROWDED, RTX_3060), "gpu", "large-v3-turbo", "Qwen/Qwen2.5-1.5B-Instruct", "The RTX 3060 has"),
        (
            with_cards(card("GTX 1080 Ti", 11264, 11000, 6.1)),
            "cpu",
            "base.en",
            "llama",
            "too old for today’s engines.",
        ),
        (with_cards(RTX_4090, system="Windows"), "gpu", "large-v3-turbo", "openai", "vLLM runs on Linux only"),
        (
            replace(LAPTOP, gpu_trouble="The driver hangs."),
            "cpu",
            "base.en",
            "llama",
            "The driver hangs. 8 cores",
        ),
    ],
)
def test_the_profile_follows_from_the_hardware(
    hardware: Hardware, profile: str, ears: str, mind: str, why: str
) -> None:
    proposal = propose(hardware)
    assert (proposal.profile.name, proposal.profile.ears.model) == (profile, ears)
    assert mind in (proposal.profile.mind.engine, proposal.profile.mind.model)
    assert why in proposal.why
    assert proposal.why.endswith(".")
    if hardware.gpu is not None and profile == "gpu":
        assert proposal.profile.gpu_bytes <= hardware.gpu.free_bytes


def test_more_cores_and_memory_get_a_larger_mind() -> None:
    usual = propose(replace(LAPTOP, cores=4)).profile.mind.model
    assert usual == propose(replace(LAPTOP, memory_bytes=12 * GB)).profile.mind.model == QWEN_1_5B
    assert propose(LAPTOP).profile.mind.model == QWEN_4B


def test_two_cores_are_offered_more_than_they_begin_with() -> None:
    begun = PROFILES["small"]
    assert propose(replace(SMALL_LAPTOP, cores=2)).profile == replace(begun, mind=Choice("llama", LLAMA_1B))
    assert propose(replace(SMALL_LAPTOP, cores=2, memory_bytes=4 * GB)).profile == begun


def test_the_sets_for_a_card_go_from_the_largest_to_the_smallest() -> None:
    sizes = [replace(PROFILES["gpu"], ears=ears, mind=mind).gpu_bytes for ears, mind in CARD_SETS]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
