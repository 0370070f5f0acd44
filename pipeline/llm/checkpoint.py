"""Downloads, checks and loads a language model by name in this process, or refuses it in one sentence.

Only safetensors are accepted as weights, since a pickle may run any code. Code that comes with a model is never run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from config.fetches import language_model_files
from config.hardware import in_words
from pipeline.engine import EngineError, Report
from pipeline.models.fetching import fetched

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

ROOM_BESIDE = 1.15
"""Total memory of a model, as a multiple of its weights; includes activations and the context's keys and values."""


def model_source(model: str) -> str:
    """Return a folder's absolute path, or a name on the hub. Raises EngineError for a path that is not a folder."""
    path = Path(model).expanduser()
    if path.is_dir():
        return str(path.resolve())
    if path.exists() or path.is_absolute() or model.startswith((".", "~")):
        raise EngineError(f"{path} is not a folder: choose a folder with a model, or a name on the hub.")
    return model


def folder_of(model: str, report: Report) -> Path:
    """Return the folder of a model, after downloading it from the hub if it is not here. Raises EngineError."""
    source = Path(model_source(model))
    return source if source.is_absolute() else fetched(language_model_files(model), report)


class Fetched:
    """A chat model's folder, fetched in a worker process so that the download can be stopped at any time."""

    def __init__(self, report: Report, model: str) -> None:
        self._folder = folder_of(model, report)
        check_talks(self._folder, model)

    def folder(self) -> str:
        return str(self._folder)


def check_talks(folder: Path, name: str) -> None:
    """Raises EngineError if the folder holds no model, or a model without a chat template."""
    try:
        kept = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"{name} is not a language model ({error}): choose another.") from error
    if not (kept.get("chat_template") or any(folder.glob("*chat_template*.j*"))):
        raise EngineError(f"{name} has no chat template, so it is not made for conversation: choose an instruct model.")


def weight_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def positions(folder: Path) -> int | None:
    """Return how many tokens a model reads and writes at most; None if its configuration does not say."""
    config = json.loads((folder / "config.json").read_text())
    said = config.get("text_config", config).get("max_position_embeddings")
    return said if isinstance(said, int) and said > 0 else None


def load(folder: Path, name: str, device: str) -> tuple[Any, Any]:
    """Return the tokenizer and the model, ready on the device. `name` is for error messages. Raises EngineError."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, logging

    quiet: Any = logging
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    make: Any = AutoModelForCausalLM
    own: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    config = _told(name, lambda: AutoConfig.from_pretrained(folder, **own))
    _check_kind(config, name)
    if not weight_bytes(folder):
        raise EngineError(
            f"{name} has no weights in safetensors, the only format that is loaded: choose another model."
        )
    dtype = dtype_for(device)
    parameters = weight_bytes(folder) / (config.dtype.itemsize if config.dtype else 4)
    check_room(name, round(parameters * dtype.itemsize), free_bytes(device), device)
    tokenizer = _told(name, lambda: AutoTokenizer.from_pretrained(folder, **own))
    model, info = _told(
        name,
        lambda: make.from_pretrained(
            folder, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **own
        ),
    )
    if missing := sorted(info["missing_keys"]):  # transformers would continue with random weights
        raise EngineError(f"The weights of {name} are incomplete ({missing[0]} is missing): download it again.")
    return tokenizer, _told(name, lambda: model.eval().to(device))


def dtype_for(device: str) -> torch.dtype:
    """Return half precision if the device computes it at full speed. A CPU that does not is several times faster in
    float32."""
    import torch

    if device != "cpu":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    cpu: Any = torch.cpu
    return torch.bfloat16 if cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported() else torch.float32


def free_bytes(device: str) -> int:
    if device == "cpu":
        return int(psutil.virtual_memory().available)
    import torch

    return int(torch.cuda.mem_get_info()[0])


def check_room(name: str, weights: int, free: int, device: str) -> None:
    """Raises EngineError if weights of this many bytes, and what is computed with them, do not fit into memory."""
    if weights * ROOM_BESIDE > free:
        where = "" if device == "cpu" else " on the graphics card"
        raise EngineError(
            f"{name} needs {in_words(round(weights * ROOM_BESIDE))} of memory, and {in_words(free)} are free{where}: "
            "choose a smaller model, or end other programs."
        )


def _check_kind(config: Any, name: str) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or getattr(config, "is_encoder_decoder", False):
        raise EngineError(
            f"{name} is a model of another kind ({config.model_type}): choose a language model made for conversation."
        )


def _told(name: str, work: Callable[[], T]) -> T:
    from safetensors import SafetensorError

    try:
        return work()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        why = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise EngineError(f"{name} cannot be loaded as a language model ({why[:200]}): choose another.") from error
