"""Recall at k."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.rank import check_ranks, hits


def recall(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Compute which share of each user's targets is among the first k.

    Recall@k = |targets with rank <= k| / |targets|. The denominator counts all targets, `MISS` too, and not min(k,
    targets): with more than k targets it stays below 1. With one target per user it equals HR@k. Ties are settled
    where ranks are made; no ranks give an empty array.

    Args:
        ranks: place of each user's targets, 1 is best, 0 for no target in that place, shape (U,) or (U, R).
        k: cutoff, from 1.
    Returns:
        Between 0 and 1 for each user, shape (U,).
    Raises:
        ValueError: if k < 1, or a user has no target or a rank below 1.
    Source:
        `recall` of trec_eval.
    """
    ranks_UR = check_ranks(ranks, k)
    shares: NDArray[np.float64] = hits(ranks_UR, k).sum(axis=1) / (ranks_UR > 0).sum(axis=1)
    return shares
