"""What a machine has, and what is made of it: on machines that are made up, and once on this one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from config.cache import free_disk, hub_cache
from config.engines import CATALOGUE, fetches
from config.fetches import language_model_files
from config.hardware import GB, Gpu, Hardware, in_words, look, resident
from config.models import MODELS, find, room_for, verdict
from config.profiles import PROFILES
from config.settings import Settings

LAPTOP = Hardware("Linux", "a laptop", 8, frozenset({"avx2"}), 16 * GB, 9 * GB, free_disk_bytes=100 * GB)
NETBOOK = replace(LAPTOP, cores=2, memory_bytes=4 * GB)


def with_card(free: float, *, system: str = "Linux", capability: float = 8.6) -> Hardware:
    card = Gpu("RTX 4090", int(24 * GB), int(free * GB), "560.0", capability)
    return replace(LAPTOP, system=system, gpus=(card,))


def test_this_machine_has_what_every_machine_has() -> None:
    found = look()
    assert found.cores >= 1
    assert 0 < found.free_memory_bytes <= found.memory_bytes
    assert found.free_disk_bytes > 0
    assert found.processor


def test_no_two_models_of_a_stage_have_one_name() -> None:
    shown = [(model.stage, model.label) for model in MODELS]
    assert sorted(set(shown)) == sorted(shown)


def test_bytes_as_people_say_them() -> None:
    sizes = (0, 1, 23_400, 12_340_000, 50_000_000, 999_499_999, 999_500_000, 1_620_000_000, 24 * GB)
    assert [in_words(size) for size in sizes] == [
        *("0 kB", "1 kB", "24 kB", "12.3 MB", "50 MB", "999 MB", "1.0 GB", "1.6 GB", "24.0 GB")
    ]


def test_what_a_process_holds() -> None:
    alone, all_of_it = resident(os.getpid()), resident(os.getpid(), children=True)
    assert alone and all_of_it and all_of_it >= alone // 2
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert resident(ended.pid) is None


def test_models_are_kept_where_the_hub_keeps_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert hub_cache() == Path.home() / ".cache" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert hub_cache() == tmp_path / "hub"
    assert free_disk(tmp_path / "not" / "yet") > 0


def runs(stage: str, engine: str, name: str, hardware: Hardware) -> str:
    model = find(stage, engine, name)  # type: ignore[arg-type]  # any word
    assert model is not None
    return verdict(model, hardware).runs


def test_the_table_says_what_runs_here_and_why() -> None:
    assert runs("voice", "csm", "", with_card(23)) == "well"
    assert runs("voice", "csm", "", LAPTOP) == "slowly"
    assert runs("voice", "csm", "", NETBOOK) == "no"
    csm, mac = find("voice", "csm", ""), replace(LAPTOP, system="Darwin", instructions=frozenset({"neon"}), mlx=True)
    assert csm is not None and "Mac’s own GPU" in verdict(csm, mac).why
    assert "GPU" not in verdict(csm, replace(mac, mlx=False)).why
    assert "GPU" not in verdict(csm, replace(mac, system="Linux")).why  # there MLX serves the tests
    assert runs("ears", "whisper", "base.en", LAPTOP) == "well"
    assert runs("ears", "whisper", "large-v3-turbo", LAPTOP) == "slowly"
    assert runs("mind", "vllm", "Qwen/Qwen2.5-7B-Instruct", LAPTOP) == "no"
    assert runs("mind", "vllm", "Qwen/Qwen2.5-0.5B-Instruct", replace(LAPTOP, system="Windows")) == "no"
    for engine in ("pocketsphinx", "builtin", "espeak"):
        model = next(model for model in MODELS if model.engine == engine)
        assert verdict(model, NETBOOK).runs == "well", "the offline profile runs anywhere"
    csm = find("voice", "csm", "")
    assert csm is not None
    assert "has 6.0 GB" in verdict(find("mind", "vllm", "Qwen/Qwen3-4B-Instruct-2507") or csm, with_card(6)).why
    assert room_for(csm.download_bytes, LAPTOP).runs == "well"
    assert room_for(csm.download_bytes, replace(LAPTOP, free_disk_bytes=GB)).runs == "no"


def test_what_a_choice_fetches(tmp_path: Path) -> None:
    assert [fetch.repository for fetch in fetches("voice", "csm", "")] == [
        "sesame/csm-1b",
        "kyutai/moshiko-pytorch-bf16",
    ]
    assert fetches("ears", "whisper", "medium.en")[0].repository == "Systran/faster-whisper-medium.en"
    assert fetches("ears", "whisper", "someone/whisper-ct2")[0].repository == "someone/whisper-ct2"
    assert fetches("mind", "vllm", "someone/llama") == (language_model_files("someone/llama"),)
    assert fetches("mind", "openai", "llama3") == (), "the server has it"
    assert fetches("voice", "espeak", "") == ()
    for folder in (str(tmp_path), str(tmp_path / "missing"), "./here", "~/there"):
        assert fetches("mind", "vllm", folder) == (), "a folder of the user's"


def test_every_choice_of_a_profile_is_in_the_table() -> None:
    for profile in PROFILES.values():
        for stage, choice in profile.choices:
            assert (stage, choice.engine) in CATALOGUE
            assert find(stage, choice.engine, choice.model) is not None, choice
        kept = profile.applied_to(Settings())
        assert (kept.ears.engine, kept.ears.model) == (profile.ears.engine, profile.ears.model)
