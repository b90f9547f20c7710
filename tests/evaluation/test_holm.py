"""Holm's correction: by hand, by its definition as a closed test, and what never changes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from peftrec.evaluation import holm


def closed_bonferroni(p_values: list[float]) -> list[float]:
    """Reject a hypothesis where Bonferroni rejects every set of hypotheses that holds it: what Holm is short for."""
    rows = range(len(p_values))
    sets = [chosen for size in range(1, len(p_values) + 1) for chosen in itertools.combinations(rows, size)]
    return [max(min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets if row in s) for row in rows]


def test_by_hand() -> None:
    # 4 * .01, then 3 * .04, then 2 * .03 is smaller than what stands before it in order: .01 .03 .04 .005
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_never_above_one_and_equal_values_stay_equal() -> None:
    np.testing.assert_allclose(holm([0.5, 0.5, 0.9]), [1.0, 1.0, 1.0])
    np.testing.assert_allclose(holm([0.02, 0.02, 0.02]), [0.06, 0.06, 0.06])


def test_one_test_keeps_its_value_and_none_gives_none() -> None:
    assert holm([0.37]).tolist() == [0.37]
    assert holm([]).tolist() == []


@pytest.mark.parametrize("seed", range(20))
def test_is_the_closed_test_of_bonferroni(seed: int) -> None:
    p_values = np.random.default_rng(seed).beta(0.5, 4, size=6).tolist()
    np.testing.assert_allclose(holm(p_values), closed_bonferroni(p_values))


def test_keeps_the_order_and_is_never_below_the_value() -> None:
    p_values = np.random.default_rng(3).random(200) ** 6
    adjusted = holm(p_values)
    order = np.argsort(p_values)
    assert (np.diff(adjusted[order]) >= 0).all()
    assert (adjusted >= p_values).all()
    assert (adjusted <= np.minimum(1, 200 * p_values)).all()


def test_false_alarms_of_a_whole_table_stay_below_the_level() -> None:
    generator = np.random.default_rng(0)
    alarms = [holm(generator.random(9)).min() <= 0.05 for _ in range(4000)]
    assert 0.04 < np.mean(alarms) < 0.06


@pytest.mark.parametrize("p_values", [[0.1, float("nan")], [-0.1], [1.5]])
def test_refuses(p_values: list[float]) -> None:
    with pytest.raises(ValueError, match="p-values lie from 0 to 1"):
        holm(p_values)
    with pytest.raises(ValueError, match="one a test"):
        holm(np.zeros((2, 2)))
