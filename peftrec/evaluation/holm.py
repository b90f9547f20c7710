"""Several tests at once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjust p-values so that the chance of any false alarm among the tests stays below the level.

    With m tests sorted from small to large p: adjusted_(i) = max over j <= i of min(1, (m - j + 1) p_(j)). Reject where
    the adjusted value is at most the level; that holds however the tests depend on each other. One test keeps its
    p-value, equal p-values get equal adjusted ones, none gives none.

    Args:
        p_values: one a test, each from 0 to 1, in any order.
    Returns:
        Adjusted values in the same order, never below their p-values.
    Raises:
        ValueError: if a p-value is NaN or lies outside 0 to 1.
    Source:
        Holm (1979), A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"p-values must be one a test, got shape {values.shape}")
    wrong = ~((values >= 0.0) & (values <= 1.0))
    if wrong.any():
        raise ValueError(f"p-values lie from 0 to 1, got {values[wrong][0]} in row {int(np.argmax(wrong))}")
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * values[order]))
    return adjusted
