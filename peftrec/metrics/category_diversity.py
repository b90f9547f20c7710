"""Diversity of lists by categories of their items.

Shapes: U users, B users of a block, K places of a list, N catalogue, G categories, W words of 64 of them.
"""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.category import CategoryShares
from peftrec.metrics.item_list import check_lists
from peftrec.metrics.ratio import ratio

# Words of a block of users that are held at once.
_MOST_WORDS = 2**20


def category_diversity(
    items: NDArray[np.int64], categories: NDArray[np.floating] | CategoryShares
) -> NDArray[np.float64]:
    """Compute which share of the pairs of items of each user's list has no category in common.

    diversity = mean over pairs i < j of [categories of i and of j are disjoint]. An item whose categories are not known
    is left out; places without an item do not count; NaN where fewer than two items are left.

    Args:
        items: item indexes, one list a user, -1 for places without an item, shape (U, K).
        categories: each row sums to 1, or is all zero where the item's categories are not known; only what is not 0
            counts, not how much it is, shape (N, G); or the same as `CategoryShares`.
    Returns:
        From 0 to 1 for each user, or NaN, shape (U,).
    Raises:
        ValueError: if a list holds what is no item or an item twice, or a row does not sum to 1 or 0.
    Source:
        Ziegler et al. (2005), Improving Recommendation Lists Through Topic Diversification, eq. 5, with the distance
        0 or 1 of shared categories.
    """
    shares = CategoryShares.of(categories)
    shown_UK = check_lists(items, len(shares))
    words_NW = _packed(shares)
    known_N: NDArray[np.bool_] = np.any(words_NW != 0, axis=1)
    num_places = items.shape[1]
    diversity_U = np.empty(len(items))
    block = max(1, _MOST_WORDS // max(1, num_places * words_NW.shape[1]))
    for start in range(0, len(items), block):
        items_BK = np.maximum(items[start : start + block], 0)
        known_BK = known_N[items_BK] & shown_UK[start : start + block]
        words_BKW = words_NW[items_BK]
        apart_B = np.zeros(len(items_BK), dtype=np.int64)
        for place in range(num_places - 1):
            shared_BK = (words_BKW[:, place, None] & words_BKW[:, place + 1 :]).any(axis=2)
            apart_B += (~shared_BK & known_BK[:, place, None] & known_BK[:, place + 1 :]).sum(axis=1)
        count_B = known_BK.sum(axis=1)
        pairs_B = count_B * (count_B - 1) // 2
        diversity_U[start : start + block] = ratio(apart_B, pairs_B)
    return diversity_U


def _packed(shares: CategoryShares) -> NDArray[np.uint64]:
    """Pack which categories each item has into words of 64."""
    words_NW = np.zeros((len(shares), -(-shares.num_categories // 64)), dtype=np.uint64)
    items_S = np.repeat(np.arange(len(shares)), np.diff(shares.offsets))
    bits_S = np.uint64(1) << (shares.categories % 64).astype(np.uint64)
    np.bitwise_or.at(words_NW, (items_S, shares.categories // 64), bits_S)
    return words_NW
