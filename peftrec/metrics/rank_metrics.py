"""All rank metrics by name; a new one is its own file and one line here."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.hit_rate import hit_rate
from peftrec.metrics.mean_average_precision import mean_average_precision
from peftrec.metrics.mrr import mrr
from peftrec.metrics.ndcg import ndcg
from peftrec.metrics.precision import precision
from peftrec.metrics.recall import recall

RankMetric = Callable[[NDArray[np.int64], int], NDArray[np.float64]]

RANK_METRICS: Final[Mapping[str, RankMetric]] = {
    "hr": hit_rate,
    "ndcg": ndcg,
    "mrr": mrr,
    "recall": recall,
    "precision": precision,
    "map": mean_average_precision,
}

DEFAULT_RANK_METRICS: Final = ("hr", "ndcg", "mrr")
"""What is computed unless others are named. With one target a user recall is hr, map is mrr, precision hr / k."""

_SAMPLED = re.compile(r"^sampled\d+_")


def rank_keys(keys: Iterable[str]) -> list[str]:
    """Return those keys (`hr@10`, `auc`, `sampled100_hr@10`) that are of metrics of ranks; the others are of lists."""
    return [key for key in keys if _SAMPLED.sub("", key).partition("@")[0] in (*RANK_METRICS, "auc")]


def rank_metrics(
    ranks: NDArray[np.int64], ks: Sequence[int], names: Sequence[str] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Compute rank metrics at every cutoff, per user.

    Keys are `<metric>@<k>`, such as `hr@10`, cutoff by cutoff in the order given. `MISS` gives 0 everywhere.

    Args:
        ranks: place of each user's targets, 1 is best, 0 for no target in that place, shape (U,) or (U, R).
        ks: cutoffs, at least one, each from 1.
        names: which of `RANK_METRICS`, in the order of the result; None: `DEFAULT_RANK_METRICS`.
    Returns:
        One array of shape (U,) for each metric and cutoff.
    Raises:
        ValueError: if there is no cutoff or no name, a cutoff is below 1, a name is not known, or a user has no target
            or a rank below 1.
    """
    if not ks:
        raise ValueError("ks must name at least one cutoff, such as (10,)")
    names = DEFAULT_RANK_METRICS if names is None else names
    if not names:
        raise ValueError(f"names must name at least one metric; there are {', '.join(RANK_METRICS)}")
    unknown = [name for name in names if name not in RANK_METRICS]
    if unknown:
        raise ValueError(f"there is no metric '{unknown[0]}'; there are {', '.join(RANK_METRICS)}")
    return {f"{name}@{k}": RANK_METRICS[name](ranks, k) for k in ks for name in names}
