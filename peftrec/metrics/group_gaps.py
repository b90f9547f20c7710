"""Gaps between groups of users.

Shapes: U users, G groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.ratio import ratio


@dataclass(frozen=True, kw_only=True)
class GroupGaps:
    """What groups of users get of one metric.

    Attributes:
        gap: mean of the best group less that of the worst, from 0 (where lower is better, the other way round); NaN
            where fewer than two groups have a value.
        best: its name; None where no group has a value. The first one of several.
        worst: as `best`.
        means: of every group, by name; NaN where no user of it has a value.
        counts: users with a value of every group, by name.
    """

    gap: float
    best: str | None
    worst: str | None
    means: dict[str, float]
    counts: dict[str, int]


def group_gaps(
    values_U: NDArray[np.float64],
    group_U: NDArray[np.int64],
    names: Sequence[str],
    *,
    unknown: str | None = None,
    higher_is_better: bool = True,
) -> GroupGaps:
    """Compute the mean of a metric in each group of users, and how far the best group is from the worst.

    gap = max over groups of the mean - min over groups of the mean. Users whose value is NaN do not count. Users of
    group -1 (not known) do not count either, unless `unknown` names them: then they are one more group, the last.

    Args:
        values_U: metric of each user, shape (U,).
        group_U: group of each user, -1 where it is not known, shape (U,).
        names: of the groups, all different, G of them.
        unknown: name of the group of users whose group is not known; None leaves them out.
        higher_is_better: False for metrics such as `calibration`.
    Returns:
        Gap, best and worst group, and means and counts of all groups.
    Raises:
        ValueError: if values and groups have other shapes, a group has no name, a name is there twice, or a value is
            infinite.
    Source:
        Ekstrand et al. (2018), All The Cool Kids, How Do They Fit In?: differences of effectiveness between groups.
    """
    if values_U.ndim != 1 or group_U.shape != values_U.shape or not np.issubdtype(group_U.dtype, np.integer):
        raise ValueError(
            f"values and groups must have one shape (U,), groups integers; got {values_U.shape} and {group_U.shape} of "
            f"{group_U.dtype}"
        )
    labels = [*names, *([] if unknown is None else [unknown])]
    if len(set(labels)) < len(labels):
        raise ValueError(f"groups must have different names, got {', '.join(labels)}")
    wrong_U = (group_U < -1) | (group_U >= len(names))
    if wrong_U.any():
        row = int(np.argmax(wrong_U))
        raise ValueError(f"user {row} is of group {int(group_U[row])}; there are 0 to {len(names) - 1}, and -1")
    if np.isinf(values_U).any():
        raise ValueError(f"the value of user {int(np.argmax(np.isinf(values_U)))} is infinite")
    known_U = ~np.isnan(values_U) & ((group_U >= 0) | (unknown is not None))
    place_U = np.where(group_U >= 0, group_U, len(names))[known_U]
    counts_G = np.bincount(place_U, minlength=len(labels))
    sums_G = np.bincount(place_U, values_U[known_U], minlength=len(labels))
    means_G = ratio(sums_G, counts_G)
    best = worst = None
    gap = float("nan")
    if counts_G.any():
        high, low = int(np.nanargmax(means_G)), int(np.nanargmin(means_G))
        best, worst = (labels[high], labels[low]) if higher_is_better else (labels[low], labels[high])
        gap = float(means_G[high] - means_G[low]) if (counts_G > 0).sum() > 1 else gap
    return GroupGaps(
        gap=gap,
        best=best,
        worst=worst,
        means=dict(zip(labels, means_G.tolist(), strict=True)),
        counts=dict(zip(labels, counts_G.tolist(), strict=True)),
    )
