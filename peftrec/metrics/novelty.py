"""Novelty of lists."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.item_list import check_counts, check_lists, list_means


def novelty(items: NDArray[np.int64], counts: NDArray[np.int64], counted: int | None = None) -> NDArray[np.float64]:
    """Compute the self-information of each user's list, in bits: how much of a surprise its items are on average.

    novelty = mean over the list of -log2(max(n(item), 1) / counted). An item that nobody had in training counts as if
    one had, so that it is finite: -log2(1 / counted) is the largest value. Places without an item do not count; NaN
    for an empty list.

    Args:
        items: item indexes, one list a user, -1 for places without an item, shape (U, K).
        counts: training events (or users) of every item, shape (N,).
        counted: events (or users) that there were in training, from 1; None: the sum of `counts`.
    Returns:
        From 0 for each user, or NaN, shape (U,).
    Raises:
        ValueError: if a list holds what is no item or an item twice, a count is below 0, or an item has more than
            `counted`.
    Source:
        Zhou et al. (2010), Solving the apparent diversity-accuracy dilemma of recommender systems (self-information).
        With counts of users it equals MeanInvUserFreq of RecTools, for items that nobody had too.
    """
    check_counts(counts)
    shown_UK = check_lists(items, len(counts))
    counted = int(counts.sum()) if counted is None else counted
    if counted < max(int(counts.max(initial=0)), 1):
        raise ValueError(f"counted must be from 1 and from the largest count, {counts.max(initial=0)}; got {counted}")
    surprise_N = np.log2(counted) - np.log2(np.maximum(counts, 1))
    return list_means(surprise_N[np.maximum(items, 0)], shown_UK)
