"""How often each item is shown."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.item_list import check_lists


def exposure_counts(items: NDArray[np.int64], num_items: int) -> NDArray[np.int64]:
    """Count in how many lists each item of the catalogue is.

    Places without an item do not count.

    Args:
        items: item indexes, one list a user, -1 for places without an item, shape (U, K).
        num_items: size N of the catalogue, from 1.
    Returns:
        Shape (N,).
    Raises:
        ValueError: if a list holds what is no item or an item twice, or num_items is below 1.
    """
    if num_items < 1:
        raise ValueError(f"num_items must be from 1, got {num_items}")
    shown_UK = check_lists(items, num_items)
    return np.bincount(items[shown_UK], minlength=num_items)
