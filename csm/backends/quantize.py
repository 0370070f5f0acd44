"""Weights of 4 or 8 bits for the CPU: speech at the speed of reading memory.

Only weights are rounded, in groups of 64 inputs that share a scale. With "int4" the heads and the projection keep 8
bits, because they are a hundredth of what is read and affect the choice of a code most directly. Embeddings,
activations between modules, and keys and values are bfloat16.

The weights are packed once, kept beside the checkpoint, and mapped from there the next time. A `Packing` defines their
layout: that of the kernel in csm/backends/cpu_kernel.cpp if it can be built, otherwise PyTorch's own.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..codec.transformer import MimiTransformer, TransformerStream
from ..model import (
    Csm,
    CsmConfig,
    KeyValueCache,
    Layer,
    Transformer,
    TransformerConfig,
    causal_mask,
)
from ..sampling import Chooser
from .cpu_kernel import (
    Kernel,
    KernelCodecStream,
    KernelDepthDecoder,
    KernelLayer,
    KernelLinear,
    KernelTransformer,
    KernelUnavailable,
    Packed,
    lay_out,
)
from .large_pages import in_large_pages
from .rounding import BLOCK, GROUP, restore, round_weight
from .torch_packing import TorchPacking

__all__ = [
    "SCHEMES",
    "KernelPacking",
    "Packing",
    "QuantizedCsm",
    "TorchPacking",
    "load_packed",
    "pack",
    "pick_packing",
    "quantize",
    "save_packed",
]

SCHEMES = {"int8": 8, "int4": 4}
"""Each scheme's name, and the bits of the two stacks' weights."""

EMBEDDINGS = ("text_embeddings", "audio_embeddings")

VERSION = 1
"""Version of the files written. Increase it if the order of the weights changes."""

log = logging.getLogger("csm")


def quantize(
    model: Csm,
    scheme: str,
    folder: Path | None = None,
    packing: Packing | None = None,
    *,
    adapter: Path | None = None,
) -> QuantizedCsm:
    """Return the same model on packed weights, "int8" or "int4".

    folder: the checkpoint's. Packed weights are kept there, in `quantized/`, and reused as long as the checkpoint's
        files stay the same; without a folder they stay in memory.
    packing: how weights are laid out; by default the fastest way on this machine.
    adapter: the folder of an adapter that was merged into the model. Packed weights are then kept there instead.

    Raises ValueError for another scheme, or a model that is not on the CPU.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"quantize must be one of {', '.join(map(repr, SCHEMES))}, not {scheme!r}.")
    if model.device.type != "cpu":
        raise ValueError(
            f"Packed weights work only on the CPU; on {model.device} CSM runs in bfloat16. Leave quantize out."
        )
    packing = packing or pick_packing()
    if folder is None:
        return QuantizedCsm(model.config, dict(pack(model, SCHEMES[scheme], packing)), packing)
    file = packed_file(folder, scheme, packing, adapter)
    if not file.exists():
        log.info("Packing the weights to %s once; they are kept in %s", scheme, file)
        try:
            keep_packed(file, pack(model, SCHEMES[scheme], packing))
        except OSError as error:
            log.warning("The packed weights cannot be saved (%s), so they will be packed again at every start.", error)
            return QuantizedCsm(model.config, dict(pack(model, SCHEMES[scheme], packing)), packing)
    return QuantizedCsm(model.config, load_packed(file), packing)


def packed_file(folder: Path, scheme: str, packing: Packing, adapter: Path | None = None) -> Path:
    """Where a checkpoint's packed weights are kept: beside it, or beside the adapter that is merged into them."""
    identity = _identity(folder) if adapter is None else _identity(folder, adapter)
    return (adapter or folder) / "quantized" / f"{scheme}-{packing.name}-{identity}.safetensors"


