"""Rank metrics against values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftrec.metrics import (
    DEFAULT_RANK_METRICS,
    MISS,
    RANK_METRICS,
    hit_rate,
    mean_average_precision,
    mrr,
    ndcg,
    precision,
    rank_metrics,
    recall,
)

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
        assert values[0] == (1 / 20 if name == "precision" else 1.0)
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

    def test_refuses_ranks_that_are_not_rows_of_integers(self, name: str) -> None:
        with pytest.raises(ValueError, match="float64"):
            RANK_METRICS[name](np.array([1.0, 2.0]), 10)
        with pytest.raises(ValueError, match=r"\(1, 1, 1\)"):
            RANK_METRICS[name](np.array([[[1]]], dtype=np.int64), 10)

    def test_a_column_of_targets_is_a_row_of_them(self, name: str) -> None:
        """Bit for bit, padded or not."""
        values = RANK_METRICS[name](RANKS, 10)
        column = RANKS[:, None]
        for ranks in (column, np.pad(column, ((0, 0), (2, 1)))):
            np.testing.assert_array_equal(RANK_METRICS[name](ranks, 10), values)

    def test_neither_order_nor_padding_of_targets_matters(self, name: str) -> None:
        ranks = np.array([[3, 7, 0, 12, MISS], [1, 0, 0, 0, 0]])
        values = RANK_METRICS[name](ranks, 10)
        np.testing.assert_array_equal(RANK_METRICS[name](ranks[:, ::-1], 10), values)

    def test_a_user_without_a_target_is_refused_with_the_row(self, name: str) -> None:
        with pytest.raises(ValueError, match="row 1 of the ranks has no target"):
            RANK_METRICS[name](np.array([[1, 0], [0, 0]]), 10)
        with pytest.raises(ValueError, match="row 0 of the ranks has no target"):
            RANK_METRICS[name](np.empty((2, 0), dtype=np.int64), 10)
        with pytest.raises(ValueError, match=r"0 is no target; got -3 in row 1"):
            RANK_METRICS[name](np.array([[1, 0], [2, -3]]), 10)

    def test_no_users_with_places_for_targets(self, name: str) -> None:
        assert RANK_METRICS[name](np.empty((0, 3), dtype=np.int64), 10).shape == (0,)

    @pytest.mark.parametrize("row", [[1, 1], [2, 2, 2], [4, 5, 5], [1, 2, 2]])
    def test_two_targets_do_not_share_a_place(self, name: str, row: list[int]) -> None:
        """Tied targets share the worst of their places, so there is a place above for each of the others."""
        ranks = np.array([[1, 2, 3], [*row, *[0] * (3 - len(row))]])
        with pytest.raises(ValueError, match=rf"row 1 has the ranks {', '.join(map(str, row))}, but"):
            RANK_METRICS[name](ranks, 10)


def test_rank_metrics_names_each_metric_and_cutoff() -> None:
    values = rank_metrics(RANKS, (5, 10))
    assert list(values) == ["hr@5", "ndcg@5", "mrr@5", "hr@10", "ndcg@10", "mrr@10"]
    np.testing.assert_array_equal(values["ndcg@5"], ndcg(RANKS, 5))


def test_one_target_a_user_has_the_same_bits_as_ever() -> None:
    """Stored results of one target a user are compared with new ones exactly."""
    ranks = np.concatenate([np.arange(1, 3000), [MISS]])
    for k in (1, 5, 10, 100, 2500):
        places = np.minimum(ranks, k).astype(np.float64)
        values = rank_metrics(ranks, (k,))
        np.testing.assert_array_equal(values[f"hr@{k}"], (ranks <= k).astype(np.float64))
        np.testing.assert_array_equal(values[f"ndcg@{k}"], np.where(ranks <= k, 1.0 / np.log2(places + 1.0), 0.0))
        np.testing.assert_array_equal(values[f"mrr@{k}"], np.where(ranks <= k, 1.0 / ranks.astype(np.float64), 0.0))


SEVERAL = np.array([[1, 3, 11, MISS], [2, 0, 0, 0], [12, 0, MISS, 0], [4, 2, 3, 1]])


def test_several_targets_by_hand() -> None:
    np.testing.assert_array_equal(hit_rate(SEVERAL, 10), [1, 1, 0, 1])
    np.testing.assert_allclose(recall(SEVERAL, 10), [2 / 4, 1, 0, 1], rtol=1e-15)
    np.testing.assert_allclose(recall(SEVERAL, 2), [1 / 4, 1, 0, 2 / 4], rtol=1e-15)
    np.testing.assert_allclose(precision(SEVERAL, 10), [2 / 10, 1 / 10, 0, 4 / 10], rtol=1e-15)
    np.testing.assert_allclose(mrr(SEVERAL, 10), [1, 1 / 2, 0, 1], rtol=1e-15)
    # AP of the first row: precision 1/1 at rank 1, 2/3 at rank 3, over four targets.
    np.testing.assert_allclose(mean_average_precision(SEVERAL, 10), [(1 + 2 / 3) / 4, 1 / 2, 0, 1], rtol=1e-15)
    np.testing.assert_allclose(mean_average_precision(SEVERAL, 2), [1 / 4, 1 / 2, 0, 2 / 4], rtol=1e-15)
    discount = [1 / math.log2(place + 1) for place in range(1, 12)]
    ideal = [sum(discount[:count]) for count in range(11)]
    expected = [(discount[0] + discount[2]) / ideal[4], discount[1], 0, 1]
    np.testing.assert_allclose(ndcg(SEVERAL, 10), expected, rtol=1e-15)
    # Cut at 2, no more than two targets can gain.
    np.testing.assert_allclose(ndcg(SEVERAL, 2), [discount[0] / ideal[2], discount[1], 0, 1], rtol=1e-15)


def test_targets_that_tie_by_hand() -> None:
    """Both stand on the worst of their two places; each has both targets up to its rank."""
    tied = np.array([[2, 2]])
    assert hit_rate(tied, 1)[0] == 0
    assert recall(tied, 2)[0] == 1
    assert mrr(tied, 2)[0] == 1 / 2
    assert mean_average_precision(tied, 2)[0] == 1
    assert ndcg(tied, 2)[0] == pytest.approx(2 / math.log2(3) / (1 + 1 / math.log2(3)), rel=1e-15)


@given(ranks=st.lists(st.integers(1, 60) | st.just(MISS), min_size=1, max_size=9), k=st.integers(1, 70))
def test_with_one_target_metrics_coincide(ranks: list[int], k: int) -> None:
    array = np.array(ranks)
    np.testing.assert_array_equal(recall(array, k), hit_rate(array, k))
    np.testing.assert_array_equal(mean_average_precision(array, k), mrr(array, k))
    np.testing.assert_allclose(precision(array, k), hit_rate(array, k) / k)


@given(rows=st.lists(st.sets(st.integers(1, 40), min_size=1, max_size=8), min_size=1, max_size=5), k=st.integers(1, 50))
def test_values_lie_between_nothing_and_the_best_ranks(rows: list[set[int]], k: int) -> None:
    width = max(map(len, rows))
    ranks = np.array([[*row, *[0] * (width - len(row))] for row in rows])
    best = np.where(np.arange(width) < [[len(row)] for row in rows], np.arange(1, width + 1), 0)
    for name, metric in RANK_METRICS.items():
        values, most = metric(ranks, k), metric(best, k)
        assert (values >= 0).all(), name
        assert (values <= most + 1e-12).all(), name
        assert (values <= 1 + 1e-12).all(), name
    np.testing.assert_allclose(ndcg(best, k), 1.0)


def test_rank_metrics_takes_the_names_it_is_given() -> None:
    assert list(rank_metrics(RANKS, (5,))) == [f"{name}@5" for name in DEFAULT_RANK_METRICS]
    assert list(rank_metrics(RANKS, (5, 2), names=("map", "recall"))) == ["map@5", "recall@5", "map@2", "recall@2"]
    assert set(RANK_METRICS) == {"hr", "ndcg", "mrr", "recall", "precision", "map"}
    with pytest.raises(ValueError, match="there is no metric 'map@5'; there are hr, ndcg, mrr, recall, precision, map"):
        rank_metrics(RANKS, (5,), names=("hr", "map@5"))
    with pytest.raises(ValueError, match="names must name at least one metric"):
        rank_metrics(RANKS, (5,), names=())


def test_rank_metrics_wants_a_cutoff() -> None:
    with pytest.raises(ValueError, match="at least one cutoff"):
        rank_metrics(RANKS, ())
