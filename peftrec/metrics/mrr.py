"""Mean reciprocal rank at k."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.rank import MISS, check_ranks


def mrr(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Compute the reciprocal rank of each user's first target, cut at k; its mean over users is MRR@k.

    RR@k = [r <= k] / r, r = min rank. Ties are settled where ranks are made; `MISS` gives 0; no ranks give an empty
    array.

    Args:
        ranks: place of each user's targets, 1 is best, 0 for no target in that place, shape (U,) or (U, R).
        k: cutoff, from 1.
    Returns:
        Between 0 and 1 for each user, shape (U,).
    Raises:
        ValueError: if k < 1, or a user has no target or a rank below 1.
    Source:
        Voorhees (1999), The TREC-8 question answering track report; cut at k as in later recommender papers.
    """
    ranks_UR = check_ranks(ranks, k)
    if not len(ranks_UR):
        return np.empty(0, dtype=np.float64)
    first_U = np.where(ranks_UR > 0, ranks_UR, MISS).min(axis=1)
    return np.where(first_U <= k, 1.0 / first_U.astype(np.float64), 0.0)
