"""How much of the catalogue lists show."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.exposure_counts import exposure_counts


def catalogue_coverage(items: NDArray[np.int64], num_items: int) -> float:
    """Compute which share of the catalogue is in any list.

    coverage = |items in lists| / N. 0 where all lists are empty.

    Args:
        items: item indexes, one list a user, -1 for places without an item, shape (U, K).
        num_items: size N of the catalogue, from 1.
    Returns:
        From 0 to 1.
    Raises:
        ValueError: if a list holds what is no item or an item twice, or num_items is below 1.
    Source:
        Ge, Delgado-Battenfeld and Jannach (2010), Beyond Accuracy: Evaluating Recommender Systems by Coverage and
        Serendipity, section 2; CatalogCoverage of RecTools with `normalize`.
    """
    return float((exposure_counts(items, num_items) > 0).mean())
