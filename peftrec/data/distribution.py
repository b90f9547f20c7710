"""How a quantity is spread: percentiles, and bins for a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (0, 5, 25, 50, 75, 95, 99, 100)
_BINS = 36


@dataclass(frozen=True)
class Distribution:
    """A quantity over many things.

    Args:
        name: what it is, such as `events a user`.
        number: how many things have it.
        mean: over them.
        percentiles: by percent; of two in the middle the lower, so that each is a value that occurs.
        edges: of the bins: bin i holds the values from `edges[i]` to below `edges[i + 1]`.
        counts: how many values each bin holds.
    """

    name: str
    number: int
    mean: float
    percentiles: dict[int, int]
    edges: tuple[float, ...]
    counts: tuple[int, ...]


def distribution(name: str, values: NDArray[np.int64]) -> Distribution:
    """Percentiles and bins of whole numbers from 0.

    Bins are equally wide where the largest value is no more than twenty times the median, else each is wider than the
    one before it by the same factor.

    Args:
        name: what they are.
        values: at least one.
    """
    assert len(values)
    found = np.percentile(values, PERCENTILES, method="inverted_cdf")
    low, middle, high = int(values.min()), int(np.percentile(values, 50, method="inverted_cdf")), int(values.max())
    edges = _edges(low, high, even=high <= 20 * max(middle, 1))
    counts, _ = np.histogram(values, edges)
    return Distribution(
        name=name,
        number=len(values),
        mean=float(values.mean()),
        percentiles={percent: int(value) for percent, value in zip(PERCENTILES, found, strict=True)},
        edges=tuple(float(edge) for edge in edges),
        counts=tuple(int(count) for count in counts),
    )


def _edges(low: int, high: int, *, even: bool) -> NDArray[np.float64]:
    """Whole numbers, so that no bin is empty for lying between two of them; the last lies beyond the largest value."""
    if high - low < _BINS:
        return np.arange(low, high + 2, dtype=np.float64)
    spaced = np.linspace(low, high + 1, _BINS + 1) if even else np.geomspace(low + 1, high + 2, _BINS + 1) - 1
    return np.unique(np.round(spaced))
