"""Curves of an evaluation: a metric over the popularity of the target, and how lists spread over items.

Shapes: C cases, U users, K length of a list, N items of the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftrec.evaluation.evaluation import Evaluation

_POINTS = 100


def popularity_curve(
    found: Mapping[str, Evaluation], item_counts_N: NDArray[np.int64], metric: str
) -> list[dict[str, Any]]:
    """Measure models by how often their targets occur in training.

    Bins are 0, 1, 2 to 3, 4 to 7, and so on, doubling.

    Args:
        found: evaluations of the same cases in the same order, by what they are called.
        item_counts_N: training events of every item.
        metric: key of the metric.
    Returns:
        For each bin that has cases `low`, `high` (the last count in it), `num_cases`, and `rows`: for each model
        `value`, `low` and `high`, the ends of its interval over users.
    """
    first = next(iter(found.values()))
    counts_C = item_counts_N[first.targets]
    bin_C = np.where(counts_C > 0, np.floor(np.log2(np.maximum(counts_C, 1))).astype(np.int64) + 1, 0)
    bins = []
    for number in np.unique(bin_C):
        rows_C = bin_C == number
        rows = {}
        for name, evaluation in found.items():
            taken = evaluation.only([metric]).take(rows_C)
            mean, (low, high) = taken.summary()[metric], taken.intervals()[metric]
            rows[name] = {"value": mean, "low": low, "high": high}
        low_count = 0 if number == 0 else 2 ** (int(number) - 1)
        bins.append(
            {
                "low": low_count,
                "high": max(0, 2 ** int(number) - 1),
                "num_cases": int(rows_C.sum()),
                "rows": rows,
            }
        )
    return bins


def exposure_curve(lists_UK: NDArray[np.int64], num_items: int) -> list[tuple[float, float]]:
    """Tell which share of all places in lists the most shown share of items has.

    Items that no list shows count too. Where there is nothing in the lists, the curve is flat at 0.

    Args:
        lists_UK: items, -1 for places that a short list leaves empty.
        num_items: N.
    Returns:
        Points (share of items, share of places), from (0, 0) to (1, 1), denser where the curve is steep.
    Source:
        Lorenz (1905), Methods of measuring the concentration of wealth; here the most shown first.
    """
    shown = np.bincount(lists_UK[lists_UK >= 0], minlength=num_items)
    shares = np.concatenate([[0.0], np.cumsum(np.sort(shown)[::-1])]) / max(1, int(shown.sum()))
    places = np.unique(np.round(num_items * np.linspace(0, 1, _POINTS + 1) ** 3).astype(np.int64))
    return [(float(place / num_items), float(shares[place])) for place in places]
