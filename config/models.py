"""The models to choose from, what each needs, and whether a machine can run it.

Sizes are those of the published files. Memory is what the weights and the computation need in the precision that is
used, rounded up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from config.cache import is_here
from config.engines import CATALOGUE, CSM_1B, KOKORO_82M, PIPER, Stage, fetches, named
from config.hardware import GB, Hardware, in_words
from config.packages import KOKORO, PIPER_JOE, SMOLLM2_135M, WHISPER_BASE, Packaged

Runs = Literal["well", "slowly", "no"]


@dataclass(frozen=True, slots=True)
class Model:
    stage: Stage
    engine: str
    name: str
    """Its name in the settings; empty if the engine includes its own model."""
    label: str
    line: str
    download_bytes: int = 0
    memory_bytes: int = 0
    """RAM it needs on a CPU."""
    gpu_bytes: int = 0
    """Memory it needs on a graphics card; 0 if it does not use one."""
    on_processor: Runs = "well"
    """How it runs on a CPU with at least `cores`."""
    cores: int = 1
    linux_only: bool = False


@dataclass(frozen=True, slots=True)
class Suitability:
    """Whether a machine can run a model, and the reason in one line."""

    runs: Runs
    why: str


def _own(stage: Stage, engine: str, memory: int = 0) -> Model:
    """The row of an engine that includes its own model, or whose model is on a server."""
    spec = CATALOGUE[stage, engine]
    return Model(stage, engine, "", spec.label, spec.line, memory_bytes=memory)


def _whisper(name: str, label: str, line: str, disk: float, memory: float, gpu: float, runs: Runs, cores: int) -> Model:
    return Model(
        "ears", "whisper", name, label, line, int(disk * GB), int(memory * GB), int(gpu * GB), runs, cores
    )  # fmt: skip


def _language(
    engine: str, name: str, label: str, line: str, disk: float, memory: float, gpu: float, runs: Runs, cores: int
) -> Model:
    return Model(
        "mind", engine, name, label, line,
        int(disk * GB), int(memory * GB), int(gpu * GB), runs, cores,
        linux_only=engine == "vllm",
    )  # fmt: skip


LLAMA_1B = "bartowski/Llama-3.2-1B-Instruct-GGUF/Llama-3.2-1B-Instruct-Q4_K_M.gguf"
QWEN_1_5B = "Qwen/Qwen2.5-1.5B-Instruct-GGUF/qwen2.5-1.5b-instruct-q4_k_m.gguf"
QWEN_4B = "unsloth/Qwen3-4B-Instruct-2507-GGUF/Qwen3-4B-Instruct-2507-Q4_K_M.gguf"

MODELS = (
    _own("ears", "pocketsphinx", memory=GB // 5),
    _whisper("tiny.en", "Whisper tiny", "English, quick, and often wrong.", 0.08, 0.4, 0.6, "well", 2),
    _whisper("base.en", "Whisper base", "English, good for everyday sentences.", 0.15, 0.5, 0.8, "well", 2),
    Model("ears", "whisper", "base", "Whisper base, all languages", "Ninety languages, good for everyday sentences.",
          WHISPER_BASE.download_bytes, int(0.5 * GB), int(0.8 * GB), cores=2),
    _whisper("small", "Whisper small", "Ninety languages, better with names.", 0.49, 1.0, 1.4, "well", 8),
    _whisper("large-v3-turbo", "Whisper large v3 turbo", "Ninety languages; the best of these.",
             1.62, 2.2, 2.3, "slowly", 8),
    _own("mind", "builtin"),
    _own("mind", "openai"),
    _language("vllm", "Qwen/Qwen2.5-0.5B-Instruct", "Qwen2.5 0.5B, by vLLM", "Simple conversation.",
              1.0, 4.0, 3.0, "well", 4),
    _language("vllm", "Qwen/Qwen2.5-1.5B-Instruct", "Qwen2.5 1.5B, by vLLM", "Everyday conversation.",
              3.1, 6.5, 5.0, "slowly", 8),
    _language("vllm", "Qwen/Qwen3-4B-Instruct-2507", "Qwen3 4B, by vLLM", "Good conversation on almost anything.",
              8.1, 12.0, 11.0, "no", 8),
    _language("vllm", "Qwen/Qwen2.5-7B-Instruct", "Qwen2.5 7B, by vLLM", "The best of these; needs a large card.",
              15.3, 20.0, 19.0, "no", 8),
    _language("llama", SMOLLM2_135M.name, "SmolLM2 135M", "A very small model that only chats, in English.",
              0.093, 0.5, 0, "well", 2),
    _language("llama", LLAMA_1B, "Llama 3.2 1B", "Simple conversation.", 0.81, 1.3, 0, "well", 2),
    _language("llama", QWEN_1_5B, "Qwen2.5 1.5B", "Everyday conversation.", 1.12, 1.6, 0, "well", 4),
    _language("llama", "bartowski/Llama-3.2-3B-Instruct-GGUF/Llama-3.2-3B-Instruct-Q4_K_M.gguf", "Llama 3.2 3B",
              "Good conversation.", 2.02, 3.2, 0, "well", 8),
    _language("llama", QWEN_4B, "Qwen3 4B", "Good conversation on almost anything.", 2.5, 3.9, 0, "well", 8),
    _language("transformers", "HuggingFaceTB/SmolLM2-360M-Instruct", "SmolLM2 360M", "Simple and quick, in English.",
              0.73, 2.1, 1.5, "well", 4),
    _language("transformers", "Qwen/Qwen2.5-0.5B-Instruct", "Qwen2.5 0.5B", "Simple conversation.",
              1.0, 2.6, 2.0, "well", 4),
    _language("transformers", "Qwen/Qwen2.5-1.5B-Instruct", "Qwen2.5 1.5B, by Transformers", "Everyday conversation.",
              3.1, 6.8, 4.5, "slowly", 8),
    _own("voice", "espeak", memory=GB // 20),
    Model("voice", "piper", PIPER, "Piper, the voice Joe", "Clear, and quick enough on two cores. American English.",
          PIPER_JOE.download_bytes, int(0.3 * GB), cores=2),
    Model("voice", "kokoro", KOKORO_82M, "Kokoro", "28 natural voices, American and British.",
          KOKORO.download_bytes, int(0.5 * GB), cores=4),
    Model("voice", "csm", CSM_1B, "CSM-1B", "A natural voice, cloned from a recording that you choose.",
          int(6.6 * GB), int(4.5 * GB), int(4.8 * GB), "slowly", 4),
)  # fmt: skip


def find(stage: Stage, engine: str, name: str) -> Model | None:
    """Return the entry in this table, if there is one."""
    wanted = stage, engine, named(stage, engine, name)
    return next((model for model in MODELS if (model.stage, model.engine, model.name) == wanted), None)


def licence(model: Model) -> str:
    """Return the licence of a packaged model; the hub states the licences of its own models."""
    files = fetches(model.stage, model.engine, model.name)
    return ", ".join(dict.fromkeys(fetch.licence for fetch in files if isinstance(fetch, Packaged)))


def is_downloaded(model: Model) -> bool:
    """Whether all its files are on this computer; False if it has none. Reads the disk."""
    files = fetches(model.stage, model.engine, model.name)
    return bool(files) and all(is_here(fetch) for fetch in files)


def verdict(model: Model, hardware: Hardware) -> Suitability:
    """Say whether this machine can run the model."""
    if model.linux_only and hardware.system != "Linux":
        return Suitability("no", "vLLM runs on Linux only: choose a server such as Ollama instead.")
    gpu = hardware.gpu
    if model.gpu_bytes and gpu is not None and gpu.free_bytes >= model.gpu_bytes:
        free = in_words(gpu.free_bytes)
        return Suitability("well", f"Uses {in_words(model.gpu_bytes)} of the {free} free on the {gpu.name}.")
    if hardware.memory_bytes < model.memory_bytes:
        need, have = in_words(model.memory_bytes), in_words(hardware.memory_bytes)
        return Suitability("no", f"Needs {need} of memory, but this computer has {have}.")
    if model.on_processor == "no":
        found = "none was found" if gpu is None else f"the {gpu.name} has {in_words(gpu.free_bytes)}"
        return Suitability("no", f"Needs an NVIDIA graphics card with {in_words(model.gpu_bytes)} free; {found}.")
    if model.engine in ("csm", "llama") and not hardware.instructions & {"avx2", "neon"}:
        return Suitability("no", "Needs a processor with AVX2 or NEON.")
    if hardware.cores < model.cores:
        return Suitability(
            "slowly", f"Needs {model.cores} cores to keep up with speech, but this computer has {hardware.cores}."
        )
    if model.on_processor == "slowly":
        if model.engine == "csm" and hardware.apple_silicon:
            return Suitability(
                "slowly",
                "Speaks on this Mac’s own GPU, in 4 bits until “Check setup” has found a better precision "
                "that keeps up.",
            )
        if model.engine == "csm":
            return Suitability(
                "slowly", "Without a graphics card, it speaks in 4 bits, and barely keeps up with speech."
            )
        return Suitability("slowly", "Works without a graphics card, with a pause before each answer.")
    return Suitability(
        "well", f"Uses {in_words(model.memory_bytes)} of memory." if model.memory_bytes else "Needs hardly any memory."
    )


def room_for(need: int, hardware: Hardware) -> Suitability:
    """Say whether the disk has room for a download of `need` bytes."""
    if need <= hardware.free_disk_bytes:
        return Suitability("well", f"{in_words(need)} to download.")
    return Suitability(
        "no", f"{in_words(need)} to download, but the disk has only {in_words(hardware.free_disk_bytes)} free."
    )
