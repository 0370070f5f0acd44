"""Builds the kernel of cpu_kernel.cpp if there is a C++ compiler, and calls it.

On a CPU, a stack of layers is bound by reading its weights, and eager PyTorch adds some four operations for each
matrix, 31 times a frame. Here a stack is one call. Without a compiler `Kernel.build` says why, and
`csm.backends.quantize` uses PyTorch's kernels.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..codec.transformer import MimiTransformer, MimiTransformerLayer
from ..model import CsmConfig, KeyValueCache, TransformerConfig, Where
from ..sampling import Chooser
from .rounding import BLOCK, GROUP

__all__ = [
    "GROUP",
    "Kernel",
    "KernelCodecStream",
    "KernelDepthDecoder",
    "KernelLayer",
    "KernelLinear",
    "KernelTransformer",
    "KernelUnavailable",
    "Packed",
    "lay_out",
]

SOURCES = [Path(__file__).with_name(name) for name in ("cpu_kernel.cpp", "cpu_matrix.h", "cpu_team.h", "cpu_codec.h")]
FLAGS = (
    "-O3 -march=native -std=c++20 -shared -fPIC -fopenmp -Wno-psabi "
    # Needed to vectorise sums. -ffast-math itself would change the arithmetic of the whole process.
    "-fno-math-errno -fno-trapping-math -fassociative-math -fno-signed-zeros"
).split()
WIDE = "-mprefer-vector-width=512"


class KernelUnavailable(Exception):
    """There is no kernel on this machine; the message says why."""


class Packed(NamedTuple):
    """A matrix in the kernel's order: codes uint8 [bytes], scales bfloat16 [outputs / 16, groups, 16]."""

    codes: Tensor
    scales: Tensor
    inputs: int

    @property
    def outputs(self) -> int:
        return self.scales.shape[0] * BLOCK

    @property
    def bits(self) -> int:
        return self.codes.numel() * 8 // (self.scales.numel() * GROUP)


