"""Rank metrics against values worked out by hand."""

import math

import numpy as np
import pytest

from peftrec.metrics import MISS, RANK_METRICS, hit_rate, mrr, ndcg, rank_metrics

RANKS = np.array([1, 2, 3, 10, 11, MISS], dtype=np.int64)


def test_hit_rate_by_hand() -> None:
    np.testing.assert_array_equal(hit_rate(RANKS, 10), [1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(hit_rate(RANKS, 1), [1, 0, 0, 0, 0, 0])


def test_ndcg_by_hand() -> None:
    expected = [1.0, 1 / math.log2(3), 0.5, 1 / math.log2(11), 0.0, 0.0]
    np.testing.assert_allclose(ndcg(RANKS, 10), expected, rtol=1e-15)
    np.testing.assert_allclose(ndcg(RANKS, 2), [1.0, 1 / math.log2(3), 0, 0, 0, 0], rtol=1e-15)


def test_mrr_by_hand() -> None:
    np.testing.assert_allclose(mrr(RANKS, 10), [1, 1 / 2, 1 / 3, 1 / 10, 0, 0], rtol=1e-15)
    np.testing.assert_allclose(mrr(RANKS, 2), [1, 1 / 2, 0, 0, 0, 0], rtol=1e-15)


@pytest.mark.parametrize("name", list(RANK_METRICS))
class TestEveryMetric:
    def test_is_float64_per_user_and_keeps_its_input(self, name: str) -> None:
        ranks = RANKS.copy()
        values = RANK_METRICS[name](ranks, 10)
        assert values.dtype == np.float64
        assert values.shape == ranks.shape
        np.testing.assert_array_equal(ranks, RANKS)

    def test_a_miss_is_zero_even_at_the_largest_cutoff_in_use(self, name: str) -> None:
        with np.errstate(all="raise"):
            assert RANK_METRICS[name](np.array([MISS], dtype=np.int64), 10**9)[0] == 0.0

    def test_no_better_rank_scores_less(self, name: str) -> None:
        values = RANK_METRICS[name](np.arange(1, 50, dtype=np.int64), 20)
        assert (np.diff(values) <= 0).all()
        assert values[0] == 1.0
        assert values[20] == 0.0

    def test_no_ranks_give_no_values(self, name: str) -> None:
        assert RANK_METRICS[name](np.empty(0, dtype=np.int64), 10).shape == (0,)

    @pytest.mark.parametrize("k", [0, -1, 2.5, True])
    def test_refuses_a_cutoff_below_one_or_not_whole(self, name: str, k: int) -> None:
        with pytest.raises(ValueError, match="k must be a whole number from 1"):
            RANK_METRICS[name](RANKS, k)

    def test_refuses_a_rank_below_one_naming_the_row(self, name: str) -> None:
        with pytest.raises(ValueError, match="got 0 in row 1"):
            RANK_METRICS[name](np.array([3, 0, -2], dtype=np.int64), 10)

    def test_refuses_ranks_that_are_not_one_row_of_integers(self, name: str) -> None:
        with pytest.raises(ValueError, match="float64"):
            RANK_METRICS[name](np.array([1.0, 2.0]), 10)
        with pytest.raises(ValueError, match=r"\(1, 1\)"):
            RANK_METRICS[name](np.array([[1]], dtype=np.int64), 10)


def test_rank_metrics_names_each_metric_and_cutoff() -> None:
    values = rank_metrics(RANKS, (5, 10))
    assert list(values) == ["hr@5", "ndcg@5", "mrr@5", "hr@10", "ndcg@10", "mrr@10"]
    np.testing.assert_array_equal(values["ndcg@5"], ndcg(RANKS, 5))


def test_rank_metrics_wants_a_cutoff() -> None:
    with pytest.raises(ValueError, match="at least one cutoff"):
        rank_metrics(RANKS, ())
