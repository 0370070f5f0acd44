"""Packed weights on the kernels that PyTorch has for every CPU, for machines without a C++ compiler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model import Attention, Csm, FeedForward, Layer, Transformer, TransformerConfig
from .rounding import BLOCK, GROUP, round_weight

__all__ = ["TorchPacking"]


class TorchPacking:
    """Uses PyTorch's own kernels, which run on every CPU. With 8 bits they support only one scale per row."""

    name = "torch"
    computes_by = "PyTorch, because there is no C++ compiler to build csm’s kernel"

    def pack(self, weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
        outputs, inputs = weight.shape
        weight = F.pad(weight, (0, 0, 0, -outputs % 16))
        if bits == 8:
            codes, scales = round_weight(weight, bits, inputs)
            return codes[:, 0], scales[:, 0]
        codes, scales = round_weight(weight, bits)
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.flatten(1).int() + 8, 1)
        return packed, torch.stack((scales.T, torch.zeros_like(scales.T)), dim=2).contiguous()

    def linear(self, codes: Tensor, scales: Tensor, inputs: int) -> nn.Module:
        return TorchLinear(codes, scales, inputs)

    def stack(self, config: TransformerConfig, tensors: Mapping[str, Tensor]) -> nn.Module:
        def matrix(name: str, inputs: int) -> nn.Module:
            return self.linear(tensors[f"{name}.codes"], tensors[f"{name}.scales"], inputs)

        with torch.device("meta"):
            stack = Transformer(config)
        layers: Iterable[Layer] = stack.layers  # type: ignore[assignment]
        for index, layer in enumerate(layers):
            name = f"layers.{index}"
            for norm in ("sa_norm", "mlp_norm"):
                getattr(layer, norm).scale = nn.Parameter(tensors[f"{name}.{norm}"].bfloat16())
            output = matrix(f"{name}.output", config.heads * config.head_dim)
            layer.attn = FusedAttention(config, matrix(f"{name}.qkv", config.dim), output)
            layer.mlp = FusedFeedForward(matrix(f"{name}.gate_up", config.dim), matrix(f"{name}.down", config.ffn))
        stack.norm.scale = nn.Parameter(tensors["norm"].bfloat16())
        return stack

    def depth_decoder(self, model: Csm) -> None:
        return None


class TorchLinear(nn.Module):
    """x bfloat16 [..., inputs] → [..., outputs] through PyTorch's int4 or int8 kernel."""

    def __init__(self, codes: Tensor, scales: Tensor, inputs: int) -> None:
        super().__init__()
        self.codes, self.scales, self.inputs = codes, scales, inputs

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.inputs)
        if self.scales.dim() == 1:
            out: Tensor = torch.ops.aten._weight_int8pack_mm(rows, self.codes, self.scales)
        else:
            rows = F.pad(rows, (0, -self.inputs % GROUP))
            out = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.codes, GROUP, self.scales)
        return out.view(*x.shape[:-1], -1)


class FusedAttention(Attention):
    """Attention with queries, keys and values in one matrix."""

    def __init__(self, config: TransformerConfig, qkv: nn.Module, output: nn.Module) -> None:
        nn.Module.__init__(self)
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.qkv = qkv
        self.output_proj = output  # type: ignore[assignment]

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sizes = [heads * self.head_dim for heads in (self.heads, self.kv_heads, self.kv_heads)]
        queries, keys, values = self.qkv(x).split(sizes, dim=-1)
        return queries, keys, values


class FusedFeedForward(FeedForward):
    """Feed-forward with gate and up projection in one matrix."""

    def __init__(self, gate_up: nn.Module, down: nn.Module) -> None:
        nn.Module.__init__(self)
        self.gate_up, self.down = gate_up, down

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).unflatten(-1, (-1, 2, BLOCK)).unbind(-2)
        out: Tensor = self.down((F.silu(gate) * up).flatten(-2))
        return out
