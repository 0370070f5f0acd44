"""Mimi's transformer: pre-norm, rotary, GELU, layer scale, and a window of attention (250 steps of 40 ms).

`MimiTransformer` holds the weights. `TransformerStream` holds the keys and values of the window in a ring, the position
of every slot, and every buffer, so that a step allocates nothing and can be captured in a CUDA graph.
"""

import torch
from torch import Tensor, nn


class MimiTransformerLayer(nn.Module):
    """Weights of one layer. `in_proj` stacks queries, keys and values; rotary pairs are adjacent."""

    def __init__(self, dim: int, ffn: int, norm_eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, norm_eps)
        self.in_proj = nn.Linear(dim, 3 * dim, bias=False)
        self.out_proj = nn.Linear(dim, dim, bias=False)
        self.scale1 = nn.Parameter(torch.ones(dim))
        self.norm2 = nn.LayerNorm(dim, norm_eps)
        self.linear1 = nn.Linear(dim, ffn, bias=False)
        self.linear2 = nn.Linear(ffn, dim, bias=False)
        self.scale2 = nn.Parameter(torch.ones(dim))

    def tensors(self) -> tuple[Tensor, ...]:
        """All its tensors, in the order of use."""
        attention = self.norm1.weight, self.norm1.bias, self.in_proj.weight, self.out_proj.weight, self.scale1
        return *attention, self.norm2.weight, self.norm2.bias, self.linear1.weight, self.linear2.weight, self.scale2


