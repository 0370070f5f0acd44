"""Read and write adapter files. Ours are in peft's format, so that transformers' `PeftModel` loads them. These formats
are read:

peft, Unsloth     adapter_config.json with `peft_type`, adapter_model.safetensors, names of transformers
csm-mlx           adapter_config.json with `lora_parameters`, adapters.safetensors; matrices transposed, scale α/r
csm-streaming     a full model.safetensors with `.lora_A` and `.lora_B` in it; α is stored nowhere

A file with unknown contents is refused, and the error names them: half an adapter would be another voice.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError
from ..model import Csm, CsmConfig
from ..writing import replacing
from .adapters import Adapter, LowRank
from .checkpoint import Weights, read_json
from .formats import Transformers

__all__ = ["PEFT_WEIGHTS", "read_adapter", "write_adapter"]

CONFIG, PEFT_WEIGHTS, MLX_WEIGHTS = "adapter_config.json", "adapter_model.safetensors", "adapters.safetensors"
STACKS = r"(backbone_model|depth_decoder\.model)\.layers\.\d+\.(self_attn|mlp)\.[a-z]+_proj"
"""The pattern for peft: the seven matrices of both stacks. By their last names alone it would also match Mimi's."""
REFUSED_OPTIONS = (
    "use_qalora", "lora_bias", "layer_replication", "trainable_token_indices", "alora_invocation_tokens", "use_bdlora",
    "arrow_config", "kasa_config", "velora_config", "monteclora_config", "fan_in_fan_out", "target_parameters",
)  # fmt: skip
"""Options of peft that change the meaning of A and B."""
STREAMING_ALPHA = 32

Tensors = Mapping[str, Tensor]


def read_adapter(folder: str | Path, config: CsmConfig, alpha: float | None = None) -> Adapter:
    """Read an adapter for a model of this shape from its folder (csm-streaming: from its file).

    alpha: only for csm-streaming, which does not store it. Raises CheckpointError, which says what was expected and
    found.
    """
    folder = Path(folder).expanduser()
    if folder.is_file():
        return _read_streaming(Weights.open([folder]), config, alpha)
    if not folder.is_dir():
        raise CheckpointError(f"Expected the folder of an adapter at {folder}, but there is none.")
    return replace(_in_folder(folder, config, alpha), folder=folder)


def _in_folder(folder: Path, config: CsmConfig, alpha: float | None) -> Adapter:
    if (folder / CONFIG).is_file():
        described = read_json(folder / CONFIG)
        if "lora_parameters" in described:
            return _read_mlx(Weights.open([_one(folder, MLX_WEIGHTS)]), described, config)
        if "peft_type" in described:
            return _read_peft(Weights.open([_one(folder, PEFT_WEIGHTS)]), described, config)
        raise CheckpointError(f"Expected peft_type or lora_parameters in {folder / CONFIG}, found neither.")
    if (folder / "model.safetensors").is_file():
        return _read_streaming(Weights.open([folder / "model.safetensors"]), config, alpha)
    raise CheckpointError(f"Expected an adapter in {folder} ({CONFIG} and {PEFT_WEIGHTS}), found none.")


