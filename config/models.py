"""The models there are to choose from, what each needs, and whether a machine has it. Data and pure functions.

Sizes are those of the published files; memory is what the weights take in the precision that is used, with what is
computed beside them, rounded up.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from config.fetches import MIMI, Fetch, language_model_files, speech_model_files, whisper_files
from config.hardware import GB, Hardware

Stage = Literal["ears", "mind", "voice"]
Runs = Literal["well", "slowly", "no"]


@dataclass(frozen=True, slots=True)
class Model:
    stage: Stage
    engine: str
    name: str
    """As the settings have it; empty where the engine brings its own."""
    label: str
    line: str
    download_bytes: int = 0
    memory_bytes: int = 0
    """Of the machine, when it runs on the processor."""
    gpu_bytes: int = 0
    """Of a graphics card, when it runs there; 0: it does not use one."""
    on_processor: Runs = "well"
    """How it runs without a graphics card, given `cores`."""
    cores: int = 1
    linux_only: bool = False
    fetches: tuple[Fetch, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a machine can run a model, and why, in one line."""

    runs: Runs
    why: str


CSM_1B = "sesame/csm-1b"
TURBO = "mobiuslabsgmbh/faster-whisper-large-v3-turbo"
_SIZES = {"large-v3-turbo": TURBO, "turbo": TURBO, "large": "Systran/faster-whisper-large-v3"}
_DISTILLED = {"large-v3.5": "distil-whisper/distil-large-v3.5-ct2"}


def _whisper(name: str, label: str, line: str, disk: float, memory: float, gpu: float, runs: Runs, cores: int) -> Model:
    return Model(
        "ears", "whisper", name, label, line,
        int(disk * GB), int(memory * GB), int(gpu * GB), runs, cores, fetches=_whisper_fetches(name),
    )  # fmt: skip


def _whisper_fetches(name: str) -> tuple[Fetch, ...]:
    """A size has its repository; a name with a slash is one."""
    if "/" in name:
        return (whisper_files(name),)
    if name.startswith("distil-"):
        size = name.removeprefix("distil-")
        return (whisper_files(_DISTILLED.get(size, f"Systran/faster-distil-whisper-{size}")),)
    return (whisper_files(_SIZES.get(name, f"Systran/faster-whisper-{name}")),)


def _language(
    engine: str, name: str, label: str, line: str, disk: float, memory: float, gpu: float, runs: Runs, cores: int
) -> Model:
    return Model(
        "mind", engine, name, label, line,
        int(disk * GB), int(memory * GB), int(gpu * GB), runs, cores,
        linux_only=engine == "vllm", fetches=(language_model_files(name),),
    )  # fmt: skip


