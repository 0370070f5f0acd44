"""Weights in large pages of memory.

A mapped file may lie in pages of 4 kB. The processor must look up each of them, and its prefetching stops at a page's
end. Code that is bound by memory bandwidth is slowed by that: a frame took 16% longer.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from contextlib import suppress

import torch
from torch import Tensor

__all__ = ["in_large_pages"]

ALIGNED = 64
"""Alignment in bytes that processors read best."""


def in_large_pages(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies, one after the other in memory that asks for large pages; the tensors themselves if there are none.

    This reads the tensors from their file all at once, so that nothing waits for a disk later.
    """
    if not hasattr(mmap, "MADV_HUGEPAGE"):  # Linux only
        return dict(tensors)
    sizes = {name: -(-tensor.nbytes // ALIGNED) * ALIGNED for name, tensor in tensors.items()}
    memory = mmap.mmap(-1, max(1, sum(sizes.values())), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # the system was built without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    space, at, copies = torch.frombuffer(memory, dtype=torch.uint8), 0, {}
    for name, tensor in tensors.items():
        copies[name] = space[at : at + tensor.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor)
        at += sizes[name]
    return copies
