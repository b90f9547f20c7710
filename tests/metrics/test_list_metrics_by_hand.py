"""Each metric of lists against values worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftrec.metrics import (
    calibration,
    catalogue_coverage,
    category_diversity,
    exposure_counts,
    exposure_ratio,
    gini,
    history_popularity,
    intra_list_diversity,
    novelty,
    popularity_lift,
    serendipity,
)

NAN = float("nan")
COUNTS = np.array([8, 4, 4, 1, 0])
LISTS = np.array([[0, 1, 3], [4, 2, -1], [-1, -1, -1]])


def test_novelty() -> None:
    # Of 16 users: 8 are 1 bit, 4 are 2, 1 is 4, and nobody counts as one.
    np.testing.assert_allclose(novelty(LISTS, COUNTS, 16), [(1 + 2 + 4) / 3, (4 + 2) / 2, NAN])
    # Without a number of users, shares are of the 17 events.
    first = np.mean([math.log2(17 / 8), math.log2(17 / 4), math.log2(17)])
    np.testing.assert_allclose(novelty(LISTS, COUNTS)[0], first)
    # What everybody had is no surprise.
    assert novelty(np.array([[0]]), np.array([3]), 3)[0] == 0
    with pytest.raises(ValueError, match="from the largest count, 8; got 7"):
        novelty(LISTS, COUNTS, 7)
    with pytest.raises(ValueError, match="counted must be from 1"):
        novelty(LISTS, np.zeros(5, dtype=np.int64))


def test_popularity_lift() -> None:
    # Means of the lists are 13/3 and 2.
    means = np.array([4.0, 4.0, 4.0])
    np.testing.assert_allclose(popularity_lift(LISTS, means, COUNTS), [(13 / 3 - 4) / 4, -0.5, NAN])
    # Unknown and unheard-of histories have no lift.
    assert np.isnan(popularity_lift(LISTS[:2], np.array([NAN, 0.0]), COUNTS)).all()
    assert popularity_lift(np.array([[4]]), np.array([2.0]), COUNTS)[0] == -1
    for wrong in (-1.0, np.inf):
        with pytest.raises(ValueError, match="the history of user 1 has a mean popularity"):
            popularity_lift(LISTS, np.array([1.0, wrong, 1.0]), COUNTS)
    with pytest.raises(ValueError, match=r"shape \(3,\), got \(2,\)"):
        popularity_lift(LISTS, np.array([1.0, 2.0]), COUNTS)


def test_history_popularity() -> None:
    # The third history is empty, and an item that comes twice counts twice.
    found = history_popularity(np.array([0, 0, 1, 4, 3]), np.array([0, 3, 5, 5]), COUNTS)
    np.testing.assert_allclose(found, [20 / 3, 1 / 2, NAN])


def test_diversity_by_vectors() -> None:
    vectors = np.array([[1, 0], [0, 2], [3, 3], [-5, 0], [0, 0]], dtype=np.float32)
    lists = np.array([[0, 1, 2], [0, 3, -1], [0, 4, 1], [4, 0, -1], [-1, -1, -1]])
    half = 1 - math.sqrt(0.5)
    expected = [(1 + half + half) / 3, 2, 1, NAN, NAN]
    np.testing.assert_allclose(intra_list_diversity(lists, vectors), expected, atol=1e-15)
    same = np.full((4, 3), 7.3, dtype=np.float32)
    np.testing.assert_allclose(intra_list_diversity(np.array([[0, 1, 2, 3]]), same), [0], atol=1e-14)
    vectors[2, 1] = NAN
    with pytest.raises(ValueError, match="the vector of item 2 is not finite"):
        intra_list_diversity(lists, vectors)
    with pytest.raises(ValueError, match="floats of shape"):
        intra_list_diversity(lists, np.ones((5, 2), dtype=np.int64))


def test_diversity_is_the_mean_over_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one block and in many."""
    random = np.random.default_rng(11)
    vectors = random.standard_normal((30, 6))
    vectors[4] = 0
    lists = np.stack([random.permutation(30)[:7] for _ in range(40)])
    lists[random.random(lists.shape) < 0.2] = -1
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    expected = []
    for row in lists:
        pairs = list(itertools.combinations([item for item in row if item >= 0 and item != 4], 2))
        expected.append(np.mean([1 - unit[a] @ unit[b] for a, b in pairs]) if pairs else NAN)
    np.testing.assert_allclose(intra_list_diversity(lists, vectors), expected, atol=1e-14)
    monkeypatch.setitem(intra_list_diversity.__globals__, "_MOST_NUMBERS", 100)
    np.testing.assert_allclose(intra_list_diversity(lists, vectors), expected, atol=1e-14)