MODELS = (
    Model("ears", "pocketsphinx", "", "PocketSphinx", "Short, clear English questions.", memory_bytes=GB // 5),
    _whisper("tiny.en", "Whisper tiny", "English, quick, and often wrong.", 0.08, 0.4, 0.6, "well", 2),
    _whisper("base.en", "Whisper base", "English, good for everyday sentences.", 0.15, 0.5, 0.8, "well", 2),
    _whisper("small", "Whisper small", "Ninety languages, better with names.", 0.49, 1.0, 1.4, "well", 8),
    _whisper("large-v3-turbo", "Whisper large v3 turbo", "Ninety languages, the best there is to choose here.",
             1.62, 2.2, 2.3, "slowly", 8),
    Model("mind", "builtin", "", "Built-in replies", "A few rules, and your memories."),
    Model("mind", "openai", "", "A server of yours", "Ollama, llama.cpp, LM Studio, vLLM elsewhere, or a service."),
    _language("vllm", "Qwen/Qwen2.5-0.5B-Instruct", "Qwen2.5 0.5B, by vLLM", "Simple talk.",
              1.0, 4.0, 3.0, "well", 4),
    _language("vllm", "Qwen/Qwen2.5-1.5B-Instruct", "Qwen2.5 1.5B, by vLLM", "Everyday talk.",
              3.1, 6.5, 5.0, "slowly", 8),
    _language("vllm", "Qwen/Qwen3-4B-Instruct-2507", "Qwen3 4B, by vLLM", "Good talk on almost anything.",
              8.1, 12.0, 11.0, "no", 8),
    _language("vllm", "Qwen/Qwen2.5-7B-Instruct", "Qwen2.5 7B, by vLLM", "The best of these, for a large card.",
              15.3, 20.0, 19.0, "no", 8),
    _language("transformers", "HuggingFaceTB/SmolLM2-360M-Instruct", "SmolLM2 360M", "Simple talk in English, soon.",
              0.73, 2.1, 1.5, "well", 4),
    _language("transformers", "Qwen/Qwen2.5-0.5B-Instruct", "Qwen2.5 0.5B", "Simple talk.",
              1.0, 2.6, 2.0, "well", 4),
    _language("transformers", "Qwen/Qwen2.5-1.5B-Instruct", "Qwen2.5 1.5B", "Everyday talk.",
              3.1, 6.8, 4.5, "slowly", 8),
    Model("voice", "espeak", "", "eSpeak NG", "Clear, instant, and like a machine.", memory_bytes=GB // 20),
    Model("voice", "csm", CSM_1B, "CSM-1B", "A natural voice, yours to choose by a recording.",
          int(6.6 * GB), int(4.5 * GB), int(4.8 * GB), "slowly", 4,
          fetches=(speech_model_files(CSM_1B), MIMI)),
)  # fmt: skip

DEFAULTS = {
    "whisper": "base.en",
    "csm": CSM_1B,
    "vllm": "Qwen/Qwen3-4B-Instruct-2507",
    "transformers": "Qwen/Qwen2.5-0.5B-Instruct",
}
"""What an engine loads when the settings name no model."""


def find(stage: Stage, engine: str, name: str) -> Model | None:
    """The entry of this table, if it has one."""
    wanted = name or DEFAULTS.get(engine, "")
    return next((model for model in MODELS if (model.stage, model.engine, model.name) == (stage, engine, wanted)), None)


def fetches(stage: Stage, engine: str, name: str) -> tuple[Fetch, ...]:
    """What must be fetched for a choice, any hub id included; nothing for a folder of the user's."""
    wanted = name or DEFAULTS.get(engine, "")
    known = find(stage, engine, wanted)
    if known is not None:
        return known.fetches
    if not wanted or is_path(wanted):
        return ()
    match engine:
        case "whisper":
            return _whisper_fetches(wanted)
        case "csm":
            return (speech_model_files(wanted),)
        case "vllm" | "transformers":
            return (language_model_files(wanted),)
    return ()


def is_path(name: str) -> bool:
    """Whether a model's name means a folder on this machine, be it there or not, rather than one on the hub."""
    path = Path(name).expanduser()
    return path.is_absolute() or name.startswith((".", "~")) or path.exists()


def verdict(model: Model, hardware: Hardware) -> Verdict:
    """Whether this machine can run that model."""
    if model.linux_only and hardware.system != "Linux":
        return Verdict("no", "vLLM runs on Linux only: choose a server such as Ollama instead.")
    gpu = hardware.gpu
    if model.gpu_bytes and gpu is not None and gpu.free_bytes >= model.gpu_bytes:
        return Verdict("well", f"Takes {_gb(model.gpu_bytes)} of the {_gb(gpu.free_bytes)} free on the {gpu.name}.")
    if hardware.memory_bytes < model.memory_bytes:
        return Verdict("no", f"Needs {_gb(model.memory_bytes)} of memory; here are {_gb(hardware.memory_bytes)}.")
    if model.on_processor == "no":
        found = "there is none here" if gpu is None else f"the {gpu.name} has {_gb(gpu.free_bytes)}"
        return Verdict("no", f"Needs a graphics card of NVIDIA with {_gb(model.gpu_bytes)} free; {found}.")
    if model.engine == "csm" and not hardware.instructions & {"avx2", "neon"}:
        return Verdict("no", "Needs a processor with AVX2 or NEON.")
    if hardware.cores < model.cores:
        return Verdict("slowly", f"Wants {model.cores} cores to keep up with speech; here are {hardware.cores}.")
    if model.on_processor == "slowly":
        if model.engine == "csm":
            return Verdict("slowly", "On a processor it speaks in 4 bits, at about the pace of speech at best.")
        return Verdict("slowly", "Works on a processor, with a pause before each answer; made for a graphics card.")
    return Verdict(
        "well", f"Takes {_gb(model.memory_bytes)} of memory." if model.memory_bytes else "Needs next to nothing."
    )


def room_for(need: int, hardware: Hardware) -> Verdict:
    """Whether the disk has room for a download of so many bytes."""
    if need <= hardware.free_disk_bytes:
        return Verdict("well", f"{_gb(need)} to download.")
    return Verdict("no", f"{_gb(need)} to download, and the disk has {_gb(hardware.free_disk_bytes)} free.")


def _gb(size: int) -> str:
    return f"{size / GB:.1f} GB" if size >= GB else f"{size / 1e6:.0f} MB"
