"""Hit rate at k."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.rank import check_ranks, hits


def hit_rate(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Tell for each user whether any target is among the first k.

    HR@k = [min rank <= k]. Ties are settled where ranks are made; `MISS` gives 0; no ranks give an empty array.
    With one target per user this is also recall@k.

    Args:
        ranks: place of each user's targets, 1 is best, 0 for no target in that place, shape (U,) or (U, R).
        k: cutoff, from 1.
    Returns:
        0.0 or 1.0 for each user, shape (U,).
    Raises:
        ValueError: if k < 1, or a user has no target or a rank below 1.
    Source:
        Deshpande and Karypis (2004), Item-based top-N recommendation algorithms, section 5.1; `success` of trec_eval.
    """
    hit_U: NDArray[np.bool_] = np.any(hits(check_ranks(ranks, k), k), axis=1)
    return hit_U.astype(np.float64)
