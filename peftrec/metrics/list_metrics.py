"""All list metrics by name; a new one is its own file and one line here."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.list_facts import ListFacts


def list_metrics(
    lists: NDArray[np.int64], facts: ListFacts, ks: Sequence[int], names: Sequence[str] | None = None
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Compute every list metric whose facts are known, at every cutoff.

    Keys of values per user are `novelty@k`, `popularity_lift@k`, `diversity@k`, `category_diversity@k`,
    `serendipity@k` and `calibration@k`; keys of values of all lists together are `coverage@k` and `gini@k`. A list is
    cut at k. A value is NaN where the metric is not defined for that user; means are over the others.

    Args:
        lists: item indexes, best first, one list a user, -1 for places without an item, shape (U, K).
        facts: of the catalogue and of the same users.
        ks: cutoffs, at least one, each from 1 to K.
        names: which metrics, without cutoff; None: all whose facts are there.
    Returns:
        Values per user, each of shape (U,), and values of all lists together.
    Raises:
        ValueError: if lists or facts have another shape or hold what is out of range, if there is no cutoff or one is
            beyond K, or if a metric is named that is not known or whose facts are missing.
    """
    raise NotImplementedError
