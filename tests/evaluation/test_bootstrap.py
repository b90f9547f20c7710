"""Intervals of ratios of sums over users, such as weighted means."""

from __future__ import annotations

import numpy as np
import pytest

from peftrec.evaluation.bootstrap import bootstrap_interval, ratio_intervals


def test_equal_weights_give_the_interval_of_the_mean() -> None:
    values = np.random.default_rng(0).integers(0, 3, 500).astype(float)
    (found,) = ratio_intervals([values], np.ones(500))
    assert found == pytest.approx(bootstrap_interval(values), abs=0.01)


def test_the_interval_of_a_ratio_is_as_wide_as_its_error() -> None:
    random = np.random.default_rng(1)
    weights, values = random.uniform(0.5, 4.0, 2000), random.normal(1.0, 1.0, 2000)
    ((low, high),) = ratio_intervals([weights * values], weights)
    mean = (weights * values).sum() / weights.sum()
    # Linearised: the error of sum w (v - mean) / sum w.
    error = np.sqrt(((weights * (values - mean)) ** 2).sum()) / weights.sum()
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    assert low < mean < high


def test_two_users_by_hand() -> None:
    """Weights 1 and 3, values 1 and 0: the samples are 1 (a quarter), 1 / 4 (half) and 0 (a quarter)."""
    weights = np.array([1.0, 3.0])
    numerators = [weights * np.array([1.0, 0.0]), weights * np.array([0.0, 1.0])]
    assert ratio_intervals(numerators, weights, level=0.4) == [(0.25, 0.25), (0.75, 0.75)]
    assert ratio_intervals(numerators, weights, level=0.6) == [(0.0, 1.0), (0.0, 1.0)]


def test_samples_in_which_nobody_has_weight_are_left_out() -> None:
    assert ratio_intervals([np.array([0.0, 0.5, 0.5])], np.array([0.0, 1.0, 1.0])) == [(0.5, 0.5)]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.0, 0.0], "not all 0, got 0.0"),
        ([1.0, -1.0], "from 0 and not all 0, got -1.0"),
        ([1.0, np.nan], "finite, got nan in row 1"),
        ([1.0], r"one a denominator, got shape \(2,\) for 1"),
    ],
)
def test_weights_that_weigh_nothing_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ratio_intervals([np.array([0.0, 1.0])], np.array(weights))
