"""Recipes with several seeds, and metrics that some users lack: by hand, by simulation, and what is refused.

Shapes: U users, S seeds.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.evaluation import Evaluation, arm_test, bootstrap_interval, crossed_interval, paired_test, seed_spread

METRIC = "ndcg@10"


def run(values: Sequence[float] | NDArray[np.float64]) -> Evaluation:
    users = np.arange(len(values), dtype=np.int64)
    return Evaluation(
        users=users,
        targets=users + 7,
        ranks=np.ones(len(values), dtype=np.int64),
        per_user={METRIC: np.asarray(values, dtype=np.float64)},
        repeat_target_share=0.0,
        num_items=100,
        exclude_history=True,
    )


class TestSeveralSeeds:
    first = (run([1.0, 0.0, 0.5]), run([0.0, 0.5, 0.5]))
    second = (run([0.0, 0.0, 0.5]), run([0.5, 0.0, 0.0]))

    def test_by_hand(self) -> None:
        test = arm_test(self.first, self.second, METRIC, paired_seeds=True)
        assert test.first == pytest.approx(2.5 / 6)
        assert test.second == pytest.approx(1 / 6)
        assert test.difference == pytest.approx(1.5 / 6)
        assert test.num_users == 3
        seeds = test.seeds
        assert seeds is not None
        # Seed by seed: 1.5/3 - .5/3 and 1/3 - .5/3.
        assert (seeds.low, seeds.high) == pytest.approx((0.5 / 3, 1 / 3))
        assert seeds.deviation == pytest.approx(0.5 / 3 / np.sqrt(2))
        assert (seeds.num_first, seeds.num_second, seeds.num_pairs, seeds.num_agree) == (2, 2, 2, 2)

    def test_unpaired_runs_are_compared_each_with_each(self) -> None:
        spread = seed_spread(np.array([0.3, 0.5]), np.array([0.2, 0.4, 0.45]), paired=False)
        assert spread.num_pairs == 6
        assert (spread.low, spread.high) == pytest.approx((-0.15, 0.3))
        assert spread.num_agree == 4  # of .1 -.1 -.15 .3 .1 .05, whose mean is .05
        assert spread.deviation == pytest.approx(np.sqrt(np.var([0.3, 0.5], ddof=1) + np.var([0.2, 0.4, 0.45], ddof=1)))

    def test_a_single_run_adds_nothing_to_the_spread(self) -> None:
        spread = seed_spread(np.array([0.3, 0.5]), np.array([0.2]), paired=False)
        assert spread.deviation == pytest.approx(np.std([0.3, 0.5], ddof=1))
        assert (spread.num_pairs, spread.num_agree) == (2, 2)

    def test_no_difference_agrees_with_none(self) -> None:
        assert seed_spread(np.array([0.3, 0.5]), np.array([0.5, 0.3]), paired=True).num_agree == 0

    def test_p_is_that_of_the_means_over_seeds(self) -> None:
        generator = np.random.default_rng(0)
        values = generator.random((6, 80))
        arms = [run(row) for row in values]
        test = arm_test(arms[:3], arms[3:], METRIC, paired_seeds=True)
        means = paired_test(run(values[:3].mean(axis=0)), run(values[3:].mean(axis=0)), METRIC)
        assert test.p_value == means.p_value
        assert test.difference == pytest.approx(means.difference)
        assert test.high - test.low > means.high - means.low

    def test_single_runs_are_tested_as_before(self) -> None:
        test = arm_test(self.first[:1], self.second[:1], METRIC)
        assert test.seeds is None
        differences = np.array([1.0, 0.0, 0.0])
        assert (test.low, test.high) == bootstrap_interval(differences, num_resamples=10_000)
        assert test == paired_test(self.first[0], self.second[0], METRIC)

    def test_what_only_rounding_tells_apart_is_no_difference(self) -> None:
        values = np.random.default_rng(0).random(200)
        assert (np.mean([values] * 3, axis=0) != values).any()
        test = arm_test([run(values)] * 3, [run(values)], METRIC)
        assert (test.difference, test.low, test.high, test.p_value) == (0.0, 0.0, 0.0, 1.0)
        with pytest.raises(ValueError, match="must be finite"):
            arm_test([run(np.append(values, np.inf))] * 3, [run(np.append(values, 0.0))], METRIC)

    def test_seeds_without_any_effect_leave_the_interval_of_users(self) -> None:
        values = np.random.default_rng(0).random(50)
        test = arm_test([run(values)] * 3, [run(values[::-1])] * 3, METRIC, paired_seeds=True)
        low, high = bootstrap_interval(values - values[::-1], num_resamples=10_000)
        assert (test.low, test.high) == pytest.approx((low, high), abs=1e-9)

    @pytest.mark.parametrize("row", range(4))
    def test_every_run_must_have_the_same_users_targets_and_protocol(self, row: int) -> None:
        names = ["a0", "a1", "b0", "b1"]
        other = "a1" if row == 0 else names[row]
        for change, message in (
            ({"users": np.arange(3) + 1}, "the same users: 2 are in one evaluation only"),
            ({"targets": np.arange(3)}, "the same targets: they differ for 3 of 3 users"),
            ({"exclude_history": False}, "the same protocol"),
            ({"catalogue": "100 sampled, uniform, seed 0"}, "the same protocol"),
        ):
            arms = [*self.first, *self.second]
            arms[row] = dataclasses.replace(arms[row], **change)  # type: ignore[arg-type]
            with pytest.raises(InputError, match=rf"{message}.* of a0 and {other}"):
                arm_test(arms[:2], arms[2:], METRIC, names=names)

    def test_names_the_run_that_lacks_the_metric(self) -> None:
        lacking = dataclasses.replace(self.first[1], per_user={"hr@10": np.zeros(3)})
        with pytest.raises(InputError, match=r"the a1 evaluation has no 'ndcg@10'; it has hr@10"):
            arm_test([self.first[0], lacking], self.second, METRIC, names=["a0", "a1", "b0", "b1"])

    def test_refuses_pairs_that_are_none(self) -> None:
        with pytest.raises(ValueError, match="paired runs must be as many, got 2 and 1"):
            arm_test(self.first, self.second[:1], METRIC, paired_seeds=True)
        with pytest.raises(ValueError, match="two seeds or more"):
            crossed_interval(np.ones(3), [np.ones(1)])


class TestUndefinedUsers:
    nan = float("nan")

    def test_only_users_with_both_are_compared(self) -> None:
        test = paired_test(run([1.0, self.nan, 0.5, 0.5]), run([0.0, 0.2, 0.5, self.nan]), METRIC)
        assert (test.num_users, test.num_left_out, test.num_cases_left_out) == (2, 2, 2)
        assert (test.first, test.second, test.difference) == (0.75, 0.25, 0.5)

    def test_in_any_run_of_any_seed(self) -> None:
        first = [run([1.0, 1.0, self.nan]), run([1.0, 1.0, 1.0])]
        test = arm_test(first, [run([0.0, 0.5, 0.0])], METRIC)
        assert (test.num_users, test.num_left_out, test.difference) == (2, 1, 0.75)

    def test_of_several_targets_those_with_both_count(self) -> None:
        def of_two(values: list[float]) -> Evaluation:
            return dataclasses.replace(run(values), users=np.array([5, 5, 8]))

        test = paired_test(of_two([1.0, self.nan, 0.25]), of_two([0.5, 0.0, 0.0]), METRIC)
        assert (test.num_users, test.num_left_out, test.num_cases_left_out) == (2, 0, 1)
        assert test.first == (1.0 + 0.25) / 2

    def test_refuses_where_none_is_left(self) -> None:
        with pytest.raises(InputError, match=r"ndcg@10 is defined for no user in all of: first, second"):
            paired_test(run([1.0, self.nan]), run([self.nan, 0.0]), METRIC)

    def test_infinite_values_are_not_undefined_ones(self) -> None:
        with pytest.raises(ValueError, match="must be finite"):
            paired_test(run([1.0, float("inf")]), run([0.0, 0.0]), METRIC)


def simulate(num: int, num_seeds: int, seed_effect: float, *, resamples: int = 300) -> tuple[float, float]:
    """Return the coverage of 95 % intervals and of the plain pigeonhole bootstrap, of a true difference of 0."""
    generator = np.random.default_rng(1)
    held, plain = 0, 0
    for _ in range(num):
        values_US = (
            generator.normal(size=(100, 1))
            + seed_effect * generator.normal(size=(1, num_seeds))
            + generator.normal(size=(100, num_seeds))
        )
        low, high = crossed_interval(values_US.mean(axis=1), [values_US.mean(axis=0)], num_resamples=resamples)
        held += low <= 0 <= high
        users = generator.integers(0, 100, size=(resamples, 100))
        weights = generator.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=resamples) / num_seeds
        means = (values_US[users].mean(axis=1) * weights).sum(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        plain += low <= 0 <= high
    return held / num, plain / num


class TestSimulated:
    @pytest.mark.parametrize("num_seeds", [2, 3, 5])
    @pytest.mark.parametrize("seed_effect", [0.0, 0.2, 1.0])
    def test_intervals_hold_the_truth_as_often_as_they_say(self, num_seeds: int, seed_effect: float) -> None:
        held, plain = simulate(400, num_seeds, seed_effect)
        assert held > 0.92
        assert held < 0.975 or seed_effect < 1.0
        if seed_effect == 1.0:
            # Resampling seeds as if they were many is what must not be done.
            assert plain < held - 0.04

    def test_p_is_uniform_where_seeds_have_no_effect(self) -> None:
        generator = np.random.default_rng(2)
        p_values = []
        for _ in range(400):
            own = generator.normal(size=60)
            arms = [run(own + generator.normal(size=60)) for _ in range(6)]
            p_values.append(arm_test(arms[:3], arms[3:], METRIC, num_resamples=200).p_value)
        assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.033)
        assert np.mean(np.array(p_values) < 0.5) == pytest.approx(0.5, abs=0.08)

    def test_p_holds_for_the_seeds_alone(self) -> None:
        """With an effect of seeds p finds differences of the runs at hand, where other seeds would give others."""
        generator = np.random.default_rng(3)
        p_values, held = [], []
        for _ in range(200):
            arms = [run(generator.normal(size=60) + generator.normal()) for _ in range(6)]
            test = arm_test(arms[:3], arms[3:], METRIC, paired_seeds=True, num_resamples=200)
            p_values.append(test.p_value)
            held.append(test.low <= 0 <= test.high)
        assert np.mean(np.array(p_values) < 0.05) > 0.5
        assert np.mean(held) > 0.9


def test_a_large_test_takes_seconds() -> None:
    values = np.random.default_rng(0).random((6, 22_363))
    arms = [run(row) for row in values]
    began = time.process_time()
    arm_test(arms[:3], arms[3:], METRIC, paired_seeds=True, num_resamples=2000)
    assert time.process_time() - began < 10