def write_adapter(adapter: Adapter, folder: Path, config: CsmConfig, base: str = "sesame/csm-1b") -> None:
    """Write peft's files, replacing each one completely.

    Raises CannotWrite, and CheckpointError for DoRA: merge it into a checkpoint instead.
    """
    if any(matrix.magnitude is not None for matrix in adapter.matrices.values()):
        raise CheckpointError("Adapters with DoRA's magnitudes cannot be written: merge this one into a checkpoint.")
    form = Transformers()
    tensors: dict[str, Tensor] = {}
    modules = {module: _stem(form.names(f"{module}.weight")[0]) for module in adapter.matrices}
    for module, matrix in adapter.matrices.items():
        key = f"base_model.model.{modules[module]}"
        tensors[f"{key}.lora_A.weight"] = matrix.a
        tensors[f"{key}.lora_B.weight"] = form.to_disk(f"{module}.weight", matrix.b, config)
    saved = {form.names(name)[0]: form.to_disk(name, tensor, config) for name, tensor in adapter.whole.items()}
    tensors |= {f"base_model.model.{name}": tensor for name, tensor in saved.items()}

    ranks = {modules[module]: matrix.rank for module, matrix in adapter.matrices.items()}
    alphas = {modules[module]: matrix.scale * matrix.rank for module, matrix in adapter.matrices.items()}
    rank, alpha = _commonest(ranks.values()), _commonest(alphas.values())
    outside = [re.escape(name) for name in modules.values() if not re.fullmatch(STACKS, name)]
    described = dict(adapter.described) | {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "bias": "none",
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: found for name, found in ranks.items() if found != rank},
        "alpha_pattern": {name: found for name, found in alphas.items() if found != alpha},
        "target_modules": "|".join([STACKS, *outside]) if modules else [],
        "modules_to_save": sorted({_stem(name).rpartition(".")[2] for name in saved}) or None,
        "use_rslora": False,
        "use_dora": False,
    }
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(folder / PEFT_WEIGHTS) as partial:
        save_file(ready, partial, metadata={"format": "pt"})
    with replacing(folder / CONFIG) as partial:
        partial.write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_peft(weights: Tensors, described: Mapping[str, Any], config: CsmConfig) -> Adapter:
    if (kind := described["peft_type"]) != "LORA":
        raise CheckpointError(f"Expected an adapter of peft_type LORA, found {kind}.")
    if odd := [option for option in REFUSED_OPTIONS if described.get(option)]:
        raise CheckpointError(f"Expected a plain LoRA adapter, found one with {', '.join(odd)}. Merge it with peft.")
    form = Transformers()
    ours = {stored: name for name in _names(config) for stored in form.names(name)}
    parts: dict[str, dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    for key in weights:
        name = re.sub(r"\.(default|modules_to_save)(?=\.|$)", "", key.removeprefix("base_model.model."))
        if found := re.fullmatch(r"(.+)\.(?:lora_(A|B)|lora_(magnitude)_vector)(?:\.weight)?", name):
            module, part = found[1], found[2] or found[3]
            if module.startswith("codec_model."):
                if part == "B" and weights[key].any():
                    raise CheckpointError(
                        f"The adapter changes the codec ({module}), which is not supported: csm uses Mimi unchanged."
                    )
            elif f"{module}.weight" not in ours:
                raise CheckpointError(f"The adapter changes {module}, which CSM does not have.")
            else:
                original = _stem(ours[f"{module}.weight"])
                tensor = weights[key]
                if part == "B":
                    tensor = form.from_disk(f"{original}.weight", tensor, config)
                elif part == "magnitude":
                    tensor = form.from_disk(f"{original}.weight", tensor.reshape(-1, 1), config)[:, 0]
                parts.setdefault(original, {})[part] = tensor
        elif name.endswith(".bias"):
            _refuse_bias(key, weights[key])
        elif name == "lm_head.base_layer.weight":
            continue  # peft takes the head for an output embedding and saves the base model's with the adapter
        elif name in ours:
            whole[name] = weights[key]
        else:
            raise CheckpointError(f"The adapter contains {key}, which is not supported.")

    def scale(module: str, rank: int) -> float:
        stored = _stem(form.names(f"{module}.weight")[0])
        alpha = float(_pattern(described.get("alpha_pattern"), stored, described.get("lora_alpha", 8)))
        if (said := _pattern(described.get("rank_pattern"), stored, described.get("r", rank))) != rank:
            raise CheckpointError(f"Expected rank {said} for {stored}, as {CONFIG} says, found {rank}.")
        return alpha / (math.sqrt(rank) if described.get("use_rslora") else rank)

    matrices = _low_rank(parts, scale)
    if bool(described.get("use_dora")) != any(matrix.magnitude is not None for matrix in matrices.values()):
        raise CheckpointError(f"Expected DoRA's magnitudes if, and only if, {CONFIG} says use_dora.")
    kept = {key: value for key, value in described.items() if key.startswith("csm_")}
    return _checked(Adapter(matrices, _whole(whole, ours, config), kept), config)


def _whole(stored: Tensors, ours: Mapping[str, str], config: CsmConfig) -> dict[str, Tensor]:
    """The tensors that modules_to_save kept, under our names. Our audio embeddings are one tensor."""
    form = Transformers()
    tied = form.names("audio_embeddings.weight")
    held = [stored[name] for name in tied if name in stored]
    if held and (len(held) < len(tied) or not torch.equal(*held)):
        raise CheckpointError(
            "The adapter has separate audio embeddings for the backbone and the depth decoder, but CSM has one table "
            "for both. Train it without the embeddings."
        )
    return {ours[name]: form.from_disk(ours[name], tensor, config) for name, tensor in stored.items()}


MLX_PARTS = {
    "self_attn.q_proj": "attn.q_proj",
    "self_attn.k_proj": "attn.k_proj",
    "self_attn.v_proj": "attn.v_proj",
    "self_attn.o_proj": "attn.output_proj",
    "mlp.gate_proj": "mlp.w1",
    "mlp.down_proj": "mlp.w2",
    "mlp.up_proj": "mlp.w3",
}


def _read_mlx(weights: Tensors, described: Mapping[str, Any], config: CsmConfig) -> Adapter:
    parameters = described["lora_parameters"]
    if described.get("fine_tune_type", "lora") != "lora" or not isinstance(parameters.get("scale"), int | float):
        raise CheckpointError(f"Expected fine_tune_type lora and a scale in {CONFIG}, found something else.")
    parts: dict[str, dict[str, Tensor]] = {}
    for key in weights:
        stem, _, last = key.rpartition(".")
        module = re.sub("|".join(MLX_PARTS), lambda found: MLX_PARTS[found[0]], stem)
        if last not in ("lora_a", "lora_b") or f"{module}.weight" not in _names(config) or "embeddings" in module:
            raise CheckpointError(f"The adapter contains {key}, which is not supported.")
        parts.setdefault(module, {})[last[-1].upper()] = weights[key].T
    return _checked(Adapter(_low_rank(parts, lambda module, rank: float(parameters["scale"]))), config)


def _read_streaming(weights: Tensors, config: CsmConfig, alpha: float | None) -> Adapter:
    """Read only A and B: the other weights are the base model's, and the bridge is not part of CSM."""
    names = _names(config)
    parts: dict[str, dict[str, Tensor]] = {}
    for key in weights:
        stem, _, last = key.rpartition(".")
        if last in ("lora_A", "lora_B"):
            parts.setdefault(stem, {})[last[-1]] = weights[key]
        elif last == "bias":
            _refuse_bias(key, weights[key])
        elif key not in names and not key.startswith("bridge."):
            raise CheckpointError(f"The file contains {key}, which is neither CSM's nor csm-streaming's.")
    if not parts:
        raise CheckpointError("Expected an adapter, but found a model without one: pass it as the model.")
    if alpha is None:
        raise CheckpointError(
            f"This adapter does not store its alpha. Give it with --alpha; csm-streaming uses {STREAMING_ALPHA}."
        )
    return _checked(Adapter(_low_rank(parts, lambda module, rank: alpha / rank)), config)


def _low_rank(parts: Mapping[str, Mapping[str, Tensor]], scale: Callable[[str, int], float]) -> dict[str, LowRank]:
    matrices = {}
    for module, found in parts.items():
        if not {"A", "B"} <= found.keys():
            raise CheckpointError(f"Expected A and B of {module} in the adapter, found {' and '.join(sorted(found))}.")
        a, b = found["A"], found["B"]
        if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1]:
            raise CheckpointError(f"A {list(a.shape)} and B {list(b.shape)} of {module} do not belong together.")
        matrices[module] = LowRank(a, b, scale(module, a.shape[0]), found.get("magnitude"))
    return matrices