def keep_packed(file: Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Write a `packed_file` and remove outdated ones. Raises OSError."""
    file.parent.mkdir(exist_ok=True)
    save_packed(file, tensors)
    scheme_and_packing = file.name.rpartition("-")[0]
    for outdated in set(file.parent.glob(f"{scheme_and_packing}-*.safetensors")) - {file}:
        outdated.unlink()


def pick_packing() -> Packing:
    """The kernel if it can be built and computes correctly, otherwise PyTorch's own. Logs the reason for the latter."""
    try:
        packing = KernelPacking(Kernel.build())
        packing.check()
    except KernelUnavailable as reason:
        log.warning("Packed weights run on PyTorch's kernels, at about half the speed of our own: %s.", reason)
        return TorchPacking()
    return packing


class Packing(Protocol):
    """A way to lay out packed weights and to compute with them."""

    name: str
    computes_by: str
    """For people: what computes, and with which instructions of the processor."""

    def pack(self, weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
        """Codes and scales of a matrix [outputs, inputs], in this packing's own order."""
        ...

    def linear(self, codes: Tensor, scales: Tensor, inputs: int) -> nn.Module:
        """The matrix as a module: bfloat16 [..., inputs] → [..., at least outputs]."""
        ...

    def stack(self, config: TransformerConfig, tensors: Mapping[str, Tensor]) -> nn.Module:
        """A stack of layers, called like `csm.model.Transformer`, from the tensors that `stack_tensors` names."""
        ...

    def depth_decoder(self, model: QuantizedCsm) -> KernelDepthDecoder | None:
        """A faster way to compute `Csm.frame`, if there is one."""
        ...


class QuantizedCsm(Csm):
    """`Csm` on packed weights, with other modules for them. It computes in bfloat16. `tensors` are those of `pack`."""

    def __init__(self, config: CsmConfig, tensors: Mapping[str, Tensor], packing: Packing) -> None:
        with torch.device("meta"):
            super().__init__(config)
        # A frame reads only a few rows of the embeddings, but all of every other tensor.
        looked_up = {f"{name}.weight" for name in EMBEDDINGS}
        read = {name: tensor for name, tensor in tensors.items() if name not in looked_up}
        tensors = {**tensors, **in_large_pages(read)}
        self.packing, self.tensors = packing, tensors
        for name in EMBEDDINGS:
            getattr(self, name).weight = nn.Parameter(tensors[f"{name}.weight"], requires_grad=False)

        def linear(name: str, inputs: int) -> nn.Module:
            return packing.linear(tensors[f"{name}.codes"], tensors[f"{name}.scales"], inputs)

        def stack(name: str, shape: TransformerConfig) -> nn.Module:
            return packing.stack(shape, {key.removeprefix(f"{name}."): value for key, value in tensors.items()})

        backbone, decoder = config.backbone, config.decoder
        self.backbone = stack("backbone", backbone)  # type: ignore[assignment]
        self.decoder = stack("decoder", decoder)  # type: ignore[assignment]
        self.projection = linear("projection", backbone.dim)  # type: ignore[assignment]
        self.codebook0_head = linear("codebook0_head", backbone.dim)  # type: ignore[assignment]
        del self.audio_head
        heads = range(config.audio_codebooks - 1)
        self.audio_heads = nn.ModuleList(linear(f"audio_head.{index}", decoder.dim) for index in heads)
        self.depth_decoder = packing.depth_decoder(self)
        self.requires_grad_(False).eval()

    def frame(self, hidden: Tensor, cache: KeyValueCache, choose: Callable[[Tensor, int], Tensor]) -> Tensor:
        decoder = self.depth_decoder
        if decoder is not None and isinstance(choose, Chooser) and len(hidden) <= decoder.MOST:
            return decoder(hidden, cache, choose)
        return super().frame(hidden, cache, choose)

    def codebook_logits(self, depth: Tensor, codebook: int) -> Tensor:
        out: Tensor = self.audio_heads[codebook - 1](depth)
        return out


def pack(model: Csm, bits: int, packing: Packing) -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors of a `QuantizedCsm`, one at a time, so that no two need be in memory together."""
    for name in EMBEDDINGS:
        yield f"{name}.weight", getattr(model, name).weight.detach().bfloat16()
    read = model.state_dict().__getitem__
    for matrix in head_matrices(model.config):
        yield from matrix.packed(read, bits, packing)
    for name, stack in (("backbone", model.backbone), ("decoder", model.decoder)):
        yield from ((f"{name}.{key}", value) for key, value in stack_tensors(stack, bits, packing))


@dataclass(frozen=True)
class Matrix:
    """A packed matrix: the tensors it is made of, and how they are joined. exact: it has 8 bits in any scheme."""

    name: str
    parts: tuple[str, ...]
    joined: Callable[[list[Tensor]], Tensor]
    exact: bool = False

    @property
    def names(self) -> tuple[str, str]:
        """The names of its codes and its scales."""
        return f"{self.name}.codes", f"{self.name}.scales"

    def packed(self, read: Callable[[str], Tensor], bits: int, packing: Packing) -> Iterator[tuple[str, Tensor]]:
        """Yield its codes and scales with their names. read: returns a tensor of the model by its name."""
        whole = self.joined([read(part) for part in self.parts])
        yield from zip(self.names, packing.pack(whole, 8 if self.exact else bits), strict=True)


def head_matrices(config: CsmConfig) -> Iterator[Matrix]:
    """The matrices outside the two stacks."""
    for name in ("projection", "codebook0_head"):
        yield Matrix(name, (f"{name}.weight",), _only, exact=True)
    for index in range(config.audio_codebooks - 1):
        yield Matrix(f"audio_head.{index}", ("audio_head",), partial(_head, index), exact=True)


def layer_matrices(layer: str) -> Iterator[Matrix]:
    """A layer's matrices. Matrices with the same input are joined.

    Gate and up projection alternate, 16 rows of each, so that one thread computes both factors of a product.
    """
    qkv = tuple(f"{layer}.attn.{name}_proj.weight" for name in "qkv")
    yield Matrix(f"{layer}.qkv", qkv, torch.cat)
    yield Matrix(f"{layer}.output", (f"{layer}.attn.output_proj.weight",), _only)
    yield Matrix(f"{layer}.gate_up", (f"{layer}.mlp.w1.weight", f"{layer}.mlp.w3.weight"), _by_turns)
    yield Matrix(f"{layer}.down", (f"{layer}.mlp.w2.weight",), _only)


def _only(parts: list[Tensor]) -> Tensor:
    return parts[0]


def _head(index: int, parts: list[Tensor]) -> Tensor:
    return parts[0][index].T


def _by_turns(parts: list[Tensor]) -> Tensor:
    return torch.stack([part.reshape(-1, BLOCK, part.shape[1]) for part in parts], dim=1).flatten(0, 2)


def stack_tensors(stack: Transformer, bits: int, packing: Packing) -> Iterator[tuple[str, Tensor]]:
    """A stack's norms, and its packed matrices."""
    read = stack.state_dict().__getitem__
    layers: Iterable[Layer] = stack.layers  # type: ignore[assignment]
    for index, layer in enumerate(layers):
        name = f"layers.{index}"
        yield f"{name}.sa_norm", layer.sa_norm.scale.detach().float()
        yield f"{name}.mlp_norm", layer.mlp_norm.scale.detach().float()
        for matrix in layer_matrices(name):
            yield from matrix.packed(read, bits, packing)
    yield "norm", stack.norm.scale.detach().float()


class KernelPacking:
    """For csm/backends/cpu_kernel.cpp: a whole stack is one call."""

    name = "kernel"

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.computes_by = f"csm’s kernel with {kernel.instructions}"

    def pack(self, weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
        return lay_out(*round_weight(weight, bits), bits)

    def linear(self, codes: Tensor, scales: Tensor, inputs: int) -> nn.Module:
        return KernelLinear(self.kernel, Packed(codes, scales, inputs))

    def stack(self, config: TransformerConfig, tensors: Mapping[str, Tensor]) -> nn.Module:
        def matrix(name: str, inputs: int) -> Packed:
            return Packed(tensors[f"{name}.codes"], tensors[f"{name}.scales"], inputs)

        layers = [
            KernelLayer(
                matrix(f"{name}.qkv", config.dim),
                matrix(f"{name}.output", config.heads * config.head_dim),
                matrix(f"{name}.gate_up", config.dim),
                matrix(f"{name}.down", config.ffn),
                tensors[f"{name}.sa_norm"],
                tensors[f"{name}.mlp_norm"],
            )
            for name in (f"layers.{index}" for index in range(config.layers))
        ]
        return KernelTransformer(self.kernel, config, layers, tensors["norm"])

    def depth_decoder(self, model: QuantizedCsm) -> KernelDepthDecoder | None:
        heads = [model.codebook0_head, *model.audio_heads]
        parts: list[Any] = [model.decoder, model.projection, heads, model.audio_embeddings.weight]
        return KernelDepthDecoder(model.config, *parts)

    def check(self) -> None:
        """Compare a small stack, and the transformer of a small codec, with the plain modules on the same weights.
        Raises KernelUnavailable if they differ."""
        config = TransformerConfig(layers=2, heads=4, kv_heads=2, dim=64, ffn=96, context=12)
        draw, where = torch.Generator().manual_seed(0), slice(2, 9)
        x = torch.randn(2, 7, config.dim, generator=draw)
        for bits in SCHEMES.values():
            plain = Transformer(config).requires_grad_(False)
            for matrix in plain.modules():
                if isinstance(matrix, nn.Linear):
                    shape = matrix.weight.shape
                    weight = torch.randn(shape, generator=draw) * shape[1] ** -0.5
                    matrix.weight.data = restore(*round_weight(weight, bits), shape[1])
            packed = self.stack(config, dict(stack_tensors(plain, bits, self)))
            caches = [KeyValueCache(config, 2, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
            expected = plain(x, where, causal_mask(where, config.context), caches[0])
            difference = (packed(x, where, None, caches[1]) - expected).norm() / expected.norm()
            # 8-bit activations, and keys and values in bfloat16, cause a difference of about 0.01.
            if not difference < 0.03:
                raise KernelUnavailable(f"what it computes at {bits} bits is off by {float(difference):.1%}")
        self._check_codec()

    def _check_codec(self) -> None:
        transformer = MimiTransformer(layers=1, dim=32, heads=2, ffn=48, window=4, theta=10_000, norm_eps=1e-5)
        draw, steps = torch.Generator().manual_seed(0), 2
        for parameter in transformer.parameters():
            parameter.data = torch.randn(parameter.shape, generator=draw) * 0.3
        plain, ours = TransformerStream(transformer, 1, steps), KernelCodecStream(self.kernel, transformer, 1, steps)
        for _ in range(4):
            x = torch.randn(1, steps, transformer.dim, generator=draw)
            expected = plain.step(x)
            if not (ours.step(x) - expected).norm() < 1e-4 * expected.norm():
                raise KernelUnavailable("what it computes of the codec is wrong")


def _identity(*folders: Path) -> str:
    """A hash that identifies the files of a checkpoint, and of its adapter, without reading them: from names, sizes and
    modification times."""
    files = [path for folder in folders for path in sorted(file.resolve() for file in folder.glob("*.safetensors"))]
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps([VERSION, GROUP, facts]).encode()).hexdigest()[:16]


def load_packed(path: Path) -> dict[str, Tensor]:
    """The tensors of a file written by `save_packed`, mapped from it."""
    tensors: dict[str, Tensor] = load_file(path)
    return tensors


def save_packed(path: Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Write a safetensors file tensor by tensor as they are made, so that two are never in memory together.

    The header's length is known only at the end, so it has a fixed space and is padded with blanks, as the format
    allows. This also aligns the tensors to 64 bytes, where the processor reads them best.
    """
    space = 128 << 10
    header: dict[str, object] = {}
    at = 0
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.seek(space)
            for name, tensor in tensors:
                kind = {torch.bfloat16: "BF16", torch.float32: "F32", torch.uint8: "U8", torch.int8: "I8"}[tensor.dtype]
                size = tensor.nbytes
                header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [at, at + size]}
                file.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
                at += size
            written = json.dumps(header, separators=(",", ":")).encode()
            file.seek(0)
            file.write((space - 8).to_bytes(8, "little") + written.ljust(space - 8))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)  # otherwise half a gigabyte would stay on a full disk
