"""Normalised discounted cumulative gain at k."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.rank import check_ranks, hits


def ndcg(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Compute each user's normalised discounted cumulative gain at k; every target gains the same.

    NDCG@k = sum over targets of [rank <= k] / log2(rank + 1), over the ideal: the same sum with the ranks 1, 2, ...,
    min(targets, k), `MISS` counted among the targets. With one target the ideal is 1. Ties are settled where ranks are
    made; `MISS` gains 0; no ranks give an empty array.

    Args:
        ranks: place of each user's targets, 1 is best, 0 for no target in that place, shape (U,) or (U, R).
        k: cutoff, from 1.
    Returns:
        Between 0 and 1 for each user, shape (U,).
    Raises:
        ValueError: if k < 1, or a user has no target or a rank below 1.
    Source:
        Jarvelin and Kekalainen (2002), Cumulated gain-based evaluation of IR techniques; the log2(rank + 1) discount
        of Burges et al. (2005), so that the first place counts 1 and the second less; `ndcg_cut` of trec_eval.
    """
    ranks_UR = check_ranks(ranks, k)
    # Ranks beyond k are replaced before the logarithm: MISS + 1 has no int64.
    places_UR = np.clip(ranks_UR, 1, k).astype(np.float64)
    gains_UR = np.where(hits(ranks_UR, k), 1.0 / np.log2(places_UR + 1.0), 0.0)
    best = np.cumsum(1.0 / np.log2(np.arange(1, min(ranks_UR.shape[1], k) + 1) + 1.0))
    ideal_U = best[np.minimum((ranks_UR > 0).sum(axis=1), k) - 1]
    gained: NDArray[np.float64] = gains_UR.sum(axis=1) / ideal_U
    return gained
