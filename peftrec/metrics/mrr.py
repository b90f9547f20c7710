"""Mean reciprocal rank at k."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.rank import check_ranks


def mrr(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Compute each user's reciprocal rank, cut at k; its mean over users is MRR@k.

    RR@k = [rank <= k] / rank. Ties are settled where ranks are made; `MISS` gives 0; no ranks give an empty array.

    Args:
        ranks: place of each user's target, 1 is best, shape (U,).
        k: cutoff, from 1.
    Returns:
        Between 0 and 1 for each user, shape (U,).
    Raises:
        ValueError: if k < 1 or a rank is below 1.
    Source:
        Voorhees (1999), The TREC-8 question answering track report; cut at k as in later recommender papers.
    """
    check_ranks(ranks, k)
    return np.where(ranks <= k, 1.0 / ranks.astype(np.float64), 0.0)
