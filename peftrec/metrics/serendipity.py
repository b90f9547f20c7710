"""Serendipity of lists."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.item_list import check_counts, check_lists, list_means


def serendipity(items: NDArray[np.int64], targets: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute how much higher than by its popularity alone each user's list places what the user took.

    serendipity = mean over the list of [item is a target] max(p(place) - q(item), 0), p(place) = (N + 1 - place) / N,
    q(item) = (N + 1 - popularity rank) / N. The most popular items have popularity rank 1; items with equal counts
    share a rank, and the next lower count has the next rank. q is 0 for items that nobody had. Places without an item
    do not count; NaN for an empty list and for a user without any target.

    Args:
        items: item indexes, best first, one list a user, -1 for places without an item, shape (U, K).
        targets: items that each user took, -1 for places without one, shape (U,) or (U, R).
        counts: training events of every item, shape (N,).
    Returns:
        From 0 to 1 for each user, or NaN, shape (U,).
    Raises:
        ValueError: if a list holds what is no item or an item twice, a target is no item, or a count is below 0.
    Source:
        The metric Serendipity of RecTools (its page states the mean over k; over lists shorter than k it takes the
        mean over their length, as here), after the idea of Ge, Delgado-Battenfeld and Jannach (2010), Beyond Accuracy:
        a relevant item that a primitive recommender would not have shown.
    """
    check_counts(counts)
    num_items = len(counts)
    shown_UK = check_lists(items, num_items)
    targets_UR = targets[:, None] if targets.ndim == 1 else targets
    if targets_UR.ndim != 2 or len(targets_UR) != len(items) or not np.issubdtype(targets.dtype, np.integer):
        raise ValueError(
            f"targets must be integers of shape (U,) or (U, R) with U = {len(items)}, got shape {targets.shape} of "
            f"{targets.dtype}"
        )
    if targets.size and (int(targets.min()) < -1 or int(targets.max()) >= num_items):
        row = int(np.argmax(((targets_UR < -1) | (targets_UR >= num_items)).any(axis=1)))
        raise ValueError(f"a target of user {row} is no item; there are 0 to {num_items - 1}")
    # Distinct counts ascend, so the rank from the top is their number less the place.
    distinct, place_N = np.unique(counts, return_inverse=True)
    expected_N = np.where(counts > 0, (num_items + 1 - (len(distinct) - place_N)) / num_items, 0.0)
    places_K = (num_items - np.arange(items.shape[1])) / num_items
    taken_UK = np.zeros(items.shape, dtype=np.bool_)
    for place in range(targets_UR.shape[1]):
        taken_UK |= items == targets_UR[:, place, None]
    gains_UK = np.where(taken_UK, np.maximum(places_K - expected_N[np.maximum(items, 0)], 0.0), 0.0)
    return np.where((targets_UR >= 0).any(axis=1), list_means(gains_UK, shown_UK), np.nan)
