"""Two evaluations of the same users, compared user by user."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.evaluation.bootstrap import BLOCK_DRAWS, bootstrap_interval, check_resampling
from peftrec.evaluation.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """What `paired_test` found.

    Attributes:
        metric: key of the metric compared, such as `ndcg@10`.
        first: mean over users of the first.
        second: mean over users of the second.
        difference: first minus second; above 0 the first is better.
        low: low end of the bootstrap interval of the difference.
        high: high end of it.
        p_value: two-sided, of the sign-flip permutation test.
        level: level of the interval.
        num_users: users compared.
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


def paired_test(
    a: Evaluation, b: Evaluation, metric: str, *, level: float = 0.95, num_resamples: int = 10_000, seed: int = 0
) -> PairedTest:
    """Test whether two models differ in a metric on the same users.

    The statistic is the mean of the users' differences a - b. The p-value is two-sided, by random sign flips of the
    differences, (1 + #{|flipped| >= |observed|}) / (1 + num_resamples): never 0, and 1 where no user differs. The
    interval is `bootstrap_interval` of the differences. Users may stand in another order. Deterministic by seed.

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
        InputError: if users, targets or protocol differ, or an evaluation lacks the metric.
        ValueError: if level or num_resamples is out of range.
    Source:
        Fisher's randomisation test as in Smucker et al. (2007), A comparison of statistical significance tests for
        information retrieval evaluation; +1 smoothing of Phipson and Smyth (2010).
    """
    first, second = _aligned(a, b, metric)
    differences = first - second
    check_resampling(differences, level, num_resamples)
    low, high = bootstrap_interval(differences, level=level, num_resamples=num_resamples, seed=seed)
    return PairedTest(
        metric=metric,
        first=float(first.mean()),
        second=float(second.mean()),
        difference=float(differences.mean()),
        low=low,
        high=high,
        p_value=_sign_flip_p_value(differences, num_resamples, seed),
        level=level,
        num_users=len(differences),
    )


def _aligned(a: Evaluation, b: Evaluation, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a metric of two evaluations, users in one order."""
    for name, evaluation in (("first", a), ("second", b)):
        if metric not in evaluation.per_user:
            raise InputError(f"the {name} evaluation has no {metric!r}; it has {', '.join(evaluation.per_user)}")
    strangers = np.setxor1d(a.users, b.users)
    if len(strangers):
        raise InputError(
            f"a paired test needs the same users: {len(strangers)} are in one evaluation only "
            f"({len(a.users)} users against {len(b.users)})"
        )
    if a.num_cases != b.num_cases:
        raise InputError(f"a paired test needs the same targets: there are {a.num_cases} against {b.num_cases}")
    # Stable: the targets of one user stay in order of time.
    first, second = _ordered(a, metric), _ordered(b, metric)
    num_other = int((first.targets != second.targets).sum())
    if num_other:
        raise InputError(f"a paired test needs the same targets: they differ for {num_other} of {len(a.users)} users")
    if a.protocol() != b.protocol():
        raise InputError(f"a paired test needs the same protocol, got {a.protocol()} against {b.protocol()}")
    return first.user_means()[metric], second.user_means()[metric]


def _ordered(evaluation: Evaluation, metric: str) -> Evaluation:
    """Return one metric, users ascending."""
    order = np.argsort(evaluation.users, kind="stable")
    return replace(
        evaluation,
        users=evaluation.users[order],
        targets=evaluation.targets[order],
        ranks=evaluation.ranks[order],
        per_user={metric: evaluation.per_user[metric][order]},
    )


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
