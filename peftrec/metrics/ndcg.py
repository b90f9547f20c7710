"""Normalised discounted cumulative gain at k."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.rank import check_ranks


def ndcg(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Compute each user's normalised discounted cumulative gain at k, for one relevant item.

    NDCG@k = [rank <= k] / log2(rank + 1); the ideal gain is 1, since one item is relevant. Ties are settled where
    ranks are made; `MISS` gives 0; no ranks give an empty array.

    Args:
        ranks: place of each user's target, 1 is best, shape (U,).
        k: cutoff, from 1.
    Returns:
        Between 0 and 1 for each user, shape (U,).
    Raises:
        ValueError: if k < 1 or a rank is below 1.
    Source:
        Jarvelin and Kekalainen (2002), Cumulated gain-based evaluation of IR techniques; the log2(rank + 1) discount
        of Burges et al. (2005), so that the first place counts 1 and the second less.
    """
    check_ranks(ranks, k)
    # Ranks beyond k are replaced before the logarithm: MISS + 1 has no int64.
    places = np.minimum(ranks, k).astype(np.float64)
    return np.where(ranks <= k, 1.0 / np.log2(places + 1.0), 0.0)
