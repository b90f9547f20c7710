"""Runs evaluated on the same users, compared user by user.

Shapes: A and B runs of the first and the second recipe, U users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from peftrec.evaluation.alignment import aligned
from peftrec.evaluation.bootstrap import BLOCK_DRAWS, check_resampling, crossed_interval
from peftrec.evaluation.evaluation import Evaluation
from peftrec.evaluation.seed_spread import SeedSpread, seed_spread, varying_means

# Of a value's own size: what means over runs may differ by though they are equal. Metrics differ by far more.
_ROUNDING: Final = 1e-12


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """What `paired_test` or `arm_test` found.

    Attributes:
        metric: key of the metric compared, such as `ndcg@10`.
        first: mean over users of the first.
        second: mean over users of the second.
        difference: first minus second; above 0 the first is better where higher is (`metrics.higher_is_better`).
        low: low end of the interval of the difference.
        high: high end of it.
        p_value: two-sided, of the sign-flip permutation test; where there are several seeds it holds for these alone.
        level: level of the interval.
        num_users: users compared.
        num_left_out: users for whom the metric is defined in no case of all runs; not compared.
        num_cases_left_out: cases in which the metric is undefined in one run or more.
        seeds: how the difference varies with seeds; None where each side is a single run.
    """

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    level: float
    num_users: int
    num_left_out: int = 0
    num_cases_left_out: int = 0
    seeds: SeedSpread | None = None


def paired_test(
    a: Evaluation, b: Evaluation, metric: str, *, level: float = 0.95, num_resamples: int = 10_000, seed: int = 0
) -> PairedTest:
    """Test whether two models differ in a metric on the same users.

    The statistic is the mean of the users' differences a - b. The p-value is two-sided, by random sign flips of the
    differences, (1 + #{|flipped| >= |observed|}) / (1 + num_resamples): never 0, and 1 where no user differs. The
    interval is `bootstrap_interval` of the differences. Users may stand in another order; cases in which the metric is
    NaN in one of both are left out. Deterministic by seed.

    Args:
        a: the first evaluation.
        b: the second, of the same users and targets under the same protocol.
        metric: key of a metric that both hold, such as `ndcg@10`.
        level: level of the interval, between 0 and 1.
        num_resamples: sign flips and bootstrap samples each, from 1.
        seed: seed of both.
    Returns:
        Difference, interval and p-value.
    Raises:
        InputError: if users, targets or protocol differ, an evaluation lacks the metric, or no user has it in both.
        ValueError: if a value is infinite, or level or num_resamples is out of range.
    Source:
        Fisher's randomisation test as in Smucker et al. (2007), A comparison of statistical significance tests for
        information retrieval evaluation; +1 smoothing of Phipson and Smyth (2010).
    """
    return arm_test([a], [b], metric, level=level, num_resamples=num_resamples, seed=seed)


def arm_test(
    first: Sequence[Evaluation],
    second: Sequence[Evaluation],
    metric: str,
    *,
    paired_seeds: bool = False,
    names: Sequence[str] | None = None,
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> PairedTest:
    """Test whether two recipes differ in a metric on the same users, each with one run or several seeds.

    A user's value is the mean over a recipe's runs, and the statistic the mean over users of the differences of these.
    Two values of a user that are equal but for rounding (one in 10^12) do not differ.
    The p-value is that of `paired_test` on them: it holds for the runs at hand and says nothing of other seeds. The
    interval is `crossed_interval`, of users and seeds both, so that it may hold 0 where p is small.

    Args:
        first: the runs of the first recipe.
        second: of the second, all of the same users and targets under the same protocol.
        metric: key of a metric that all hold.
        paired_seeds: whether run i of both was trained with the same seed; of single runs it says nothing.
        names: what each run is called in messages, those of the first before those of the second.
        level: level of the interval, between 0 and 1.
        num_resamples: sign flips and bootstrap samples each, from 1.
        seed: seed of both.
    Returns:
        Difference, interval, p-value, and the spread over seeds where there are several.
    Raises:
        InputError: as `paired_test`, of any two runs.
        ValueError: if paired runs are not as many, a value is infinite, or level or num_resamples is out of range.
    """
    single = len(first) == len(second) == 1
    names = names or (["first", "second"] if single else [f"run {n + 1}" for n in range(len(first) + len(second))])
    values_RU, num_left_out, num_cases_left_out = aligned([*first, *second], metric, names)
    first_U, second_U = values_RU[: len(first)].mean(axis=0), values_RU[len(first) :].mean(axis=0)
    check_resampling(first_U - second_U, level, num_resamples)
    differences_U = _differences(first_U, second_U)
    means_A, means_B = np.split(values_RU.mean(axis=1), [len(first)])
    spread = None if single else seed_spread(means_A, means_B, paired=paired_seeds)
    varying = varying_means(means_A, means_B, paired_seeds)
    low, high = crossed_interval(differences_U, varying, level=level, num_resamples=num_resamples, seed=seed)
    return PairedTest(
        metric=metric,
        first=float(first_U.mean()),
        second=float(second_U.mean()),
        difference=float(differences_U.mean()),
        low=low,
        high=high,
        p_value=_sign_flip_p_value(differences_U, num_resamples, seed),
        level=level,
        num_users=len(differences_U),
        num_left_out=num_left_out,
        num_cases_left_out=num_cases_left_out,
        seeds=spread,
    )


def _differences(first_U: NDArray[np.float64], second_U: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract; 0 where two means are the same on paper and were rounded in another order of summing."""
    differences_U = first_U - second_U
    rounding_U = _ROUNDING * np.maximum(np.abs(first_U), np.abs(second_U))
    return np.where(np.abs(differences_U) <= rounding_U, 0.0, differences_U)


def _sign_flip_p_value(differences: NDArray[np.float64], num_resamples: int, seed: int) -> float:
    """Share of random sign patterns under which the sum of differences is as far from 0 as it is.

    Users without a difference never matter, and with hits most are of that kind.
    """
    moved = differences[differences != 0.0]
    if not len(moved):
        return 1.0
    total = float(moved.sum())
    # Sums that are equal on paper differ in the last digits.
    observed = abs(total) * (1.0 - 1e-9)
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK_DRAWS // len(moved))
    num_extreme = 0
    for start in range(0, num_resamples, block):
        shape = (min(block, num_resamples - start), -(-len(moved) // 8))
        pluses = np.unpackbits(rng.integers(0, 256, size=shape, dtype=np.uint8), axis=1, count=len(moved))
        # Pluses minus minuses is twice the pluses less the whole.
        sums = 2.0 * (pluses.astype(np.float64) @ moved) - total
        num_extreme += int((np.abs(sums) >= observed).sum())
    return (1 + num_extreme) / (1 + num_resamples)
