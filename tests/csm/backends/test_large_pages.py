"""Copies of tensors in large pages: they are the same, and lie where a processor reads best."""

from __future__ import annotations

import mmap

import pytest
import torch

from csm.backends.large_pages import ALIGNED, in_large_pages

TENSORS = {
    "odd": torch.arange(7, dtype=torch.uint8),
    "scales": torch.randn(3, 5, 16).bfloat16(),
    "norm": torch.randn(33),
    "large": torch.randint(0, 255, (3 << 20,), dtype=torch.uint8),
}


def test_copies_are_the_tensors_each_at_a_place_of_its_own() -> None:
    copies = in_large_pages(TENSORS)
    assert list(copies) == list(TENSORS)
    for name, tensor in TENSORS.items():
        assert torch.equal(copies[name], tensor) and copies[name].dtype == tensor.dtype
        assert copies[name].data_ptr() != tensor.data_ptr() and copies[name].data_ptr() % ALIGNED == 0


def test_where_there_are_none_tensors_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    assert all(copy is TENSORS[name] for name, copy in in_large_pages(TENSORS).items())
