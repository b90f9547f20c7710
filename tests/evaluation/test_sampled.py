"""Ranks among sampled candidates: what is drawn, that it is the same for all, and that keys and protocol say it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data import Cases, Sequences
from peftrec.evaluation import (
    EvaluationConfig,
    SampledCandidatesConfig,
    draw_candidates,
    evaluate_cases,
    evaluate_sampled,
    paired_test,
)
from peftrec.metrics import MISS


def make_cases(num_users: int, num_items: int, length: int = 6, seed: int = 0) -> tuple[Cases, Sequences]:
    """Give each user distinct random items; the last is the target."""
    generator = np.random.default_rng(seed)
    items = np.stack([generator.permutation(num_items)[:length] for _ in range(num_users)])
    sequences = Sequences(
        user_ids=tuple(f"u{user}" for user in range(num_users)),
        offsets=np.arange(num_users + 1, dtype=np.int64) * length,
        items=items.ravel().astype(np.int64),
    )
    users = np.arange(num_users, dtype=np.int64)
    return Cases(users, np.full(num_users, length - 1, dtype=np.int64), items[:, -1].astype(np.int64)), sequences


class Products:
    """Scores that are products of the vectors of the newest item and of the catalogue."""

    max_history = 3

    def __init__(self, num_items: int) -> None:
        self.vectors_ND = torch.randn(num_items, 8, generator=torch.Generator().manual_seed(0))
        self.bias_N = torch.linspace(0, 1, num_items)

    def user_vectors(self, histories_BL: NDArray[np.int64], *_: Any) -> torch.Tensor:
        return self.vectors_ND[torch.from_numpy(histories_BL[:, -1])].flip(1)

    def rows(self, histories_BL: NDArray[np.int64], *_: Any) -> torch.Tensor:
        return self.user_vectors(histories_BL) @ self.vectors_ND.T + self.bias_N


class TestDraws:
    @pytest.mark.parametrize("by", ["uniform", "popularity"])
    def test_are_distinct_and_new_to_the_user(self, by: Any) -> None:
        cases, sequences = make_cases(50, 40)
        drawn = draw_candidates(cases, sequences, np.arange(1, 41), SampledCandidatesConfig(number=30, by=by))
        for row in range(50):
            assert len(set(drawn[row])) == 30
            assert not set(drawn[row]) & set(sequences.items[row * 6 : row * 6 + 6])

    def test_all_that_is_left_may_be_drawn(self) -> None:
        cases, sequences = make_cases(3, 40)
        drawn = draw_candidates(cases, sequences, np.ones(40), SampledCandidatesConfig(number=34))
        assert all(set(row) | set(sequences.items[r * 6 : r * 6 + 6]) == set(range(40)) for r, row in enumerate(drawn))

    def test_depend_on_seed_and_case_alone(self) -> None:
        cases, sequences = make_cases(20, 500)
        config = SampledCandidatesConfig(number=20, seed=4)
        drawn = draw_candidates(cases, sequences, np.ones(500), config)
        rows = np.array([7, 3, 11])
        part = Cases(cases.users[rows], cases.history_lengths[rows], cases.targets[rows])
        np.testing.assert_array_equal(draw_candidates(part, sequences, np.ones(500), config), drawn[rows])
        other = draw_candidates(cases, sequences, np.ones(500), SampledCandidatesConfig(number=20, seed=5))
        assert (other != drawn).mean() > 0.9

    @pytest.mark.parametrize("rounds", [0, 8], ids=["weighed", "drawn"])
    @pytest.mark.parametrize("by", ["uniform", "popularity"])
    def test_chances_are_those_of_drawing_one_by_one(self, by: Any, rounds: int, monkeypatch: Any) -> None:
        monkeypatch.setattr("peftrec.evaluation.sampled._MOST_ROUNDS", rounds)
        # Items 0 and 1 are history and target, item 6 occurs nowhere.
        counts = np.array([50, 70, 6, 3, 2, 1, 0])
        num = 6000
        sequences = Sequences(
            user_ids=tuple(map(str, range(num))),
            offsets=np.arange(num + 1, dtype=np.int64) * 2,
            items=np.tile([0, 1], num),
        )
        cases = Cases(np.arange(num), np.ones(num, dtype=np.int64), np.ones(num, dtype=np.int64))
        drawn = draw_candidates(cases, sequences, counts, SampledCandidatesConfig(number=2, by=by))
        weights = counts * 1.0 if by == "popularity" else np.ones(7)
        weights[:2] = 0
        chances = weights / weights.sum()
        expected = [
            chances[item] + sum(chances[o] * chances[item] / (1 - chances[o]) for o in range(7) if o != item)
            for item in range(7)
        ]
        found = np.bincount(drawn.ravel(), minlength=7) / num
        np.testing.assert_allclose(found, expected, atol=0.025)

    def test_refuses_where_too_few_are_left(self) -> None:
        cases, sequences = make_cases(3, 40)
        with pytest.raises(
            InputError, match=r"35 items are to be drawn, but for user 'u0' 34 are left; use 34 or fewer"
        ):
            draw_candidates(cases, sequences, np.ones(40), SampledCandidatesConfig(number=35))
        counts = np.zeros(40)
        counts[:3] = 1
        with pytest.raises(InputError, match=r"number: 20 .* are left that occur in training"):
            draw_candidates(cases, sequences, counts, SampledCandidatesConfig(number=20, by="popularity"))


class TestRanks:
    def test_count_the_drawn_items_that_score_as_high(self) -> None:
        cases, sequences = make_cases(60, 200)
        scores = Products(200)
        config = SampledCandidatesConfig(number=30)
        found = evaluate_sampled(scores, cases, sequences, np.ones(200), config, ks=(5,), of_users=True)
        drawn = draw_candidates(cases, sequences, np.ones(200), config)
        rows = scores.rows(cases.histories(sequences, 0, 60)).numpy()
        target = np.take_along_axis(rows, cases.targets[:, None], axis=1)
        expected = 1 + (np.take_along_axis(rows, drawn, axis=1) >= target).sum(axis=1)
        np.testing.assert_array_equal(found.ranks, expected)
        assert list(found.per_user) == ["sampled30_hr@5", "sampled30_ndcg@5", "sampled30_mrr@5"]
        np.testing.assert_array_equal(found.per_user["sampled30_hr@5"], expected <= 5)

    @pytest.mark.parametrize("batch_users", [1, 7, 512])
    def test_are_the_same_in_any_batch_and_for_rows_and_products(self, batch_users: int) -> None:
        cases, sequences = make_cases(60, 200)
        scores, config = Products(200), SampledCandidatesConfig(number=30)
        options: dict[str, Any] = {"of_users": True}
        expected = evaluate_sampled(scores, cases, sequences, np.ones(200), config, **options)
        options["batch_users"] = batch_users
        for kind in (scores, scores.rows):
            found = evaluate_sampled(kind, cases, sequences, np.ones(200), config, **options)
            np.testing.assert_array_equal(found.ranks, expected.ranks)

    def test_with_all_items_that_are_left_they_are_those_of_the_catalogue(self) -> None:
        cases, sequences = make_cases(60, 200)
        scores = Products(200)
        full = evaluate_cases(scores, cases, sequences, 200, of_users=True)
        config = SampledCandidatesConfig(number=194)
        found = evaluate_sampled(scores, cases, sequences, np.ones(200), config, of_users=True)
        np.testing.assert_array_equal(found.ranks, full.ranks)

    def test_ties_count_against_the_model_wherever_they_stand(self) -> None:
        cases, sequences = make_cases(60, 200)
        scores = Products(200)
        scores.vectors_ND, scores.bias_N = scores.vectors_ND[:1].expand(200, -1).clone(), torch.zeros(200)
        found = evaluate_sampled(scores, cases, sequences, np.ones(200), SampledCandidatesConfig(), of_users=True)
        assert set(found.ranks) == {101}

    def test_a_target_of_the_history_is_a_miss(self) -> None:
        cases, sequences = make_cases(4, 200)
        cases.targets[2] = sequences.items[12]
        found = evaluate_sampled(
            Products(200), cases, sequences, np.ones(200), SampledCandidatesConfig(), of_users=True
        )
        assert (found.ranks == MISS).tolist() == [False, False, True, False]
        assert found.repeat_target_share == 0.25

    def test_refuses_scores_without_order_and_no_cases(self) -> None:
        cases, sequences = make_cases(4, 200)
        scores = Products(200)
        scores.bias_N[cases.targets[1]] = float("nan")
        with pytest.raises(InputError, match=r"scores are NaN or infinite, first for user"):
            evaluate_sampled(scores, cases, sequences, np.ones(200), SampledCandidatesConfig(), of_users=True)
        none = np.zeros(0, dtype=np.int64)
        with pytest.raises(InputError, match="no cases"):
            evaluate_sampled(scores, Cases(none, none, none), sequences, np.ones(200), SampledCandidatesConfig())
        with pytest.raises(ValueError, match="batch_users must be from 1"):
            evaluate_sampled(scores, cases, sequences, np.ones(200), SampledCandidatesConfig(), batch_users=0)

    def test_are_not_compared_with_those_of_the_catalogue(self) -> None:
        cases, sequences = make_cases(20, 200)
        scores = Products(200)
        found = evaluate_sampled(scores, cases, sequences, np.ones(200), SampledCandidatesConfig(), of_users=True)
        assert found.protocol()["catalogue"].startswith("100 sampled, uniform, seed 0, draws ")
        other = evaluate_sampled(
            scores, cases, sequences, np.ones(200), SampledCandidatesConfig(seed=1), of_users=True, names=("hr",)
        )
        assert list(other.per_user) == ["sampled100_hr@10"]
        with pytest.raises(InputError, match="the same protocol"):
            paired_test(found, other, "sampled100_hr@10")
        full = evaluate_cases(scores, cases, sequences, 200, of_users=True)
        with pytest.raises(InputError, match="the second evaluation has no 'sampled100_hr@10'"):
            paired_test(found, full, "sampled100_hr@10")
        full.per_user["sampled100_hr@10"] = full.per_user["hr@10"]
        with pytest.raises(InputError, match="the same protocol"):
            paired_test(found, full, "sampled100_hr@10")


class TestConfig:
    def test_is_read_and_named(self) -> None:
        read = parse_section(EvaluationConfig, {"sampled_candidates": {"number": 50, "by": "popularity", "seed": 3}})
        assert read.sampled_candidates == SampledCandidatesConfig(number=50, by="popularity", seed=3)
        assert read.sampled_candidates.describe() == "50 sampled, popularity, seed 3"
        assert EvaluationConfig().sampled_candidates is None

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"sampled_candidates": {"number": 0}}, "evaluation.sampled_candidates.number"),
            ({"sampled_candidates": {"by": "popular"}}, "evaluation.sampled_candidates.by"),
            ({"sampled_candidates": {}, "exclude_history": False}, "evaluation.sampled_candidates: draws items"),
        ],
    )
    def test_refuses(self, values: dict[str, Any], message: str) -> None:
        with pytest.raises(RecipeError, match=message):
            parse_section(EvaluationConfig, values, path="evaluation")
