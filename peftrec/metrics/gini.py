"""How unevenly lists show the catalogue."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.exposure_counts import exposure_counts


def gini(items: NDArray[np.int64], num_items: int) -> float:
    """Compute the Gini coefficient of how often each item of the catalogue is shown.

    gini = sum over i of (2 i - N - 1) x_i / (N sum over i of x_i), with the counts x in ascending order. 0 is all
    alike, 1 - 1 / N is one item alone. Items that no list shows count with 0. NaN where all lists are empty.

    Args:
        items: item indexes, one list a user, -1 for places without an item, shape (U, K).
        num_items: size N of the catalogue, from 1.
    Returns:
        From 0 to below 1, or NaN.
    Raises:
        ValueError: if a list holds what is no item or an item twice, or num_items is below 1.
    Source:
        Fleder and Hosanagar (2009), Blockbuster Culture's Next Rise or Fall (Gini of sales); the formula for counts as
        in Shani and Gunawardana (2011), Evaluating Recommendation Systems, section 8.3.3.2, over N instead of N - 1.
    """
    ordered_N = np.sort(exposure_counts(items, num_items))
    total = int(ordered_N.sum())
    if not total:
        return float("nan")
    weights_N = 2 * np.arange(1, num_items + 1) - num_items - 1
    return float(int((weights_N * ordered_N).sum()) / (num_items * total))
