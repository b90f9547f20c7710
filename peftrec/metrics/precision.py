"""Precision at k."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.rank import check_ranks, hits


def precision(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Compute which share of the first k places holds a target of the user.

    Precision@k = |targets with rank <= k| / k. The denominator is k however few targets there are: with one target per
    user it is HR@k / k. Ties are settled where ranks are made; `MISS` gives 0; no ranks give an empty array.

    Args:
        ranks: place of each user's targets, 1 is best, 0 for no target in that place, shape (U,) or (U, R).
        k: cutoff, from 1.
    Returns:
        Between 0 and 1 for each user, shape (U,).
    Raises:
        ValueError: if k < 1, or a user has no target or a rank below 1.
    Source:
        `P` of trec_eval.
    """
    shares: NDArray[np.float64] = hits(check_ranks(ranks, k), k).sum(axis=1) / k
    return shares