class MimiTransformer(nn.Module):
    """`layers` layers; a step attends to itself and the `window - 1` steps before it."""

    def __init__(self, layers: int, dim: int, heads: int, ffn: int, window: int, theta: float, norm_eps: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MimiTransformerLayer(dim, ffn, norm_eps) for _ in range(layers))
        self.dim, self.heads, self.ffn = dim, heads, ffn
        self.window, self.theta, self.norm_eps = window, theta, norm_eps
        self.requires_grad_(False)

    @property
    def example(self) -> Tensor:
        """A tensor that shows the device and dtype of all of them."""
        return next(self.parameters())

    def frequencies(self) -> Tensor:
        """How fast each pair turns, in radians per position: float32 [head_dim / 2]."""
        head_dim = self.dim // self.heads
        pairs = torch.arange(head_dim // 2, dtype=torch.float32, device=self.example.device)
        return self.theta ** (-2 * pairs / head_dim)


class TransformerStream:
    """[batch, steps, dim] to [batch, steps, dim], repeatedly; each slot has its own position."""

    def __init__(self, transformer: MimiTransformer, batch: int, steps: int) -> None:
        self.transformer = transformer
        heads, dim = transformer.heads, transformer.dim
        head_dim = dim // heads
        example = transformer.example
        new, device = example.new_zeros, example.device

        # The first query of a step looks back `window - 1` steps when the key of the last one is already written.
        length = transformer.window + steps - 1
        self.keys = new(len(transformer.layers), batch, heads, length, head_dim)
        self.values = torch.zeros_like(self.keys)
        self.position = torch.zeros(batch, dtype=torch.int64, device=device)

        self.advance = torch.tensor(steps, device=device)
        self.offsets = torch.arange(steps, device=device)
        self.positions = torch.zeros(batch, steps, dtype=torch.int64, device=device)
        self.write_at = torch.zeros(batch, steps, dtype=torch.int64, device=device)
        self.write_index = self.write_at[:, None, :, None].expand(batch, heads, steps, head_dim)
        self.indices = torch.arange(length, device=device)
        self.length = torch.tensor(length, device=device)
        self.age = torch.zeros(batch, length, dtype=torch.int64, device=device)  # steps since this place was written
        self.youngest = (steps - 1 - self.offsets)[:, None]  # the age of a query's own key, [steps, 1]
        self.oldest = self.youngest + transformer.window - 1
        self.hidden = torch.zeros(batch, steps, length, dtype=torch.bool, device=device)
        self.future, self.unwritten = torch.zeros_like(self.hidden), torch.zeros_like(self.hidden[:, :1])
        self.bias = new(batch, heads, steps, length)

        self.frequencies = transformer.frequencies()
        self.angles = torch.zeros(batch, 1, steps, head_dim // 2, device=device)
        self.cos, self.sin = torch.zeros_like(self.angles), torch.zeros_like(self.angles)
        self.cos_as_weights, self.sin_as_weights = (self.angles.to(example.dtype, copy=True) for _ in range(2))

        self.hidden_state = new(batch * steps, dim)
        self.output = self.hidden_state.view(batch, steps, dim)
        self.normalised, self.projected = torch.zeros_like(self.hidden_state), torch.zeros_like(self.hidden_state)
        self.norm_eps = torch.tensor(transformer.norm_eps, dtype=example.dtype, device=device)
        self.one_over_dim = torch.full((dim, 1), 1 / dim, dtype=example.dtype, device=device)
        self.mean, self.deviation = new(batch * steps, 1), new(batch * steps, 1)
        self.qkv = new(batch * steps, 3 * dim)
        by_head = self.qkv.view(batch, steps, 3, heads, head_dim).permute(2, 0, 3, 1, 4)
        self.query_key = by_head[:2].view(2, batch, heads, steps, head_dim // 2, 2)
        self.value = by_head[2]
        self.rotated = new(2, batch, heads, steps, head_dim // 2, 2)
        self.query = self.rotated[0].view(batch * heads, steps, head_dim)
        self.key = self.rotated[1].view(batch, heads, steps, head_dim)
        self.scores = new(batch * heads, steps, length)
        self.weights = torch.zeros_like(self.scores)
        self.attended = new(batch * heads, steps, head_dim)
        self.attended_by_step = self.attended.view(batch, heads, steps, head_dim).transpose(1, 2)
        self.merged = new(batch, steps, heads, head_dim)
        self.inner = new(batch * steps, transformer.ffn)

    def step(self, x: Tensor) -> Tensor:
        """Compute a step. The result is a buffer that the next step overwrites."""
        self.output.copy_(x)
        self._place()
        for layer, keys, values in zip(self.transformer.layers, self.keys, self.values, strict=True):
            assert isinstance(layer, MimiTransformerLayer)
            self._attend(layer, keys, values)
            self._feed_forward(layer)
        self.position.add_(self.advance)
        return self.output

    def _place(self) -> None:
        """Compute for all layers where this step writes in the ring, what it may attend to, and its rotation."""
        torch.add(self.position[:, None], self.offsets, out=self.positions)
        torch.remainder(self.positions, self.length, out=self.write_at)

        last = self.positions[:, -1:]
        torch.sub(last, self.indices, out=self.age)
        self.age.remainder_(self.length)
        age = self.age[:, None, :]
        torch.lt(age, self.youngest, out=self.future)
        torch.gt(age, self.oldest, out=self.hidden)
        torch.gt(age, last[:, None], out=self.unwritten)
        self.hidden.logical_or_(self.future).logical_or_(self.unwritten)
        self.bias.zero_().masked_fill_(self.hidden[:, None], -torch.inf)

        self.angles.copy_(self.positions[:, None, :, None]).mul_(self.frequencies)
        self.cos_as_weights.copy_(torch.cos(self.angles, out=self.cos))
        self.sin_as_weights.copy_(torch.sin(self.angles, out=self.sin))

    def _attend(self, layer: MimiTransformerLayer, keys: Tensor, values: Tensor) -> None:
        self._normalise(layer.norm1)
        torch.mm(self.normalised, layer.in_proj.weight.t(), out=self.qkv)
        even, odd = self.query_key.unbind(-1)
        torch.mul(self.query_key, self.cos_as_weights[..., None], out=self.rotated)
        self.rotated[..., 0].addcmul_(odd, self.sin_as_weights, value=-1)
        self.rotated[..., 1].addcmul_(even, self.sin_as_weights)
        keys.scatter_(2, self.write_index, self.key)
        values.scatter_(2, self.write_index, self.value)

        scale = self.query.shape[-1] ** -0.5
        bias, keys, values = self.bias.flatten(0, 1), keys.flatten(0, 1), values.flatten(0, 1)
        torch.baddbmm(bias, self.query, keys.transpose(1, 2), alpha=scale, out=self.scores)
        torch.softmax(self.scores, -1, out=self.weights)
        torch.bmm(self.weights, values, out=self.attended)
        self.merged.copy_(self.attended_by_step)
        torch.mm(self.merged.view_as(self.projected), layer.out_proj.weight.t(), out=self.projected)
        self.hidden_state.addcmul_(layer.scale1, self.projected)

    def _feed_forward(self, layer: MimiTransformerLayer) -> None:
        self._normalise(layer.norm2)
        torch.mm(self.normalised, layer.linear1.weight.t(), out=self.inner)
        torch.ops.aten.gelu_(self.inner)
        torch.mm(self.inner, layer.linear2.weight.t(), out=self.projected)
        self.hidden_state.addcmul_(layer.scale2, self.projected)

    def _normalise(self, norm: nn.LayerNorm) -> None:
        """LayerNorm in single operations, because torch's own has no variant that writes into a buffer."""
        torch.mm(self.hidden_state, self.one_over_dim, out=self.mean)
        torch.sub(self.hidden_state, self.mean, out=self.normalised)
        torch.var(self.hidden_state, -1, correction=0, keepdim=True, out=self.deviation)
        self.deviation.add_(self.norm_eps).rsqrt_()
        self.normalised.mul_(self.deviation)
        torch.addcmul(norm.bias, self.normalised, norm.weight, out=self.normalised)

    def reset(self, slot: int | slice) -> None:
        self.position[slot] = 0  # stale entries of the ring are never read
