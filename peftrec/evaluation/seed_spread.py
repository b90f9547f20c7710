"""What runs of one recipe with several seeds say of a difference between two recipes.

Shapes: A and B runs of the first and the second recipe, P pairs of them, S runs, U users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class SeedSpread:
    """How a mean difference varies from seed to seed.

    Attributes:
        num_first: runs of the first recipe.
        num_second: runs of the second.
        paired: whether the run of each seed was compared with the other recipe's run of that seed; otherwise each run
            of the first was compared with each of the second.
        num_pairs: pairs compared.
        low: the least mean difference of a pair.
        high: the largest.
        deviation: standard deviation of the mean difference that one more pair of runs would give: over the seeds where
            they are paired, otherwise the root of the sum of both recipes' variances over their seeds. A recipe with a
            single run adds nothing, since it tells nothing of its other seeds.
        num_agree: pairs whose difference has the sign of the mean difference; 0 where that is 0.
    """

    num_first: int
    num_second: int
    paired: bool
    num_pairs: int
    low: float
    high: float
    deviation: float
    num_agree: int


def seed_spread(first_A: NDArray[np.float64], second_B: NDArray[np.float64], *, paired: bool) -> SeedSpread:
    """Describe the differences of runs' means.

    Args:
        first_A: the mean over users of each run of the first recipe.
        second_B: of the second; in the order of the first's seeds where they are paired.
        paired: whether run i of one belongs to run i of the other.
    Returns:
        Their spread.
    Raises:
        ValueError: if paired runs are not as many, or a recipe has none.
    """
    if not len(first_A) or not len(second_B):
        raise ValueError("each recipe needs one run or more")
    if paired and len(first_A) != len(second_B):
        raise ValueError(f"paired runs must be as many, got {len(first_A)} and {len(second_B)}")
    differences_P = first_A - second_B if paired else np.subtract.outer(first_A, second_B).ravel()
    mean = float(first_A.mean() - second_B.mean())
    return SeedSpread(
        num_first=len(first_A),
        num_second=len(second_B),
        paired=paired,
        num_pairs=len(differences_P),
        low=float(differences_P.min()),
        high=float(differences_P.max()),
        deviation=float(np.sqrt(sum(varying.var(ddof=1) for varying in varying_means(first_A, second_B, paired)))),
        num_agree=int((differences_P * mean > 0).sum()),
    )


def varying_means(
    first_A: NDArray[np.float64], second_B: NDArray[np.float64], paired: bool
) -> list[NDArray[np.float64]]:
    """Return what varies with seeds, independently of each other: the differences where paired, else each recipe's.

    Args:
        first_A: and `second_B`, `paired`: as in `seed_spread`.
    Returns:
        Arrays of two means or more; a recipe with a single run has none.
    """
    groups = [first_A - second_B] if paired else [first_A, second_B]
    return [means_S for means_S in groups if len(means_S) > 1]
