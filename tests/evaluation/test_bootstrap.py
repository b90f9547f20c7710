"""Intervals of weighted means over users."""

from __future__ import annotations

import numpy as np
import pytest

from peftrec.evaluation.bootstrap import bootstrap_interval, ratio_interval


def test_equal_weights_give_the_interval_of_the_mean() -> None:
    values = np.random.default_rng(0).integers(0, 3, 500).astype(float)
    assert ratio_interval(values, np.ones(500)) == pytest.approx(bootstrap_interval(values), abs=0.01)


def test_the_interval_of_a_ratio_is_as_wide_as_its_error() -> None:
    random = np.random.default_rng(1)
    weights, values = random.uniform(0.5, 4.0, 2000), random.normal(1.0, 1.0, 2000)
    low, high = ratio_interval(weights * values, weights)
    mean = (weights * values).sum() / weights.sum()
    # Linearised: the error of sum w (v - mean) / sum w.
    error = np.sqrt(((weights * (values - mean)) ** 2).sum()) / weights.sum()
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    assert low < mean < high


def test_users_without_weight_change_nothing_but_how_many_are_drawn() -> None:
    low, high = ratio_interval(np.array([0.0, 0.5, 0.5]), np.array([0.0, 1.0, 1.0]))
    assert (low, high) == (0.5, 0.5)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1.0]])
def test_weights_that_weigh_nothing_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"denominators|finite"):
        ratio_interval(np.array([0.0, 1.0]), np.array(weights))