def lay_out(codes: Tensor, scales: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Signed codes int8 [outputs, groups, 64] and scales bfloat16 [outputs, groups] → those of `Packed`.

    Outputs are padded with zeros to a multiple of 16.
    """
    missing = -codes.shape[0] % BLOCK
    rows = F.pad(codes, (0, 0, 0, 0, 0, missing))
    blocks = rows.reshape(-1, BLOCK, rows[0].numel() // 4, 4).transpose(1, 2)  # [blocks, inputs / 4, 16, 4]
    if bits == 4:
        even, odd = (blocks + 8).to(torch.uint8).reshape(len(blocks), -1, 2, BLOCK, 4).unbind(2)
        blocks = even | odd << 4
    ordered = F.pad(scales, (0, 0, 0, missing)).reshape(-1, BLOCK, scales.shape[1]).transpose(1, 2)
    return blocks.contiguous().view(torch.uint8).flatten(), ordered.contiguous()


class _Linear(ctypes.Structure):
    _fields_ = (
        ("codes", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("outputs", ctypes.c_int32),
        ("inputs", ctypes.c_int32),
        ("bits", ctypes.c_int32),
    )

    @classmethod
    def of(cls, packed: Packed) -> _Linear:
        return cls(packed.codes.data_ptr(), packed.scales.data_ptr(), packed.outputs, packed.inputs, packed.bits)


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, _Linear) for name in ("qkv", "output", "gate_up", "down")),
        ("attention_norm", ctypes.c_void_p),
        ("mlp_norm", ctypes.c_void_p),
    )


class _Stack(ctypes.Structure):
    _fields_ = (
        ("layers", ctypes.POINTER(_Layer)),
        ("norm", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("count", "dim", "heads", "kv_heads", "head_dim", "ffn")),
        ("eps", ctypes.c_float),
    )


class _Cache(ctypes.Structure):
    _fields_ = (
        ("entries", ctypes.c_void_p),
        ("rope", ctypes.c_void_p),
        *((f"{name}_stride", ctypes.c_int64) for name in ("layer", "value", "sequence", "head")),
    )


class _DepthDecoder(ctypes.Structure):
    _fields_ = (
        ("decoder", _Stack),
        ("projection", _Linear),
        ("heads", ctypes.POINTER(_Linear)),
        ("embeddings", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("codebooks", "vocabulary", "codes", "dim")),
    )


class _CodecLayer(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_void_p)
        for name in (
            *("norm1", "norm1_bias", "in_proj", "out_proj", "scale1"),
            *("norm2", "norm2_bias", "linear1", "linear2", "scale2"),
        )
    )


class _CodecStack(ctypes.Structure):
    _fields_ = (
        ("layers", ctypes.POINTER(_CodecLayer)),
        ("frequencies", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("count", "dim", "heads", "ffn", "window")),
        ("eps", ctypes.c_float),
    )


class Kernel:
    """The compiled library."""

    def __init__(self, library: Path) -> None:
        try:
            built = ctypes.CDLL(str(library))
        except OSError as error:
            raise KernelUnavailable(f"the kernel that was built cannot be loaded: {error}") from error
        pointer, number = ctypes.c_void_p, ctypes.c_int
        self.linear = _typed(built.csm_linear, ctypes.POINTER(_Linear), pointer, number, pointer, number)
        self.stack = _typed(
            built.csm_stack,
            *(ctypes.POINTER(_Stack), pointer, number, pointer, pointer),
            *(ctypes.POINTER(_Cache), number),
        )
        self.depth_decode = _typed(
            built.csm_depth_decode,
            *(ctypes.POINTER(_DepthDecoder), ctypes.POINTER(_Cache)),
            *(pointer, number, pointer, pointer, pointer),
            *(pointer, number),
        )
        self.codec = _typed(
            built.csm_codec,
            *(ctypes.POINTER(_CodecStack), pointer),
            *(number, number, pointer, pointer),
            *(number, number),
        )
        built.csm_instructions.restype = ctypes.c_char_p
        self.instructions: str = built.csm_instructions().decode()
        """The instructions it multiplies with, such as "AVX-512 VNNI"."""

    @classmethod
    def build(cls, folder: Path | None = None, flags: Sequence[str] = ()) -> Kernel:
        """Return the kernel for this processor, built into `folder` (default: the user's cache) unless it is there.

        Raises KernelUnavailable if there is no compiler, or if the compiler cannot build it.
        """
        compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
        if compiler is None:
            raise KernelUnavailable("there is no C++ compiler (g++ or clang++)")
        folder = folder or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "csm"
        machine = platform.machine()
        flags = [*FLAGS, *([WIDE] if machine in ("x86_64", "AMD64") else []), *flags]
        identity = [
            *(source.read_text(encoding="utf-8") for source in SOURCES),
            compiler,
            *flags,
            machine,
            _processor(),
        ]
        library = folder / f"cpu_kernel-{hashlib.sha256('|'.join(identity).encode()).hexdigest()[:16]}.so"
        if not library.exists():
            _compile(compiler, flags, library)
        return cls(library)


class KernelLinear(nn.Module):
    """x [..., inputs] → [..., outputs], with the outputs padded to a multiple of 16."""

    def __init__(self, kernel: Kernel, packed: Packed) -> None:
        super().__init__()
        self.kernel, self.packed, self._linear = kernel, packed, _Linear.of(packed)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.float().contiguous()
        out = rows.new_empty(*x.shape[:-1], self.packed.outputs)
        count = out.numel() // self.packed.outputs
        self.kernel.linear(self._linear, rows.data_ptr(), count, out.data_ptr(), torch.get_num_threads())
        return out.to(x.dtype)


class KernelLayer(NamedTuple):
    """A layer's matrices: queries, keys and values stacked; gate and up projection alternate, 16 rows of each."""

    qkv: Packed
    output: Packed
    gate_up: Packed
    down: Packed
    attention_norm: Tensor
    mlp_norm: Tensor


class KernelTransformer(nn.Module):
    """`csm.model.Transformer` in one call. Its cache is bfloat16; every row attends to the rows before it."""

    def __init__(self, kernel: Kernel, config: TransformerConfig, layers: Sequence[KernelLayer], norm: Tensor) -> None:
        super().__init__()
        self.kernel = kernel
        norms = [(layer.attention_norm.float(), layer.mlp_norm.float()) for layer in layers]
        self._kept = (layers, norms, norm.float())
        matrices = [[_Linear.of(matrix) for matrix in layer[:4]] for layer in layers]
        held = (_Layer * len(layers))(
            *(
                _Layer(*linears, *(scale.data_ptr() for scale in pair))
                for linears, pair in zip(matrices, norms, strict=True)
            )
        )
        sizes = (config.layers, config.dim, config.heads, config.kv_heads, config.head_dim, config.ffn)
        self._stack = _Stack(held, self._kept[2].data_ptr(), *sizes, config.norm_eps)

    def forward(self, x: Tensor, where: Where, mask: Tensor | None, cache: KeyValueCache) -> Tensor:
        """See `Transformer.forward`. The mask is always causal; the argument is ignored."""
        batch, count, _ = x.shape
        if isinstance(where, slice):
            where = torch.arange(where.start, where.stop).expand(batch, count)
        positions = where.contiguous()
        sequences = torch.arange(batch) if cache.sequences is None else cache.sequences
        of_rows = sequences.repeat_interleave(count)
        rows = x.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        self.kernel.stack(
            self._stack,
            rows.data_ptr(),
            *(batch * count, of_rows.data_ptr(), positions.data_ptr()),
            *(_cache(cache), torch.get_num_threads()),
        )
        return rows.to(x.dtype)


class KernelDepthDecoder:
    """`csm.model.Csm.frame` in one call, for up to MOST sequences."""

    MOST = 24
    """ROWS / 2 of cpu_matrix.h: the first step takes two rows per sequence."""

    def __init__(
        self,
        config: CsmConfig,
        decoder: KernelTransformer,
        projection: KernelLinear,
        heads: Sequence[KernelLinear],
        embeddings: Tensor,
    ) -> None:
        self._kept = (decoder, projection, heads, embeddings)
        self.kernel, self.codebooks = decoder.kernel, config.audio_codebooks
        sizes = (config.audio_codebooks, config.audio_vocab_size, config.codes, config.backbone.dim)
        held = (_Linear * len(heads))(*(head._linear for head in heads))
        self._depth = _DepthDecoder(decoder._stack, projection._linear, held, embeddings.data_ptr(), *sizes)

    def __call__(self, hidden: Tensor, cache: KeyValueCache, chooser: Chooser) -> Tensor:
        """The frames that follow hidden [b, dim]: codes [b, codebooks]."""
        count, state, noise = len(hidden), hidden.float().contiguous(), chooser.noise
        noise = None if noise is None else noise.float().contiguous()
        temperature, topk = torch.empty(count, 1), torch.empty(count, 1, dtype=torch.int64)
        temperature[:], topk[:] = chooser.temperature, chooser.topk
        codes = torch.empty(count, self.codebooks, dtype=torch.int64)
        self.kernel.depth_decode(
            self._depth,
            _cache(cache),
            *(state.data_ptr(), count, None if noise is None else noise.data_ptr()),
            *(temperature.data_ptr(), topk.data_ptr(), codes.data_ptr(), torch.get_num_threads()),
        )
        return codes


class KernelCodecStream:
    """`csm.codec.transformer.TransformerStream` in one call: float32 [batch, steps, dim] to the same."""

    def __init__(self, kernel: Kernel, transformer: MimiTransformer, batch: int, steps: int) -> None:
        """Raises ValueError for sizes that are not multiples of 16, and for weights that are not float32."""
        dim, heads = transformer.dim, transformer.heads
        if dim % BLOCK or transformer.ffn % BLOCK or transformer.example.dtype != torch.float32:
            raise ValueError(f"The kernel takes codecs in float32, and sizes that are multiples of {BLOCK}.")
        self.kernel = kernel
        length = transformer.window + steps - 1  # a step's last key is already written when its first query looks back
        self.ring = torch.zeros(len(transformer.layers), 2, batch, heads, length, dim // heads)
        self.positions = torch.zeros(batch, dtype=torch.int64)
        self.steps = steps
        self._kept = (transformer, transformer.frequencies())
        parts: Iterable[MimiTransformerLayer] = transformer.layers  # type: ignore[assignment]
        layers = [_CodecLayer(*(tensor.data_ptr() for tensor in layer.tensors())) for layer in parts]
        held = (_CodecLayer * len(layers))(*layers)
        sizes = (len(layers), dim, heads, transformer.ffn, transformer.window)
        self._stack = _CodecStack(held, self._kept[1].data_ptr(), *sizes, transformer.norm_eps)

    def step(self, x: Tensor) -> Tensor:
        out = x.clone(memory_format=torch.contiguous_format)
        self.kernel.codec(
            *(self._stack, out.data_ptr(), len(x), self.steps, self.positions.data_ptr(), self.ring.data_ptr()),
            *(self.ring.shape[4], torch.get_num_threads()),
        )
        self.positions += self.steps
        return out

    def reset(self, slot: int | slice) -> None:
        self.positions[slot] = 0  # stale entries of the ring are never read


def _typed(function: Any, *arguments: Any) -> Callable[..., None]:
    """Declare the argument types of a library's function, which returns nothing."""
    function.argtypes, function.restype = arguments, None
    called: Callable[..., None] = function
    return called


def _cache(cache: KeyValueCache) -> _Cache:
    """Describe to the kernel where keys and values lie."""
    if cache.tensor.dtype != torch.bfloat16:
        raise TypeError(f"The kernel keeps keys and values in bfloat16, but was given {cache.tensor.dtype}.")
    rope = torch.view_as_real(cache.rope)
    return _Cache(cache.tensor.data_ptr(), rope.data_ptr(), *cache.tensor.stride()[:4])


def _compile(compiler: str, flags: Sequence[str], library: Path) -> None:
    """Build in a temporary folder and move the complete file into place, so that nobody ever loads half of one."""
    try:
        library.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made = Path(folder) / library.name
            command = [*compiler.split(), *flags, str(SOURCES[0]), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                complaint = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
                raise KernelUnavailable(f"{compiler} cannot build it: {complaint}")
            made.replace(library)
    except OSError as error:
        raise KernelUnavailable(f"it cannot be built in {library.parent}: {error}") from error


def _processor() -> str:
    """A text that distinguishes this processor from others that share a home directory."""
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return platform.processor()
