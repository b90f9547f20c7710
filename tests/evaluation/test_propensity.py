"""Estimates by inverse propensity: by hand, on simulated exposure, and what stands in the results."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from peftrec.evaluation import Evaluation
from peftrec.evaluation.propensity import case_weights, snips, snips_intervals
from peftrec.losses import PropensityConfig, item_propensities


def test_by_hand() -> None:
    values, propensities = np.array([1.0, 0.0, 0.5]), np.array([1.0, 0.5, 0.25])
    users = np.array([0, 1, 2])
    assert snips(values, propensities, users) == pytest.approx((1 + 0 + 2) / (1 + 2 + 4))
    # A factor that all share changes nothing.
    assert snips(values, propensities / 7, users) == pytest.approx(3 / 7)
    # User 0 has two cases, each of which counts half.
    assert case_weights(propensities, np.array([0, 1, 0])).tolist() == [0.5, 2, 2]
    assert snips(values, propensities, np.array([0, 1, 0])) == pytest.approx((0.5 + 0 + 1) / 4.5)


def test_equal_propensities_give_the_plain_mean() -> None:
    random = np.random.default_rng(0)
    evaluation = make_evaluation(random.integers(0, 30, 200), random.integers(0, 5, 200), random.random(200))
    counts = np.array([9, 7, 3, 1, 0])
    alike = item_propensities(PropensityConfig(power=0), counts)
    found = evaluation.to_json(propensities=alike)
    assert found["snips"]["metrics"] == pytest.approx(found["metrics"], rel=1e-12)
    assert found["snips"]["intervals"]["ndcg@10"] == pytest.approx(found["intervals"]["ndcg@10"], abs=0.004)
    other = evaluation.to_json(propensities=item_propensities(PropensityConfig(power=1), counts))
    assert other["snips"]["metrics"]["ndcg@10"] != pytest.approx(found["metrics"]["ndcg@10"], abs=1e-3)


def make_evaluation(users: np.ndarray, targets: np.ndarray, values: np.ndarray) -> Evaluation:
    return Evaluation(
        users=users,
        targets=targets,
        ranks=np.ones(len(users), dtype=np.int64),
        per_user={"ndcg@10": values},
        repeat_target_share=0.0,
        num_items=5,
        exclude_history=True,
    )


def simulate(random: np.random.Generator, num_users: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Users like one of 50 items each, all alike often, and are seen to with a chance that falls from item to item.

    The model serves items that are shown often better than others. Returns values, propensities, the true mean.
    """
    exposure_N = 1 / np.arange(1, 51)
    quality_N = 0.2 + 0.6 * exposure_N
    liked = random.integers(0, 50, num_users)
    seen = liked[random.random(num_users) < exposure_N[liked]]
    values = (random.random(len(seen)) < quality_N[seen]).astype(float)
    return values, exposure_N[seen], float(quality_N.mean())


def test_known_preferences_that_were_seen_by_popularity() -> None:
    """The plain mean is that of what was shown; with the true propensities the mean over what is liked comes back."""
    values, propensities, true = simulate(np.random.default_rng(1), 400_000)
    assert values.mean() > true + 0.15
    found = snips(values, propensities, np.arange(len(values)))
    assert found == pytest.approx(true, abs=0.015)
    # Half the power corrects for part of it.
    assert true + 0.02 < snips(values, propensities**0.5, np.arange(len(values))) < values.mean() - 0.02


def test_intervals_hold_the_true_value_as_often_as_they_say() -> None:
    random, inside, widths = np.random.default_rng(2), 0, []
    for seed in range(100):
        values, propensities, true = simulate(random, 20_000)
        ((low, high),) = snips_intervals(
            {"x": values}, propensities, np.arange(len(values)), num_resamples=300, seed=seed
        ).values()
        inside += low <= true <= high
        widths.append(high - low)
    assert 88 <= inside <= 99
    # Wider than that of a plain mean of so many: 1.96 * 2 * sqrt(.25 / 1800).
    assert min(widths) > 0.046


