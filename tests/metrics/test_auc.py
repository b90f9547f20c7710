"""AUC from ranks and of impressions, against pairs counted one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftrec.metrics import MISS, auc, group_auc, impression_auc

NAN = float("nan")


def counted(labels: np.ndarray, scores: np.ndarray) -> float:
    """Pairs in order, ties against the model."""
    pairs = [(a, b) for a in scores[labels == 1] for b in scores[labels == 0]]
    return sum(a > b for a, b in pairs) / len(pairs) if pairs else NAN


def pessimistic_ranks(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return np.array([(scores >= score).sum() for score in scores[labels == 1]])


def test_auc_by_hand() -> None:
    ranks = np.array([1, 3, 11, MISS])
    np.testing.assert_allclose(auc(ranks, 11), [1, 8 / 10, 0, 0])
    # Four items, the targets first and third: of four pairs, the third is behind one of the others.
    np.testing.assert_allclose(auc(np.array([[1, 3]]), 4), [3 / 4])
    # The one that is no candidate is not among the four: of the 2 x 3 pairs its own are lost.
    np.testing.assert_allclose(auc(np.array([[1, MISS]]), 4), [3 / 6])
    # All targets tie with one other, in front: ranks are 3, 3 among four.
    np.testing.assert_allclose(auc(np.array([[3, 3]]), 4), [1 / 2])


def test_auc_of_each_user_is_of_the_items_ranked_for_them() -> None:
    np.testing.assert_allclose(auc(np.array([[2, 0], [2, 3]]), np.array([3, 5])), [1 / 2, 4 / 6])
    assert np.isnan(auc(np.array([[1, 2], [1, 0]]), np.array([2, 1]))).all()
    assert auc(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)).shape == (0,)


def test_auc_refuses_ranks_beyond_what_was_ranked() -> None:
    with pytest.raises(ValueError, match="row 1 has a rank of 4 among 3 items"):
        auc(np.array([1, 4]), 3)
    with pytest.raises(ValueError, match="one number for each of 2 users, got 3"):
        auc(np.array([1, 2]), np.array([5, 5, 5]))
    with pytest.raises(ValueError, match="whole numbers"):
        auc(np.array([1, 2]), np.array([5.0, 5.0]))
    with pytest.raises(ValueError, match="row 0 of the ranks has no target"):
        auc(np.array([[0]]), 3)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=14).filter(
        lambda x: any(a for a, _ in x)
    )
)
def test_auc_counts_pairs(shown: list[tuple[bool, int]]) -> None:
    labels, scores = np.array([int(label) for label, _ in shown]), np.array([float(score) for _, score in shown])
    expected = counted(labels, scores)
    np.testing.assert_allclose(auc(pessimistic_ranks(labels, scores)[None], len(shown)), [expected])
    np.testing.assert_allclose(impression_auc(labels, scores, np.array([0, len(shown)])), [expected])


def test_impressions_by_hand() -> None:
    labels = np.array([1, 0, 0, 0, 1, 1, 1, 0, 0])
    scores = np.array([0.5, 0.5, 0.1, 0.2, 0.9, 0.1, 0.7, 0.3, np.inf])
    #   tie lost: 1 of 2 | 1 of 1 | clicks alone | none clicked | no items
    offsets = np.array([0, 3, 5, 7, 9, 9])
    np.testing.assert_array_equal(impression_auc(labels, scores, offsets), [1 / 2, 1, NAN, NAN, NAN])
    np.testing.assert_array_equal(impression_auc(labels == 1, scores, offsets), [1 / 2, 1, NAN, NAN, NAN])
    # A constant score is right of no pair.
    assert impression_auc(np.array([1, 0, 0]), np.zeros(3), np.array([0, 3]))[0] == 0
    assert impression_auc(np.empty(0, dtype=np.int64), np.empty(0), np.array([0])).shape == (0,)


def test_impressions_do_not_touch_each_other() -> None:
    generator = np.random.default_rng(2)
    lengths = generator.integers(0, 9, 80)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    labels, scores = generator.integers(0, 2, offsets[-1]), generator.integers(0, 4, offsets[-1]).astype(np.float32)
    expected = [counted(labels[a:b], scores[a:b]) for a, b in itertools.pairwise(offsets)]
    np.testing.assert_allclose(impression_auc(labels, scores, offsets), expected)


def test_impressions_refuse_what_has_no_order() -> None:
    labels, offsets = np.array([1, 0, 1, 0]), np.array([0, 2, 4])
    with pytest.raises(ValueError, match="impression 1 has a score that is NaN"):
        impression_auc(labels, np.array([1, 2, NAN, 3]), offsets)
    with pytest.raises(ValueError, match="impression 1 has the label 2"):
        impression_auc(np.array([1, 0, 2, 0]), np.zeros(4), offsets)
    for wrong in ([0, 2, 3], [1, 2, 4], [0, 3, 2, 4], []):
        with pytest.raises(ValueError, match="impression_offsets must"):
            impression_auc(labels, np.zeros(4), np.array(wrong, dtype=np.int64))
    with pytest.raises(ValueError, match="one shape"):
        impression_auc(labels, np.zeros(3), offsets)


def test_gauc_by_hand() -> None:
    values = np.array([1.0, 0.5, NAN, 0.2, NAN])
    users = np.array([7, 7, 7, 3, 5])
    found = group_auc(values, users)
    assert found.users.tolist() == [3, 5, 7]
    np.testing.assert_array_equal(found.per_user, [0.2, NAN, 0.75])
    assert found.weights.tolist() == [1, 0, 2]
    assert found.overall == pytest.approx((0.2 + 2 * 0.75) / 3)
    clicks = np.array([3, 1, 9, 4, 1])
    found = group_auc(values, users, clicks)
    np.testing.assert_allclose(found.per_user, [0.2, NAN, 3.5 / 4])
    assert found.overall == pytest.approx((4 * 0.2 + 4 * 3.5 / 4) / 8)


def test_gauc_of_nothing_is_unknown() -> None:
    assert np.isnan(group_auc(np.array([NAN]), np.array([0])).overall)
    assert np.isnan(group_auc(np.empty(0), np.empty(0, dtype=np.int64)).overall)
    found = group_auc(np.array([0.4, 0.8]), np.array([0, 1]), np.array([0.0, 2.0]))
    assert found.overall == 0.8
    assert np.isnan(found.per_user[0])


def test_gauc_refuses_weights_that_are_none() -> None:
    values, users = np.array([0.4, 0.8]), np.array([0, 1])
    for weight in (-1.0, NAN, np.inf):
        with pytest.raises(ValueError, match="the weight of impression 1"):
            group_auc(values, users, np.array([1.0, weight]))
    with pytest.raises(ValueError, match="impression 0 is infinite"):
        group_auc(np.array([np.inf, 1]), users)
    with pytest.raises(ValueError, match="integers"):
        group_auc(values, users.astype(float))
    with pytest.raises(ValueError, match="one shape"):
        group_auc(values, users[:1])
