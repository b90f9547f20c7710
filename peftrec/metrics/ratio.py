"""Ratios that are not defined everywhere."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def ratio(numerators: NDArray[Any], denominators: NDArray[Any]) -> NDArray[np.float64]:
    """Divide, with NaN where the denominator is not above 0.

    Args:
        numerators: any shape.
        denominators: the same shape.
    Returns:
        The same shape.
    """
    ratios = np.full(numerators.shape, np.nan)
    np.divide(numerators, denominators, out=ratios, where=denominators > 0)
    return ratios