@pytest.mark.parametrize("distinct", [True, False])
def test_intervals_are_of_the_ratio_over_users(distinct: bool) -> None:
    """Against the plain definition; rows that are equal are drawn together, which is the same distribution."""
    random = np.random.default_rng(3)
    users = np.repeat(np.arange(300), 2)
    values = random.random(600) if distinct else np.tile([0.0, 1.0, 1.0, 0.5, 0.0, 0.0], 100)
    propensities = np.tile([1.0, 0.1, 0.5], 200)
    found = snips_intervals({"a": values, "b": 1 - values}, propensities, users, num_resamples=4000)
    weights = case_weights(propensities, users)
    totals = []
    for _ in range(4000):
        drawn = random.integers(0, 300, 300)
        cases = np.concatenate([2 * drawn, 2 * drawn + 1])
        totals.append((weights * values)[cases].sum() / weights[cases].sum())
    assert found["a"] == pytest.approx(tuple(np.quantile(totals, [0.025, 0.975])), abs=0.008)
    # All metrics are of the same samples.
    assert found["b"] == pytest.approx((1 - found["a"][1], 1 - found["a"][0]))
    assert found == snips_intervals({"a": values, "b": 1 - values}, propensities, users, num_resamples=4000)


def test_the_block_of_results() -> None:
    evaluation = make_evaluation(np.arange(4), np.array([0, 0, 1, 2]), np.array([1.0, 0.0, 1.0, 0.5]))
    assert "snips" not in evaluation.to_json()
    counts = np.array([16, 4, 1, 0, 0])
    block = evaluation.to_json(propensities=item_propensities(PropensityConfig(power=0.5, clip=0.3), counts))["snips"]
    weights = [1, 1, 2, 1 / 0.3]
    assert block["metrics"]["ndcg@10"] == pytest.approx((1 + 2 + 0.5 / 0.3) / sum(weights))
    assert block["effective_cases"] == pytest.approx(sum(weights) ** 2 / sum(weight**2 for weight in weights))
    assert (block["power"], block["column"], block["clip"], block["few"]) == (0.5, None, 0.3, True)
    assert json.loads(json.dumps(block)) == block


def test_the_block_is_of_ranks_and_of_the_cases_that_have_a_value() -> None:
    evaluation = make_evaluation(np.arange(4), np.array([0, 0, 1, 2]), np.array([1.0, 0.0, 1.0, 0.5]))
    more = {"auc": np.array([1.0, np.nan, 0.5, 0.5]), "hr@1": np.full(4, np.nan), "diversity@10": np.arange(4.0)}
    evaluation = dataclasses.replace(
        evaluation, per_user=evaluation.per_user | more, overall={"gini@10": float("nan"), "coverage@10": 0.0}
    )
    found = evaluation.to_json(propensities=item_propensities(PropensityConfig(power=0.5), np.array([16, 4, 1, 0])))
    assert found["overall"] == {"gini@10": None, "coverage@10": 0.0}
    assert found["snips"]["metrics"]["auc"] == pytest.approx((1 + 1 + 0.5 * 4) / 7)
    assert set(found["snips"]["metrics"]) == {"ndcg@10", "auc", "hr@1"}
    assert found["snips"]["metrics"]["hr@1"] is None
    assert set(found["snips"]["intervals"]) == {"ndcg@10", "auc"}
    json.dumps(found, allow_nan=False)


def test_few_effective_cases() -> None:
    targets = np.r_[np.zeros(2000, dtype=np.int64), 1]
    evaluation = make_evaluation(np.arange(2001), targets, np.ones(2001))
    for clip, few in ((0.5, False), (0.001, True)):
        propensities = item_propensities(PropensityConfig(power=1, clip=clip), np.array([1000, 1, 0, 0, 0]))
        block = evaluation.to_json(propensities=propensities)["snips"]
        assert block["few"] is few
        assert (block["effective_cases"] < 200.1) is few


@pytest.mark.parametrize(
    ("values", "propensities", "message"),
    [
        ([1.0], [0.5, 0.5], "propensities must be one a case"),
        ([], [], "at least one"),
        ([1.0, 1.0], [0.5, 0.0], "propensities must be above 0, got 0.0"),
        ([1.0, 1.0], [0.5, np.nan], "propensities must be above 0"),
        ([1.0], [0.5], "values must be one a case"),
    ],
)
def test_what_is_refused(values: list[float], propensities: list[float], message: str) -> None:
    users = np.arange(len(values) + (message == "values must be one a case"))
    chances = np.array(propensities * (2 if message == "values must be one a case" else 1))
    with pytest.raises(ValueError, match=message):
        snips(np.array(values), chances, users)


def test_values_without_a_number_are_refused() -> None:
    with pytest.raises(ValueError, match="values must be finite, got nan in row 1"):
        snips_intervals({"x": np.array([0.0, np.nan])}, np.ones(2), np.arange(2))