def _checked(adapter: Adapter, config: CsmConfig) -> Adapter:
    if not adapter.tensors:
        raise CheckpointError("The adapter is empty: it would change nothing.")
    adapter.check(_names(config))
    for module, matrix in adapter.matrices.items():
        if not (matrix.a.isfinite().all() and matrix.b.isfinite().all()):
            raise CheckpointError(
                f"The adapter contains values that are not numbers, in {module}. Its training failed."
            )
    return adapter


def _names(config: CsmConfig) -> dict[str, tuple[int, ...]]:
    """The name and shape of every tensor of a model of this shape."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Csm(config).state_dict().items()}


def _refuse_bias(key: str, bias: Tensor) -> None:
    if bias.any():
        raise CheckpointError(f"The adapter contains a bias, {key}, but CSM has none. Train it with bias='none'.")


def _pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """Look a module up in rank_pattern or alpha_pattern, whose keys are ends of its name or regular expressions."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _commonest(values: Iterable[Any]) -> Any:
    return Counter(values).most_common(1)[0][0] if (values := list(values)) else 1


def _stem(name: str) -> str:
    return name.removesuffix(".weight")


def _one(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        more = ", found a pickle, which csm does not open" if any(folder.glob("*.bin")) else ", found none"
        raise CheckpointError(f"Expected {name} in {folder}{more}.")
    return folder / name
