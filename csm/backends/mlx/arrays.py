"""Convert between PyTorch's tensors, which everything around the model uses, and MLX's arrays."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import torch
from torch import Tensor

__all__ = ["DTYPES", "to_mlx", "to_torch"]

DTYPES = {torch.float32: mx.float32, torch.bfloat16: mx.bfloat16, torch.float16: mx.float16}
"""The dtypes that weights may have."""


def to_mlx(tensor: Tensor) -> mx.array:
    """Return a copy. Integers become int32, MLX's default."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:  # numpy lacks it
        return mx.array(tensor.view(torch.int16).numpy()).view(mx.bfloat16)
    return mx.array((tensor.int() if tensor.dtype == torch.int64 else tensor).numpy())


def to_torch(array: mx.array) -> Tensor:
    """Return a copy on the host: float32, or int64 for integers. Waits until the array is computed."""
    whole = mx.issubdtype(array.dtype, mx.integer)
    return torch.from_numpy(np.array(array.astype(mx.int64 if whole else mx.float32)))
