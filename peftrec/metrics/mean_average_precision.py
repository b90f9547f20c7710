"""Mean average precision at k."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.rank import check_ranks, order_targets


def mean_average_precision(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Compute each user's average precision, cut at k; its mean over users is MAP@k.

    AP@k = sum over targets with rank r <= k of |targets with rank <= r| / r, over |targets|. The denominator counts
    all targets of the user, `MISS` too, and not min(k, targets). With one target per user it equals RR@k, so MAP@k is
    MRR@k. Ties are settled where ranks are made; no ranks give an empty array.

    Args:
        ranks: place of each user's targets, 1 is best, 0 for no target in that place, shape (U,) or (U, R).
        k: cutoff, from 1.
    Returns:
        Between 0 and 1 for each user, shape (U,).
    Raises:
        ValueError: if k < 1, or a user has no target or a rank below 1.
    Source:
        Buckley and Voorhees (2000), Evaluating evaluation measure stability, section 2; `map_cut` of trec_eval.
    """
    ranks_UR = check_ranks(ranks, k)
    ordered_UR, upto_UR = order_targets(ranks_UR)
    precisions_UR = np.where(ordered_UR <= k, upto_UR / ordered_UR.astype(np.float64), 0.0)
    means: NDArray[np.float64] = precisions_UR.sum(axis=1) / (ranks_UR > 0).sum(axis=1)
    return means
