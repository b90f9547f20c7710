"""Intervals by resampling users, and users and seeds together.

Shapes: U users, M sums of each, S runs of one recipe that differ in their seeds, R resamples.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Draws held at once: 8 bytes each, and up to three arrays of them live together.
BLOCK_DRAWS = 4_000_000
# Draws of seeds for each resample of users: tails of Student's t with one or two degrees of freedom are long.
_SEED_DRAWS = 16


def bootstrap_interval(
    values: NDArray[np.float64], *, level: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Compute a percentile bootstrap interval of the mean over users.

    The (1 - level) / 2 and (1 + level) / 2 quantiles of the means of `num_resamples` samples of U users, drawn with
    replacement. Equal values give an interval of no width. Deterministic by seed.

    Args:
        values: one value per user, shape (U,).
        level: share of resampled means inside, between 0 and 1.
        num_resamples: from 1.
        seed: seed of the draws.
    Returns:
        The low and the high end.
    Raises:
        ValueError: if there are no values, one is NaN or infinite, or level or num_resamples is out of range.
    Source:
        Efron (1979), Bootstrap methods: another look at the jackknife; percentile interval.
    """
    return crossed_interval(values, (), level=level, num_resamples=num_resamples, seed=seed)


def crossed_interval(
    values: NDArray[np.float64],
    seed_means: Sequence[NDArray[np.float64]],
    *,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Compute an interval of a mean over users and seeds, both of which are samples.

    The quantiles of mean(users drawn with replacement) + sum over g of t_(S_g - 1) * s_g / sqrt(S_g), with s_g the
    standard deviation over the S_g seeds of group g and t of Student's distribution. Users are resampled as in
    `bootstrap_interval`, which this is where no group is given. Seeds are few, and resampling them like users (Owen's
    pigeonhole bootstrap) falls short: with three its ends are the worst and the best, and its variance is a third too
    small; so their part is Student's, exact for normal effects of seeds. What varies with user and seed together
    is counted twice (by Owen three times), so that the interval is conservative where seeds have little effect.

    Args:
        values: one value per user, the mean over seeds, shape (U,).
        seed_means: for each independent group of runs the mean over users of each, shape (S_g,) with S_g from 2.
        level: share of the draws inside, between 0 and 1.
        num_resamples: from 1; each is combined with 16 draws of the seeds.
        seed: seed of the draws.
    Returns:
        The low and the high end.
    Raises:
        ValueError: if a group has fewer than two seeds, a value is NaN or infinite, or a setting is out of range.
    Source:
        Owen (2007), The pigeonhole bootstrap, for the model of crossed effects; Student (1908), The probable error of a
        mean, for few seeds.
    """
    check_resampling(values, level, num_resamples)
    rng = np.random.default_rng(seed)
    means_R = _resampled_means(values, num_resamples, rng)
    draws_DR = np.tile(means_R, (_SEED_DRAWS if seed_means else 1, 1))
    for means_S in seed_means:
        if means_S.ndim != 1 or len(means_S) < 2 or not np.isfinite(means_S).all():
            raise ValueError(f"a group must have two seeds or more, each with a finite mean, got {means_S}")
        error = means_S.std(ddof=1) / np.sqrt(len(means_S))
        draws_DR += error * rng.standard_t(len(means_S) - 1, size=draws_DR.shape)
    low, high = np.quantile(draws_DR, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ratio_intervals(
    numerators: Sequence[NDArray[np.float64]],
    denominators_U: NDArray[np.float64],
    *,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> list[tuple[float, float]]:
    """Compute percentile bootstrap intervals of ratios of sums over users, such as weighted means.

    Each sample of U users, drawn with replacement, gives the sum of their numerators over that of their denominators;
    all ratios are of the same samples. Deterministic by seed.

    Args:
        numerators: of each ratio one a user, such as weight times value, shape (U,).
        denominators_U: of each user, such as the weight; from 0, not all 0.
        level: share of resampled ratios inside, between 0 and 1.
        num_resamples: from 1; samples in which nobody has weight are left out.
        seed: seed of the draws.
    Returns:
        The low and the high end of each ratio.
    Raises:
        ValueError: if shapes differ, a value is NaN or infinite, denominators are below 0 or all 0, or a setting is out
            of range.
    """
    for values_U in (denominators_U, *numerators):
        check_resampling(values_U, level, num_resamples)
        if values_U.shape != denominators_U.shape:
            raise ValueError(
                f"numerators must be one a denominator, got shape {values_U.shape} for {len(denominators_U)}"
            )
    if denominators_U.min() < 0 or denominators_U.max() == 0:
        raise ValueError(f"denominators must be from 0 and not all 0, got {denominators_U.min()}")
    sums_UM = np.stack([denominators_U, *numerators], axis=1)
    totals_RM = _resampled_totals(sums_UM, num_resamples, np.random.default_rng(seed))
    weighed_RM = totals_RM[totals_RM[:, 0] > 0]
    ratios_RM = weighed_RM[:, 1:] / weighed_RM[:, :1]
    ends_M2 = np.quantile(ratios_RM, [(1 - level) / 2, (1 + level) / 2], axis=0).T
    return [(float(low), float(high)) for low, high in ends_M2]


def _resampled_means(values: NDArray[np.float64], num_resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw users with replacement, and take each sample's mean."""
    means_R: NDArray[np.float64] = _resampled_totals(values[:, None], num_resamples, rng)[:, 0] / len(values)
    return means_R


def _resampled_totals(
    sums_UM: NDArray[np.float64], num_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw users with replacement, block by block, and add up their rows, shape (R, M).

    A total depends only on how often each distinct row is drawn. Rank metrics have few (k + 1 of them), so those counts
    are drawn instead of users: the same distribution, a hundred times faster. Where most rows are distinct, users are
    drawn.

    Args:
        sums_UM: what users have, a row each.
        num_resamples: R.
        rng: of the draws.
    """
    if sums_UM.shape[1] == 1:  # many times faster than by rows
        distinct, counts_D = np.unique(sums_UM[:, 0], return_counts=True)
        rows_DM = distinct[:, None]
    else:
        rows_DM, counts_D = np.unique(sums_UM, axis=0, return_counts=True)
    few, num_users = len(rows_DM) * 8 <= len(sums_UM), len(sums_UM)
    block = max(1, BLOCK_DRAWS // (len(rows_DM) if few else num_users))
    totals_RM = np.empty((num_resamples, sums_UM.shape[1]))
    for start in range(0, num_resamples, block):
        stop = min(start + block, num_resamples)
        if few:
            draws = rng.multinomial(num_users, counts_D / num_users, size=stop - start)
            totals_RM[start:stop] = draws @ rows_DM
        else:
            drawn = rng.integers(0, num_users, size=(stop - start, num_users))
            # A column at a time: less memory.
            for column, sums_U in enumerate(sums_UM.T):
                totals_RM[start:stop, column] = sums_U[drawn].sum(axis=1)
    return totals_RM


def check_resampling(values: NDArray[np.float64], level: float, num_resamples: int) -> None:
    """Refuse values and settings that cannot be resampled.

    Args:
        values: one value per user.
        level: share of resampled means inside an interval.
        num_resamples: number of resamples.
    Raises:
        ValueError: if there are no values, one is NaN or infinite, or level or num_resamples is out of range.
    """
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"values must be one per user, at least one, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(
            f"values must be finite, got {values[~np.isfinite(values)][0]} in row "
            f"{int(np.argmax(~np.isfinite(values)))}"
        )
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, such as 0.95, got {level}")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be from 1, got {num_resamples}")
