"""Sound by the kernel, beside that of PyTorch's operations on the same codes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from csm.backends.choose import choose_decoder
from csm.backends.cpu_kernel import Kernel, KernelCodecStream
from csm.backends.quantize import KernelPacking, quantize
from csm.codec.mimi import Mimi
from csm.codec.stream import MimiDecoder
from csm.codec.transformer import TransformerStream
from tests.csm.tiny import TINY_MIMI, make_mimi, make_model


@pytest.mark.parametrize(("batch", "steps"), [(1, 2), (2, 3), (1, 1)])
@torch.inference_mode()
def test_the_kernels_transformer_is_pytorchs_also_where_its_ring_is_full(
    kernel: Kernel, batch: int, steps: int
) -> None:
    transformer = make_mimi(replace(TINY_MIMI, layers=2)).decoder_transformer
    plain, ours = TransformerStream(transformer, batch, steps), KernelCodecStream(kernel, transformer, batch, steps)
    draw = torch.Generator().manual_seed(2)
    for step in range(3 * transformer.window):
        if step == transformer.window + 5:
            for stream in (plain, ours):
                stream.reset(batch - 1)
        x = torch.randn(batch, steps, transformer.dim, generator=draw)
        assert torch.allclose(ours.step(x), plain.step(x), atol=1e-5)


def test_packed_weights_speak_by_the_kernel_and_sound_the_same(kernel: Kernel) -> None:
    mimi, model = make_mimi(), quantize(make_model(), "int4", packing=KernelPacking(kernel))
    ours, plain = choose_decoder(mimi, model), mimi.decoder()
    assert isinstance(ours, MimiDecoder) and isinstance(ours.chain.links[2], KernelCodecStream)
    codes = torch.randint(0, 64, (1, 8, 20), generator=torch.Generator().manual_seed(3))
    for _ in range(2):
        assert torch.allclose(ours.step(codes), plain.step(codes), atol=1e-5)
        ours.reset()
        plain.reset()


def test_sizes_that_the_kernel_cannot_take_are_refused(kernel: Kernel) -> None:
    mimi = Mimi(replace(TINY_MIMI, ffn=40))
    with pytest.raises(ValueError, match="multiples of 16"):
        KernelCodecStream(kernel, mimi.decoder_transformer, 1, 2)
