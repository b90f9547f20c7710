"""Intervals and paired tests: known distributions, exact small cases, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.evaluation import Evaluation, bootstrap_interval, paired_test
from peftrec.metrics import MISS, rank_metrics


def make_evaluation(ranks: NDArray[np.int64], num_items: int = 1000) -> Evaluation:
    users = np.arange(len(ranks), dtype=np.int64)
    return Evaluation(
        users=users,
        targets=users + 7,
        ranks=ranks,
        per_user=rank_metrics(ranks, (10,)),
        repeat_target_share=0.25,
        num_items=num_items,
        exclude_history=True,
    )


def random_ranks(seed: int, num_users: int, num_items: int = 1000) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(1, num_items + 1, size=num_users, dtype=np.int64)


def with_values(values: list[float]) -> Evaluation:
    evaluation = make_evaluation(np.ones(len(values), dtype=np.int64))
    return replace(evaluation, per_user={"ndcg@10": np.array(values, dtype=np.float64)})


class TestBootstrapInterval:
    def test_is_near_the_normal_interval_for_many_users(self) -> None:
        values = np.random.default_rng(1).random(4000)
        low, high = bootstrap_interval(values, num_resamples=4000)
        half = 1.96 * values.std() / np.sqrt(len(values))
        assert low == pytest.approx(values.mean() - half, abs=0.06 * half)
        assert high == pytest.approx(values.mean() + half, abs=0.06 * half)

    def test_is_near_the_binomial_interval_for_hits(self) -> None:
        values = np.zeros(10_000)
        values[:500] = 1.0
        low, high = bootstrap_interval(values, level=0.9, num_resamples=4000)
        half = 1.645 * np.sqrt(0.05 * 0.95 / 10_000)
        assert low == pytest.approx(0.05 - half, abs=0.1 * half)
        assert high == pytest.approx(0.05 + half, abs=0.1 * half)

    def test_agrees_with_drawing_users_themselves(self) -> None:
        values = np.random.default_rng(2).choice([0.0, 0.3, 1.0], size=300)
        rng = np.random.default_rng(9)
        means = values[rng.integers(0, 300, size=(20_000, 300))].mean(axis=1)
        ends = bootstrap_interval(values, num_resamples=20_000)
        np.testing.assert_allclose(ends, np.quantile(means, [0.025, 0.975]), atol=0.004)

    def test_equal_values_have_no_width(self) -> None:
        low, high = bootstrap_interval(np.full(50, 0.25))
        assert low == pytest.approx(0.25)
        assert high == pytest.approx(0.25)

    def test_is_deterministic_by_seed(self) -> None:
        values = np.random.default_rng(1).random(200)
        assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
        assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)

    def test_a_higher_level_is_wider(self) -> None:
        values = np.random.default_rng(1).random(200)
        (low_90, high_90), (low_99, high_99) = (bootstrap_interval(values, level=level) for level in (0.9, 0.99))
        assert low_99 < low_90 < values.mean() < high_90 < high_99

    @pytest.mark.parametrize(
        ("values", "keywords", "message"),
        [
            ([], {}, "at least one"),
            ([0.5, float("nan")], {}, "got nan in row 1"),
            ([0.5], {"level": 1.0}, "between 0 and 1"),
            ([0.5], {"level": 95}, "between 0 and 1"),
            ([0.5], {"num_resamples": 0}, "num_resamples must be from 1"),
        ],
    )
    def test_refuses(self, values: list[float], keywords: dict[str, int], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            bootstrap_interval(np.array(values), **keywords)


class TestPairedTest:
    def test_all_users_better_by_hand(self) -> None:
        # All five differences are positive: of 2^5 sign patterns two are as extreme, so p is near 2/32.
        test = paired_test(with_values([1.0] * 5), with_values([0.5] * 5), "ndcg@10", num_resamples=20_000)
        assert test.difference == pytest.approx(0.5)
        assert test.low == pytest.approx(0.5)
        assert test.high == pytest.approx(0.5)
        assert test.p_value == pytest.approx(2 / 32, abs=0.006)
        assert (test.metric, test.level, test.num_users) == ("ndcg@10", 0.95, 5)

    def test_unequal_differences_by_hand(self) -> None:
        # Differences 3, 2, -1 (sum 4): of the 8 signed sums +-6, +-4, +-2, +-0 four are as far from 0.
        test = paired_test(with_values([3.0, 2.0, 0.0]), with_values([0.0, 0.0, 1.0]), "ndcg@10", num_resamples=20_000)
        assert test.difference == pytest.approx(4 / 3)
        assert test.p_value == pytest.approx(4 / 8, abs=0.015)

    def test_sums_equal_on_paper_count_as_equal(self) -> None:
        # Of the 8 patterns only the two with all signs alike reach 0.6, however their sums are rounded.
        test = paired_test(with_values([0.1, 0.2, 0.3]), with_values([0.0] * 3), "ndcg@10", num_resamples=20_000)
        assert test.p_value == pytest.approx(2 / 8, abs=0.012)

    def test_a_model_against_itself(self) -> None:
        evaluation = make_evaluation(random_ranks(1, 500))
        test = paired_test(evaluation, evaluation, "hr@10")
        assert (test.difference, test.low, test.high, test.p_value) == (0.0, 0.0, 0.0, 1.0)

    def test_swapping_the_models_swaps_the_sign_only(self) -> None:
        a, b = make_evaluation(random_ranks(1, 3000, 100)), make_evaluation(random_ranks(2, 3000, 120))
        forth, back = paired_test(a, b, "ndcg@10"), paired_test(b, a, "ndcg@10")
        assert forth.difference == pytest.approx(-back.difference)
        assert forth.p_value == back.p_value
        assert forth.low == pytest.approx(-back.high, abs=5e-4)

    def test_p_is_uniform_where_models_do_not_differ(self) -> None:
        p_values = np.array(
            [
                paired_test(
                    make_evaluation(random_ranks(2 * seed, 400, 60)),
                    make_evaluation(random_ranks(2 * seed + 1, 400, 60)),
                    "ndcg@10",
                    num_resamples=400,
                ).p_value
                for seed in range(300)
            ]
        )
        assert (p_values < 0.05).mean() == pytest.approx(0.05, abs=0.04)
        assert (p_values < 0.5).mean() == pytest.approx(0.5, abs=0.1)

    def test_a_clear_difference_is_found_but_never_with_p_zero(self) -> None:
        a, b = make_evaluation(random_ranks(1, 2000, 20)), make_evaluation(random_ranks(2, 2000, 200))
        test = paired_test(a, b, "hr@10", num_resamples=1000)
        assert 0 < test.low < test.difference < test.high
        assert test.p_value == 1 / 1001

    def test_is_deterministic_by_seed(self) -> None:
        a, b = make_evaluation(random_ranks(1, 500, 100)), make_evaluation(random_ranks(2, 500, 100))
        assert paired_test(a, b, "mrr@10", seed=3) == paired_test(a, b, "mrr@10", seed=3)
        assert paired_test(a, b, "mrr@10", seed=3) != paired_test(a, b, "mrr@10", seed=4)

    def test_users_may_stand_in_another_order(self) -> None:
        a, b = make_evaluation(random_ranks(1, 500, 100)), make_evaluation(random_ranks(2, 500, 100))
        order = np.random.default_rng(0).permutation(500)
        shuffled = replace(
            b,
            users=b.users[order],
            targets=b.targets[order],
            ranks=b.ranks[order],
            per_user={key: values[order] for key, values in b.per_user.items()},
        )
        assert paired_test(a, shuffled, "ndcg@10") == paired_test(a, b, "ndcg@10")

    def test_refuses_other_users_with_their_number(self) -> None:
        a = make_evaluation(random_ranks(1, 100))
        b = replace(a, users=a.users + 2)
        with pytest.raises(InputError, match="4 are in one evaluation only"):
            paired_test(a, b, "hr@10")

    def test_refuses_other_targets(self) -> None:
        a = make_evaluation(random_ranks(1, 100))
        with pytest.raises(InputError, match="differ for 100 of 100 users"):
            paired_test(a, replace(a, targets=a.targets + 1), "hr@10")

    def test_refuses_another_protocol(self) -> None:
        a = make_evaluation(random_ranks(1, 100))
        with pytest.raises(InputError, match="same protocol"):
            paired_test(a, replace(a, exclude_history=False), "hr@10")

    def test_refuses_a_metric_that_was_not_computed(self) -> None:
        a = make_evaluation(random_ranks(1, 100))
        with pytest.raises(InputError, match=r"the first evaluation has no 'hr@5'; it has hr@10, ndcg@10, mrr@10"):
            paired_test(a, a, "hr@5")


class TestSeveralTargetsOfAUser:
    def evaluation(self, ranks: list[int]) -> Evaluation:
        """User 5 with three targets, user 2 with one, user 9 with two."""
        made = make_evaluation(np.array(ranks, dtype=np.int64))
        return replace(made, users=np.array([5, 5, 2, 9, 5, 9]))

    def test_every_user_counts_alike(self) -> None:
        evaluation = self.evaluation([1, 20, 20, 2, 1, 20])
        # users 2, 5, 9: hits 0, 2/3, 1/2
        np.testing.assert_allclose(evaluation.user_means()["hr@10"], [0, 2 / 3, 1 / 2])
        assert evaluation.summary()["hr@10"] == pytest.approx((0 + 2 / 3 + 1 / 2) / 3)
        assert (evaluation.num_cases, evaluation.num_users) == (6, 3)

    def test_users_are_drawn_with_all_their_targets(self) -> None:
        # One user with many hits, one with as many misses: a mean over targets would seem certain.
        made = make_evaluation(np.array([1] * 50 + [20] * 50, dtype=np.int64))
        evaluation = replace(made, users=np.repeat([0, 1], 50))
        assert evaluation.intervals()["hr@10"] == (0.0, 1.0)

    def test_paired_over_users(self) -> None:
        one, other = self.evaluation([1, 20, 20, 2, 1, 20]), self.evaluation([1, 1, 1, 1, 1, 1])
        test = paired_test(other, one, "hr@10")
        assert test.num_users == 3
        assert test.difference == pytest.approx((1 + 1 / 3 + 1 / 2) / 3)

    def test_users_may_stand_in_another_order(self) -> None:
        one, other = self.evaluation([1, 20, 3, 2, 1, 20]), self.evaluation([4, 1, 20, 3, 7, 2])
        order = np.array([2, 0, 3, 1, 5, 4])  # the targets of one user stay in order
        moved = replace(
            other,
            users=other.users[order],
            targets=other.targets[order],
            ranks=other.ranks[order],
            per_user={key: values[order] for key, values in other.per_user.items()},
        )
        assert paired_test(one, moved, "ndcg@10") == paired_test(one, other, "ndcg@10")

    def test_refuses_another_number_of_targets(self) -> None:
        one = self.evaluation([1, 20, 3, 2, 1, 20])
        fewer = replace(make_evaluation(np.ones(3, dtype=np.int64)), users=np.array([5, 2, 9]))
        with pytest.raises(InputError, match="the same targets: there are 6 against 3"):
            paired_test(one, fewer, "hr@10")


class TestEvaluation:
    def test_to_json_holds_what_a_report_needs(self) -> None:
        evaluation = make_evaluation(np.array([1, 20, 2, MISS], dtype=np.int64))
        report = json.loads(json.dumps(evaluation.to_json(level=0.9)))
        assert report["metrics"]["hr@10"] == 0.5
        assert report["metrics"]["mrr@10"] == 0.375
        assert report["intervals"]["hr@10"] == list(evaluation.intervals(0.9)["hr@10"])
        assert report["interval_level"] == 0.9
        assert (report["num_cases"], report["num_users"]) == (4, 4)
        assert report["repeat_target_share"] == 0.25
        assert report["protocol"] == {
            "catalogue": "full",
            "num_items": 1000,
            "history": "excluded",
            "target_in_history": "miss",
            "ties": "against the model",
        }

    def test_intervals_hold_the_means(self) -> None:
        evaluation = make_evaluation(random_ranks(1, 500, 100))
        for key, (low, high) in evaluation.intervals().items():
            assert low < evaluation.summary()[key] < high
