"""Ranking of the whole catalogue: ties, exclusion, misses, and what is refused."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data import Cases, Sequences
from peftrec.evaluation import EvaluationConfig, evaluate_cases
from peftrec.metrics import MISS

Scorer = Callable[[NDArray[np.int64]], torch.Tensor]


def make_cases(rows: list[list[int]]) -> tuple[Cases, Sequences]:
    """Give one user per row; the last event is the target, those before it the history."""
    lengths = [len(row) for row in rows]
    sequences = Sequences(
        user_ids=tuple(f"u{user}" for user in range(len(rows))),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.array([item for row in rows for item in row], dtype=np.int64),
        times=None,
    )
    cases = Cases(
        users=np.arange(len(rows), dtype=np.int64),
        history_lengths=np.array(lengths, dtype=np.int64) - 1,
        targets=np.array([row[-1] for row in rows], dtype=np.int64),
    )
    return cases, sequences


def fixed(*rows: list[float]) -> Scorer:
    """Score the users of one chunk with the given rows."""
    return lambda histories: torch.tensor(rows, dtype=torch.float32)


def constant(num_items: int, value: float = 1.0) -> Scorer:
    return lambda histories: torch.full((len(histories), num_items), value)


class TestRank:
    def test_by_hand(self) -> None:
        cases, sequences = make_cases([[0, 3], [1, 0], [2, 4]])
        scores = fixed(
            [0.9, 0.5, 0.1, 0.4, 0.8],  # item 0 excluded: above 3 are 4 and 1
            [0.9, 1.0, 0.1, 0.4, 0.8],  # the best but for the excluded item 1
            [0.9, 0.8, 0.7, 0.6, 0.5],  # the last of four
        )
        evaluation = evaluate_cases(scores, cases, sequences, 5, ks=(1, 3))
        np.testing.assert_array_equal(evaluation.ranks, [3, 1, 4])
        np.testing.assert_array_equal(evaluation.users, [0, 1, 2])
        np.testing.assert_array_equal(evaluation.targets, [3, 0, 4])
        np.testing.assert_array_equal(evaluation.per_user["hr@3"], [1, 1, 0])
        assert evaluation.summary()["hr@1"] == pytest.approx(1 / 3)
        assert evaluation.summary()["mrr@3"] == pytest.approx((1 / 3 + 1) / 3)
        assert evaluation.num_cases == 3
        assert evaluation.repeat_target_share == 0.0

    def test_without_exclusion_the_history_competes(self) -> None:
        cases, sequences = make_cases([[0, 3]])
        evaluation = evaluate_cases(fixed([0.9, 0.5, 0.1, 0.4, 0.8]), cases, sequences, 5, exclude_history=False)
        np.testing.assert_array_equal(evaluation.ranks, [4])

    def test_ties_count_against_the_model(self) -> None:
        cases, sequences = make_cases([[0, 3]])
        evaluation = evaluate_cases(fixed([0.5, 0.5, 0.5, 0.5, 0.4]), cases, sequences, 5)
        np.testing.assert_array_equal(evaluation.ranks, [3])

    @pytest.mark.parametrize("rows", [[[0, 3], [1, 2, 4], [5]], [[0, 0, 0, 3], [1, 2, 1, 4], [5]]])
    def test_constant_scores_give_the_worst_rank(self, rows: list[list[int]]) -> None:
        cases, sequences = make_cases(rows)
        evaluation = evaluate_cases(constant(50), cases, sequences, 50, batch_users=2)
        np.testing.assert_array_equal(evaluation.ranks, [50 - 1, 50 - 2, 50])

    def test_scores_of_minus_infinity_are_not_needed_to_exclude(self) -> None:
        cases, sequences = make_cases([[0, 1, 2]])
        lowest = torch.finfo(torch.float32).min
        evaluation = evaluate_cases(fixed([1.0, 1.0, lowest, lowest]), cases, sequences, 4)
        np.testing.assert_array_equal(evaluation.ranks, [2])

    @pytest.mark.parametrize("exclude_history", [True, False])
    @pytest.mark.parametrize("batch_users", [1, 7, 512])
    def test_equals_sorting_user_by_user(self, exclude_history: bool, batch_users: int) -> None:
        rng = np.random.default_rng(5)
        num_items = 40
        rows = [rng.integers(0, num_items, size=rng.integers(1, 15)).tolist() for _ in range(60)]
        table = torch.from_numpy(rng.integers(0, 12, size=(60, num_items)).astype(np.float32))  # many ties
        cases, sequences = make_cases(rows)
        served = iter(range(60))

        def scores(histories: NDArray[np.int64]) -> torch.Tensor:
            return table[[next(served) for _ in histories]]

        evaluation = evaluate_cases(
            scores, cases, sequences, num_items, exclude_history=exclude_history, batch_users=batch_users
        )
        for user, row in enumerate(rows):
            *history, target = row
            excluded = set(history) if exclude_history else set()
            others = set(range(num_items)) - excluded - {target}
            expected = 1 + sum(bool(table[user, item] >= table[user, target]) for item in others)
            assert evaluation.ranks[user] == (MISS if target in excluded else expected)


class TestRepeatedTarget:
    rows: ClassVar = [[3, 0, 3], [0, 1, 2], [2, 2]]

    def test_is_a_miss_where_the_history_is_excluded(self) -> None:
        cases, sequences = make_cases(self.rows)
        evaluation = evaluate_cases(constant(5), cases, sequences, 5, ks=(10,))
        np.testing.assert_array_equal(evaluation.ranks, [MISS, 3, MISS])
        np.testing.assert_array_equal(evaluation.per_user["hr@10"], [0, 1, 0])
        assert evaluation.repeat_target_share == pytest.approx(2 / 3)

    def test_is_ranked_and_still_reported_where_it_is_not(self) -> None:
        cases, sequences = make_cases(self.rows)
        evaluation = evaluate_cases(constant(5), cases, sequences, 5, exclude_history=False)
        np.testing.assert_array_equal(evaluation.ranks, [5, 5, 5])
        assert evaluation.repeat_target_share == pytest.approx(2 / 3)


class TestScorer:
    def test_sees_the_newest_events_left_padded(self) -> None:
        cases, sequences = make_cases([[0, 1, 2, 3], [4, 5], [6]])
        seen = []

        def scores(histories: NDArray[np.int64]) -> torch.Tensor:
            seen.append(histories.copy())
            return torch.zeros(len(histories), 8)

        evaluate_cases(scores, cases, sequences, 8)
        np.testing.assert_array_equal(seen[0], [[0, 1, 2], [-1, -1, 4], [-1, -1, -1]])

    def test_is_called_without_gradient_and_its_result_is_only_read(self) -> None:
        cases, sequences = make_cases([[0, 1], [2, 3]])
        weight = torch.rand(6, requires_grad=True)
        before = weight.detach().clone()
        modes = []

        def scores(histories: NDArray[np.int64]) -> torch.Tensor:
            modes.append(torch.is_grad_enabled())
            return weight.expand(len(histories), -1)

        evaluate_cases(scores, cases, sequences, 6)
        assert modes == [False]
        assert torch.equal(weight.detach(), before)

    def test_may_give_scores_that_carry_gradient(self) -> None:
        cases, sequences = make_cases([[0, 1], [2, 3]])
        scores = torch.rand(2, 6, requires_grad=True) * 2.0
        assert scores.requires_grad
        evaluate_cases(lambda histories: scores, cases, sequences, 6)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
    def test_bad_scores_fail_with_their_number_and_first_user(self, bad: float) -> None:
        cases, sequences = make_cases([[0, 1], [2, 3], [1, 2]])
        scores = torch.rand(3, 6)
        scores[1, 4] = scores[2, 0] = bad
        with pytest.raises(InputError, match="2 of 18 scores are NaN or infinite, first for user 'u1'"):
            evaluate_cases(lambda histories: scores, cases, sequences, 6)

    def test_opposite_infinities_do_not_cancel(self) -> None:
        cases, sequences = make_cases([[0, 1]])
        scores = fixed([float("inf"), -float("inf"), 0.0])
        with pytest.raises(InputError, match="2 of 3"):
            evaluate_cases(scores, cases, sequences, 3)

    def test_large_finite_scores_are_ranked(self) -> None:
        cases, sequences = make_cases([[0, 1]])
        largest = torch.finfo(torch.float32).max
        evaluation = evaluate_cases(fixed([largest, largest, largest]), cases, sequences, 3)
        np.testing.assert_array_equal(evaluation.ranks, [2])

    @pytest.mark.parametrize("shape", [(1, 6), (2, 5), (6,), (2, 6, 1)])
    def test_scores_of_another_shape_are_refused(self, shape: tuple[int, ...]) -> None:
        cases, sequences = make_cases([[0, 1], [2, 3]])
        with pytest.raises(ValueError, match=r"\(2, 6\), got"):
            evaluate_cases(lambda histories: torch.zeros(shape), cases, sequences, 6)


class TestRefused:
    def test_no_cases(self) -> None:
        _, sequences = make_cases([[0, 1]])
        none = np.empty(0, dtype=np.int64)
        with pytest.raises(InputError, match="no cases"):
            evaluate_cases(constant(5), Cases(none, none, none), sequences, 5)

    def test_a_user_with_several_targets(self) -> None:
        _, sequences = make_cases([[0, 1, 2, 3], [2, 3]])
        cases = Cases(np.array([0, 0, 1]), np.array([2, 3, 1]), np.array([2, 3, 3]))
        scores = torch.tensor([4.0, 3.0, 2.0, 1.0, 5.0])
        found = evaluate_cases(lambda histories: scores.expand(len(histories), -1), cases, sequences, 5, ks=(1,))
        # user 0: 4 stands before 2, then before 3, with what came before left out; user 1: 4, 0, 1 before 3
        assert found.ranks.tolist() == [2, 2, 4]
        assert list(found.per_user) == ["hr@1", "ndcg@1", "mrr@1"]

    def test_metrics_that_are_named(self) -> None:
        cases, sequences = make_cases([[0, 1], [2, 3]])
        found = evaluate_cases(constant(5), cases, sequences, 5, ks=(2, 4), names=("precision",))
        assert list(found.per_user) == ["precision@2", "precision@4"]
        np.testing.assert_array_equal(found.per_user["precision@4"], [1 / 4, 1 / 4])

    def test_a_case_that_is_there_twice(self) -> None:
        _, sequences = make_cases([[0, 1], [2, 3]])
        twice = Cases(np.array([1, 0, 1]), np.array([1, 1, 1]), np.array([3, 1, 3]))
        with pytest.raises(InputError, match="user 1 with target 3 is there 2 times"):
            evaluate_cases(constant(5), twice, sequences, 5)

    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"ks": ()}, "at least one cutoff"),
            ({"ks": (10, 0)}, "k must be a whole number from 1"),
            ({"batch_users": 0}, "batch_users must be from 1"),
            ({"names": ("ndcg@10",)}, "there is no metric 'ndcg@10'"),
        ],
    )
    def test_arguments_out_of_range(self, keywords: dict[str, Any], message: str) -> None:
        cases, sequences = make_cases([[0, 1]])

        def never(histories: NDArray[np.int64]) -> torch.Tensor:
            raise AssertionError("refuse before scoring")

        with pytest.raises(ValueError, match=message):
            evaluate_cases(never, cases, sequences, 5, **keywords)

    def test_a_target_outside_the_catalogue(self) -> None:
        cases, sequences = make_cases([[0, 7]])
        with pytest.raises(ValueError, match="items 0 to 4, got 7"):
            evaluate_cases(constant(5), cases, sequences, 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ks": []}, "evaluation: ks must name at least one cutoff"),
        ({"ks": [10, 0]}, r"evaluation.ks\[1\]: 0 is out of range"),
        ({"ks": [5, 5]}, r"distinct, got \[5, 5\]"),
        ({"batch_users": 0}, "evaluation.batch_users: 0 is out of range"),
    ],
)
def test_config_refuses(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_section(EvaluationConfig, values, path="evaluation")
