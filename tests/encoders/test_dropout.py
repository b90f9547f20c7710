"""Dropout that draws four numbers from one word."""

from __future__ import annotations

import pytest
import torch

from peftrec.encoders.dropout import Dropout


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.4, 0.9])
def test_share_and_mean(probability: float) -> None:
    torch.manual_seed(0)
    states = torch.ones(1000, 1001)
    found = Dropout(probability)(states)
    dropped = (found == 0).double()
    # Four standard deviations of a mean over a million.
    bound = 4 * (probability * (1 - probability) / states.numel()) ** 0.5
    assert abs(float(dropped.mean()) - probability) < bound
    assert abs(float(found.mean()) - 1) < bound / (1 - probability)
    kept = found[found != 0]
    assert float(kept.max() - kept.min()) == 0
    assert float(kept[0]) == pytest.approx(1 / (1 - probability), rel=1e-4)


def test_elements_are_independent() -> None:
    """Neighbours share a word, but nothing else."""
    torch.manual_seed(1)
    dropped = (Dropout(0.5)(torch.ones(4000, 256)) == 0).double() - 0.5
    for lag in (1, 2, 3, 4, 256):
        flat = dropped.flatten()
        assert abs(float((flat[lag:] * flat[:-lag]).mean()) * 4) < 4 / flat.numel() ** 0.5


def test_the_gradient_is_zero_where_the_element_was_dropped() -> None:
    torch.manual_seed(0)
    states = torch.randn(50, 7, requires_grad=True)
    found = Dropout(0.4)(states)
    found.sum().backward()
    assert states.grad is not None
    torch.testing.assert_close(states.grad * states.detach(), found.detach())


def test_the_generators_state_replays_it() -> None:
    layer, states = Dropout(0.4), torch.ones(33, 5)
    before = torch.get_rng_state()
    first = layer(states)
    torch.set_rng_state(before)
    assert torch.equal(layer(states), first)
    assert not torch.equal(layer(states), first)


@pytest.mark.parametrize("probability", [0.0, 0.4])
def test_nothing_is_drawn_where_nothing_is_dropped(probability: float) -> None:
    layer, states = Dropout(probability), torch.randn(4, 3)
    if probability:
        layer.eval()
    before = torch.get_rng_state()
    assert torch.equal(layer(states), states)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_probability_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="below 1, got 1"):
        Dropout(1.0)
