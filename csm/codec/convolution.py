"""Mimi's convolutions as matrix products with state.

Sound lies in memory as [batch, time, channels]. The window of a causal convolution over `kernel` steps is then
contiguous memory, and every convolution in Mimi has the same form, `window @ weight.T + bias`:

- an ordinary convolution: windows of `kernel` steps;
- stride s and kernel 2 s (as all strided ones in Mimi): kernel 2 over blocks of s steps, each read as one step with
  s times the channels;
- a transposed convolution with stride s and kernel 2 s: kernel 2, whose output of s times the channels is read as s
  steps. Nothing overlaps and no tail is kept. A general kernel for transposed convolutions is slow on a single step.

`CausalConvolution` holds the weights. A `…Stream` holds the state of one stream (the last `kernel - 1` inputs) and
every buffer it needs, so that a step allocates nothing and can be captured in a CUDA graph.
"""

import torch
from torch import Tensor, nn


class CausalConvolution(nn.Module):
    """Weight [outputs, kernel * inputs]: the window's steps from old to new, each with its channels. Bias [outputs]."""

    bias: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> None:
        super().__init__()
        self.inputs, self.outputs, self.kernel = inputs, outputs, kernel
        self.weight = nn.Parameter(torch.empty(outputs, kernel * inputs), requires_grad=False)
        if bias:
            self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=False)
        else:
            self.register_buffer("bias", torch.zeros(outputs), persistent=False)


class ConvolutionStream:
    """[batch, steps, inputs] to [batch, steps, outputs], repeatedly. The input before the first step counts as silence.

    Args:
        elu: pass the inputs through ELU first, as SEANet does before all convolutions but the first.
    """

    def __init__(self, convolution: CausalConvolution, batch: int, steps: int, *, elu: bool) -> None:
        new, kernel, inputs = convolution.weight.new_zeros, convolution.kernel, convolution.inputs
        self.convolution, self.elu = convolution, elu
        self.past = new(batch, kernel - 1, inputs)
        window = new(batch, kernel - 1 + steps, inputs)
        self.window_past, self.window_now = window[:, : kernel - 1], window[:, kernel - 1 :]
        self.window_end = window[:, steps:]
        self.windows = window.unfold(1, kernel, 1).transpose(2, 3)  # overlapping: [batch, steps, kernel, inputs]
        self.columns = new(batch, steps, kernel, inputs) if kernel > 1 else self.windows
        self.rows = self.columns.view(batch * steps, kernel * inputs)
        self.output = new(batch, steps, convolution.outputs)
        self.output_rows = self.output.view(batch * steps, convolution.outputs)

    def step(self, x: Tensor) -> Tensor:
        """Compute a step. The result is a buffer that the next step overwrites."""
        if self.elu:
            torch.ops.aten.elu.out(x, out=self.window_now)
        else:
            self.window_now.copy_(x)
        if self.convolution.kernel > 1:
            self.window_past.copy_(self.past)
            self.columns.copy_(self.windows)
            self.past.copy_(self.window_end)
        torch.addmm(self.convolution.bias, self.rows, self.convolution.weight.t(), out=self.output_rows)
        return self.output

    def reset(self, slot: int | slice) -> None:
        self.past[slot].zero_()


class RepeatedStartStream(ConvolutionStream):
    """The same, but its past before the first step is that step's first instant, repeated (Mimi's `downsample`).

    Args:
        block: how many instants of `channels` one input step holds.
    """

    def __init__(self, convolution: CausalConvolution, batch: int, steps: int, block: int) -> None:
        super().__init__(convolution, batch, steps, elu=False)
        self.block = block
        self.fresh = torch.ones(batch, 1, 1, dtype=torch.bool, device=convolution.weight.device)

    def step(self, x: Tensor) -> Tensor:
        first = x[:, :1, : x.shape[2] // self.block].repeat(1, 1, self.block)
        torch.where(self.fresh, first, self.past, out=self.past)
        self.fresh.fill_(False)
        return super().step(x)

    def reset(self, slot: int | slice) -> None:
        super().reset(slot)
        self.fresh[slot] = True


class ChannelwiseUpsampling(nn.Module):
    """A transposed convolution of each channel alone, stride s and kernel 2 s: weight [2 s, channels], no bias."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(2 * stride, channels), requires_grad=False)


class UpsamplingStream:
    """[batch, steps, channels] to [batch, steps * stride, channels]."""

    def __init__(self, upsampling: ChannelwiseUpsampling, batch: int, steps: int) -> None:
        new, channels = upsampling.weight.new_zeros, upsampling.weight.shape[1]
        self.upsampling = upsampling
        self.past = new(batch, 1, 1, channels)
        window = new(batch, 1 + steps, 1, channels)
        self.window_past, self.window_now = window[:, :1], window[:, 1:]
        self.before, self.window_end = window[:, :-1], window[:, -1:]
        self.output = new(batch, steps, upsampling.stride, channels)
        self.output_steps = self.output.view(batch, steps * upsampling.stride, channels)

    def step(self, x: Tensor) -> Tensor:
        """Compute a step. The result is a buffer that the next step overwrites."""
        stride, weight = self.upsampling.stride, self.upsampling.weight
        self.window_past.copy_(self.past)
        self.window_now.copy_(x.unsqueeze(2))
        self.past.copy_(self.window_end)
        torch.mul(self.window_now, weight[:stride], out=self.output)
        torch.addcmul(self.output, self.before, weight[stride:], out=self.output)
        return self.output_steps

    def reset(self, slot: int | slice) -> None:
        self.past[slot].zero_()
