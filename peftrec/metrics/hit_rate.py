"""Hit rate at k."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.rank import check_ranks


def hit_rate(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Tell for each user whether the target is among the first k.

    HR@k = [rank <= k]. Ties are settled where ranks are made; `MISS` gives 0; no ranks give an empty array.
    With one target per user this is also recall@k.

    Args:
        ranks: place of each user's target, 1 is best, shape (U,).
        k: cutoff, from 1.
    Returns:
        0.0 or 1.0 for each user, shape (U,).
    Raises:
        ValueError: if k < 1 or a rank is below 1.
    Source:
        Deshpande and Karypis (2004), Item-based top-N recommendation algorithms, section 5.1.
    """
    check_ranks(ranks, k)
    return (ranks <= k).astype(np.float64)
