"""Calibration of lists: whether they hold categories in the shares that histories do.

Shapes: U users, B users of a block, K places of a list, N catalogue, G categories, E events of all histories.
"""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.category import CategoryShares
from peftrec.metrics.item_list import check_histories, check_lists

# Cells of a block of users and their categories that are held at once.
_MOST_CELLS = 2**20


def calibration(
    items: NDArray[np.int64],
    history_items: NDArray[np.int64],
    history_offsets: NDArray[np.int64],
    categories: NDArray[np.floating] | CategoryShares,
    alpha: float = 0.01,
) -> NDArray[np.float64]:
    """Compute how far the categories of each user's list lie from those of the user's history; 0 is calibrated.

    KL = sum over g of p_g ln(p_g / q~_g), q~ = (1 - alpha) q + alpha p, in nats. p is the mean over the events of the
    history of their items' shares, every event counting alike, q the same over the list. Items whose categories are not
    known are left out of both, and places without an item do not count. NaN where no item of the history, or none of
    the list, has known categories. The largest value is -ln(alpha), of a list without any category of the history.

    Args:
        items: item indexes, one list a user, -1 for places without an item, shape (U, K).
        history_items: items of all histories, one user's after the other's, shape (E,).
        history_offsets: where each user's begin, and E at the end, shape (U + 1,).
        categories: each row sums to 1, or is all zero where the item's categories are not known, shape (N, G);
            or the same as `CategoryShares`.
        alpha: how much of the history is mixed into the list, so that no share is 0; above 0 and below 1.
    Returns:
        From 0 for each user, or NaN, shape (U,).
    Raises:
        ValueError: if lists or histories hold what is no item, a list holds an item twice, a row of categories does not
            sum to 1 or 0, users differ in number, or alpha is out of range.
    Source:
        Steck (2018), Calibrated Recommendations, eq. 2 to 4 and 6; weights of all events and of all places are 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be above 0 and below 1, got {alpha}")
    shares = CategoryShares.of(categories)
    shown_UK = check_lists(items, len(shares))
    check_histories(history_items, history_offsets, len(shares))
    if len(history_offsets) != len(items) + 1:
        raise ValueError(f"there are {len(items)} lists, but {len(history_offsets) - 1} histories")
    divergence_U = np.empty(len(items))
    block = max(1, _MOST_CELLS // max(1, shares.num_categories))
    for start in range(0, len(items), block):
        stop = min(start + block, len(items))
        first, last = int(history_offsets[start]), int(history_offsets[stop])
        rows_E = np.repeat(np.arange(stop - start), np.diff(history_offsets[start : stop + 1]))
        history_BG = shares.distributions(history_items[first:last], rows_E, stop - start)
        rows, places = np.nonzero(shown_UK[start:stop])
        list_BG = shares.distributions(items[start:stop][rows, places], rows, stop - start)
        divergence_U[start:stop] = _divergence(history_BG, list_BG, alpha)
    return divergence_U


def _divergence(history_BG: NDArray[np.float64], list_BG: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Compute KL(p || q~); NaN where a row is all 0."""
    known_B = history_BG.any(axis=1) & list_BG.any(axis=1)
    held_BG = history_BG > 0
    mixed_BG = (1.0 - alpha) * list_BG + alpha * history_BG
    ratios_BG = np.divide(history_BG, mixed_BG, out=np.ones_like(history_BG), where=held_BG)
    terms_B = (history_BG * np.log(ratios_BG)).sum(axis=1)
    # The sum is from 0, but rounding may leave less.
    return np.where(known_B, np.maximum(terms_B, 0.0), np.nan)
