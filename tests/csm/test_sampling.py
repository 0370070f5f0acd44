"""The sampler against the formula: softmax(logits / temperature) over the k largest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from csm.sampling import draw_noise, sample

CODES, DRAWS = 40, 40_000


def formula(logits: Tensor, temperature: float, topk: int) -> Tensor:
    kept = logits.topk(topk)
    return torch.zeros(len(logits)).scatter(0, kept.indices, (kept.values / temperature).softmax(0))


@pytest.mark.parametrize(("temperature", "topk"), [(1.0, CODES), (0.9, 8), (0.4, 50), (2.0, 3), (1.0, 1)])
def test_the_distribution_is_that_of_the_formula(temperature: float, topk: int) -> None:
    logits = 2 * torch.randn(CODES, generator=torch.Generator().manual_seed(3))
    noise = draw_noise((DRAWS, CODES), torch.Generator().manual_seed(4))
    drawn = sample(logits.expand(DRAWS, CODES), temperature, topk, noise).bincount(minlength=CODES)
    expected = formula(logits, temperature, min(topk, CODES)) * DRAWS
    assert drawn[expected == 0].sum() == 0
    likely = expected >= 5
    statistic = ((drawn - expected)[likely] ** 2 / expected[likely]).sum()
    degrees = max(1, int(likely.sum()) - 1)
    # Five standard deviations of chi-squared: a right sampler hardly ever goes beyond, and the seed is set.
    assert statistic < degrees + 5 * (2 * degrees) ** 0.5


def test_each_sequence_has_its_own_noise_and_temperature() -> None:
    logits = torch.randn(3, CODES, generator=torch.Generator().manual_seed(1)).expand(3, CODES)
    noise = draw_noise((3, CODES), torch.Generator().manual_seed(2))
    together = sample(logits, torch.tensor([[0.0], [0.9], [1.7]]), 10, noise)
    alone = [sample(logits[i : i + 1], heat, 10, noise[i : i + 1]) for i, heat in enumerate((0.0, 0.9, 1.7))]
    assert together.tolist() == [int(code) for code in alone]


def test_without_heat_or_without_noise_the_likeliest_is_taken() -> None:
    logits = torch.randn(5, CODES)
    assert torch.equal(sample(logits, 0.0, 50, draw_noise((5, CODES))), logits.argmax(-1))
    assert torch.equal(sample(logits, 0.9, 50), logits.argmax(-1))


def test_noise_is_of_the_seed_and_fills_a_buffer_in_place() -> None:
    buffer = torch.empty(2, 7)
    noise = draw_noise((2, 7), torch.Generator().manual_seed(9), out=buffer)
    assert noise is buffer
    assert torch.equal(noise, draw_noise((2, 7), torch.Generator().manual_seed(9)))
    assert (draw_noise((100_000,)) > 0).all()


def test_each_row_may_have_a_topk_of_its_own() -> None:
    draw = torch.Generator().manual_seed(5)
    logits, noise = torch.randn(4, 30, generator=draw), draw_noise((4, 30), draw)
    topk, temperature = torch.tensor([[1], [3], [30], [99]]), torch.full((4, 1), 2.0)
    for widest in (None, 99):
        together = sample(logits, temperature, topk, noise, widest)
        alone = [sample(logits[[row]], 2.0, int(topk[row]), noise[[row]]) for row in range(4)]
        assert torch.equal(together, torch.cat(alone))


def test_noise_on_a_cpu_is_what_pytorch_draws_bit_for_bit() -> None:
    draws = [torch.Generator().manual_seed(5) for _ in range(2)]
    expected = torch.empty(3, 1000).exponential_(generator=draws[0])
    assert torch.equal(draw_noise((3, 1000), draws[1]), expected)
    assert torch.equal(draws[0].get_state(), draws[1].get_state())
