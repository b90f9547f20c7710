"""Ranks: what every rank metric takes, checked in one place."""

import numpy as np
from numpy.typing import NDArray

MISS: int = int(np.iinfo(np.int64).max)
"""The rank of a target that cannot be recommended: worse than any place, 0 in every metric."""


def check_ranks(ranks: NDArray[np.int64], k: int) -> None:
    """Refuse what no rank metric is defined for.

    Ranks are one-dimensional integers from 1 (best) upwards, `MISS` included; an empty array is allowed.

    Args:
        ranks: place of each user's target, shape (U,).
        k: cutoff, a whole number from 1.
    Raises:
        ValueError: if k < 1 or not whole, or if ranks are not one-dimensional integers from 1.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k must be a whole number from 1, got {k!r}")
    if ranks.ndim != 1 or not np.issubdtype(ranks.dtype, np.integer):
        raise ValueError(f"ranks must be one-dimensional integers, got shape {ranks.shape} of {ranks.dtype}")
    if ranks.size and int(ranks.min()) < 1:
        row = int(np.argmax(ranks < 1))
        raise ValueError(f"ranks start at 1 (best), got {int(ranks[row])} in row {row}")