def rows_of(sets: list[set[int]], num_categories: int) -> np.ndarray:
    rows = np.zeros((len(sets), num_categories))
    for item, categories in enumerate(sets):
        for category in categories:
            rows[item, category] = 1 / len(categories)
    return rows


def test_diversity_by_categories() -> None:
    categories = rows_of([{0}, {0, 1}, {1, 2}, set(), {2}], 3)
    lists = np.array([[0, 1, 2], [0, 2, 3], [0, 1, -1], [0, 3, -1], [-1, -1, -1]])
    # Of 0-1, 0-2, 1-2 only the second pair has nothing in common; item 3 is left out.
    np.testing.assert_allclose(category_diversity(lists, categories), [1 / 3, 1, 0, NAN, NAN])


@pytest.mark.parametrize("num_categories", [1, 8, 64, 65, 200])
def test_diversity_by_categories_is_the_share_of_pairs(num_categories: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(11)
    sets = [set(random.integers(0, num_categories, random.integers(0, 5)).tolist()) for _ in range(25)]
    lists = np.stack([random.permutation(25)[:6] for _ in range(30)])
    lists[random.random(lists.shape) < 0.2] = -1
    expected = []
    for row in lists:
        pairs = list(itertools.combinations([sets[item] for item in row if item >= 0 and sets[item]], 2))
        expected.append(np.mean([a.isdisjoint(b) for a, b in pairs]) if pairs else NAN)
    categories = rows_of(sets, num_categories)
    np.testing.assert_allclose(category_diversity(lists, categories), expected)
    monkeypatch.setitem(category_diversity.__globals__, "_MOST_WORDS", 50)
    np.testing.assert_allclose(category_diversity(lists, categories), expected)


@pytest.mark.parametrize("row", [[0.5, 0.4], [1.5, -0.5], [NAN, 1], [np.inf, 0]])
def test_categories_that_share_out_no_item_are_refused(row: list[float]) -> None:
    categories = np.array([[1, 0], row, [0, 0]])
    with pytest.raises(ValueError, match="the categories of item 1 sum to"):
        category_diversity(np.array([[0, 2]]), categories)
    with pytest.raises(ValueError, match="the categories of item 1 sum to"):
        calibration(np.array([[0, 2]]), np.array([0]), np.array([0, 1]), categories)
    with pytest.raises(ValueError, match="floats of shape"):
        category_diversity(np.array([[0, 2]]), np.array([[1, 0], [1, 0], [0, 1]]))


def test_serendipity() -> None:
    # Popularity ranks: item 0 first, 1 and 2 second, 3 third; item 4, which nobody had, has q = 0.
    # p of the places is 1, 4/5, 3/5; q is 1, 4/5, 4/5, 3/5, 0.
    lists = np.array([[3, 4, 1], [1, 0, 4], [2, 3, -1], [4, -1, -1]])
    targets = np.array([[3, 1, -1], [0, 4, 1], [3, -1, -1], [4, -1, -1]])
    expected = [(2 / 5 + 0) / 3, (1 / 5 + 0 + 3 / 5) / 3, (1 / 5) / 2, 1]
    np.testing.assert_allclose(serendipity(lists, targets, COUNTS), expected)
    np.testing.assert_allclose(serendipity(lists, targets[:, 0], COUNTS), [2 / 15, 0, 1 / 10, 1])
    # Nothing that was taken is shown; nothing is shown; nothing was taken.
    cases = np.array([[0, 1], [-1, -1], [0, 1]])
    np.testing.assert_array_equal(serendipity(cases, np.array([[4], [4], [-1]]), COUNTS), [0, NAN, NAN])
    with pytest.raises(ValueError, match="a target of user 2 is no item"):
        serendipity(cases, np.array([4, 4, 5]), COUNTS)
    with pytest.raises(ValueError, match="targets must be integers"):
        serendipity(cases, np.array([4, 4]), COUNTS)


def test_calibration() -> None:
    categories = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0, 0.5], [0, 0, 0]])
    history, offsets = np.array([0, 0, 1, 2, 3, 3]), np.array([0, 4, 5, 6, 6])
    lists = np.array([[0, 1, 3], [0, 1, 2], [3, -1, -1], [0, 1, 2]])
    # The first: p = (2.5, 1, .5) / 4, q = (.5, .5, 0).
    p, q = np.array([0.625, 0.25, 0.125]), np.array([0.5, 0.5, 0])
    expected = sum(a * math.log(a / (0.99 * b + 0.01 * a)) for a, b in zip(p, q, strict=True))
    found = calibration(lists, history, offsets, categories)
    np.testing.assert_allclose(found, [expected, NAN, NAN, NAN])
    other = sum(a * math.log(a / (0.5 * b + 0.5 * a)) for a, b in zip(p, q, strict=True))
    assert calibration(lists, history, offsets, categories, alpha=0.5)[0] == pytest.approx(other)


