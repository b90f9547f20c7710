"""The probability that an item is among the candidates."""

from __future__ import annotations

import math

import pytest
import torch

from peftrec.losses import log_inclusion_probability


@pytest.mark.parametrize(
    ("frequency", "num_draws", "probability"),
    [(0.5, 1, 0.5), (0.5, 2, 0.75), (0.1, 3, 0.271), (0.25, 2, 0.4375), (1.0, 1, 1.0), (1.0, 50, 1.0)],
)
def test_by_hand(frequency: float, num_draws: int, probability: float) -> None:
    for dtype in (torch.float64, torch.float32):
        found = log_inclusion_probability(torch.tensor([frequency], dtype=dtype), num_draws)
        assert float(found) == pytest.approx(math.log(probability), abs=1e-6)


def test_small_frequencies_keep_their_precision() -> None:
    frequencies = torch.tensor([1e-9, 1e-12], dtype=torch.float64)
    found = log_inclusion_probability(frequencies, 100)
    torch.testing.assert_close(found, (frequencies * 100).log(), rtol=1e-6, atol=0)
    assert bool(torch.isfinite(log_inclusion_probability(frequencies.float(), 100)).all())


def test_more_draws_make_it_likelier_and_one_draw_gives_the_frequency() -> None:
    frequencies = torch.tensor([0.01, 0.2, 0.9], dtype=torch.float64)
    torch.testing.assert_close(log_inclusion_probability(frequencies, 1), frequencies.log())
    rising = torch.stack([log_inclusion_probability(frequencies, n) for n in (1, 2, 5, 50)])
    assert bool((rising.diff(dim=0) > 0).all())
    assert bool((rising <= 0).all())


def test_against_simulation() -> None:
    frequencies = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    draws = torch.multinomial(
        frequencies.expand(20_000, 3), 4, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    share = torch.stack([(draws == item).any(1).double().mean() for item in range(3)])
    torch.testing.assert_close(log_inclusion_probability(frequencies, 4).exp(), share, rtol=0.03, atol=0)
