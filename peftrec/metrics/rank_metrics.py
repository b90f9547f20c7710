"""All rank metrics by name; a new one is its own file and one line here."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.hit_rate import hit_rate
from peftrec.metrics.mrr import mrr
from peftrec.metrics.ndcg import ndcg

RankMetric = Callable[[NDArray[np.int64], int], NDArray[np.float64]]

RANK_METRICS: Final[Mapping[str, RankMetric]] = {
    "hr": hit_rate,
    "ndcg": ndcg,
    "mrr": mrr,
}


def rank_metrics(ranks: NDArray[np.int64], ks: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """Compute every rank metric at every cutoff, per user.

    Keys are `<metric>@<k>`, such as `hr@10`, cutoff by cutoff in the order given. `MISS` gives 0 everywhere.

    Args:
        ranks: place of each user's target, 1 is best, shape (U,).
        ks: cutoffs, at least one, each from 1.
    Returns:
        One array of shape (U,) for each metric and cutoff.
    Raises:
        ValueError: if there is no cutoff, a cutoff is below 1, or a rank is below 1.
    """
    if not ks:
        raise ValueError("ks must name at least one cutoff, such as (10,)")
    return {f"{name}@{k}": metric(ranks, k) for k in ks for name, metric in RANK_METRICS.items()}