def test_calibration_reaches_from_nothing_to_its_bound() -> None:
    categories = np.eye(3)
    history, offsets = np.array([0, 1, 0]), np.array([0, 2, 3])
    lists = np.array([[1, 0], [2, 1]])
    np.testing.assert_allclose(calibration(lists, history, offsets, categories), [0, -math.log(0.01)], atol=1e-15)
    for alpha in (0, 1, -0.1, NAN):
        with pytest.raises(ValueError, match="alpha must be above 0"):
            calibration(lists, history, offsets, categories, alpha=alpha)
    with pytest.raises(ValueError, match="there are 1 lists, but 2 histories"):
        calibration(lists[:1], history, offsets, categories)
    with pytest.raises(ValueError, match="the history of user 1 holds item 3; there are 0 to 2"):
        calibration(lists, np.array([0, 1, 3]), offsets, categories)
    for wrong in ([0, 2, 4], [1, 2, 3], [0, 3, 2, 3], []):
        with pytest.raises(ValueError, match="history_offsets must rise from 0 to 3"):
            calibration(lists, history, np.array(wrong, dtype=np.int64), categories)


def test_calibration_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(11)
    categories = random.random((20, 5)) * (random.random((20, 5)) < 0.4)
    categories /= np.maximum(categories.sum(axis=1, keepdims=True), 1e-30)
    lengths = random.integers(0, 30, 25)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    history = random.integers(0, 20, offsets[-1])
    lists = np.stack([random.permutation(20)[:4] for _ in range(25)])
    expected = []
    for row, first, last in zip(lists, offsets[:-1], offsets[1:], strict=True):
        p, q = categories[history[first:last]].sum(axis=0), categories[row].sum(axis=0)
        if not p.any() or not q.any():
            expected.append(NAN)
            continue
        p, q = p / p.sum(), q / q.sum()
        expected.append(sum(a * math.log(a / (0.99 * b + 0.01 * a)) for a, b in zip(p, q, strict=True) if a))
    np.testing.assert_allclose(calibration(lists, history, offsets, categories), expected, rtol=1e-12)
    monkeypatch.setitem(calibration.__globals__, "_MOST_CELLS", 17)
    monkeypatch.setattr("peftrec.metrics.category._MOST_EVENTS", 7)
    np.testing.assert_allclose(calibration(lists, history, offsets, categories), expected, rtol=1e-12)


def test_exposure() -> None:
    lists = np.array([[0, 1], [0, 2], [0, -1]])
    assert exposure_counts(lists, 5).tolist() == [3, 1, 1, 0, 0]
    assert catalogue_coverage(lists, 5) == 3 / 5
    # 0, 0, 1, 1, 3 with the weights -4, -2, 0, 2, 4 over 5 x 5.
    assert gini(lists, 5) == pytest.approx((2 + 12) / 25)
    nothing = np.full((2, 3), -1)
    assert catalogue_coverage(nothing, 5) == 0
    assert np.isnan(gini(nothing, 5))
    assert catalogue_coverage(np.empty((0, 3), dtype=np.int64), 5) == 0
    with pytest.raises(ValueError, match="num_items must be from 1"):
        gini(nothing, 0)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8).filter(any))
def test_gini_is_the_mean_difference(counts: list[int]) -> None:
    """Half the mean difference between two items, over the mean."""
    lists = np.array([[item] for item, count in enumerate(counts) for _ in range(count)])
    size, total = len(counts), sum(counts)
    differences = sum(abs(a - b) for a in counts for b in counts)
    assert gini(lists, size) == pytest.approx(differences / (2 * size * total))
    assert 0 <= gini(lists, size) <= 1 - 1 / size + 1e-12


def test_gini_at_its_ends() -> None:
    assert gini(np.arange(6)[:, None], 6) == 0
    assert gini(np.zeros((9, 1), dtype=np.int64), 6) == pytest.approx(1 - 1 / 6)


def test_exposure_ratio() -> None:
    found = exposure_ratio(np.array([0.6, 0.4, 0, 0]), np.array([0.3, 0.5, 0.2, 0]))
    np.testing.assert_allclose(found, [2, 0.8, 0, NAN])
    with pytest.raises(ValueError, match=r"the part of group 1 is -0\.1"):
        exposure_ratio(np.array([0.5, 0.5]), np.array([1.1, -0.1]))
    with pytest.raises(ValueError, match="the share of group 0 is nan"):
        exposure_ratio(np.array([NAN, 0.5]), np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match="one shape"):
        exposure_ratio(np.array([1.0]), np.array([0.5, 0.5]))
