"""Evaluations of the same cases, brought into one order.

Shapes: R evaluations, C cases, U users.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.evaluation.evaluation import Evaluation


def aligned(
    evaluations: Sequence[Evaluation], metric: str, names: Sequence[str]
) -> tuple[NDArray[np.float64], int, int]:
    """Return a metric of several evaluations, a row each, users in one order.

    Where the metric is NaN in one of them, the case is left out of all; a user counts with the mean over the cases that
    are left, and is left out where there is none.

    Args:
        evaluations: of the same users and targets under the same protocol, in any order.
        metric: key of a metric that all hold, such as `ndcg@10`.
        names: what each is called in messages.
    Returns:
        Values (R, U), the number of users left out, and the number of cases left out.
    Raises:
        InputError: if users, targets or protocol differ, one lacks the metric, or it is defined for no user in all.
    """
    for name, evaluation in zip(names, evaluations, strict=True):
        if metric not in evaluation.per_user:
            raise InputError(f"the {name} evaluation has no {metric!r}; it has {', '.join(evaluation.per_user)}")
    first = evaluations[0]
    order_C = _order(first)
    orders = [order_C]
    for name, evaluation in zip(names[1:], evaluations[1:], strict=True):
        other_C = _order(evaluation)
        _check_same((names[0], first, order_C), (name, evaluation, other_C))
        orders.append(other_C)
    values_RC = np.stack([one.per_user[metric][order] for one, order in zip(evaluations, orders, strict=True)])
    defined_C = ~np.isnan(values_RC).any(axis=0)
    if not defined_C.any():
        raise InputError(
            f"{metric} is defined for no user in all of: {', '.join(names)}; there is nothing to test, so choose other "
            f"metrics"
        )
    users, row_C = np.unique(first.users[order_C][defined_C], return_inverse=True)
    left_out = first.num_users - len(users), int((~defined_C).sum())
    counts_U = np.bincount(row_C)
    means_RU = np.stack([np.bincount(row_C, values_C) / counts_U for values_C in values_RC[:, defined_C]])
    return means_RU, *left_out


def _order(evaluation: Evaluation) -> NDArray[np.int64]:
    """By user, then target; what a user has twice stays in order of time."""
    return np.lexsort((evaluation.targets, evaluation.users))


def _check_same(
    one: tuple[str, Evaluation, NDArray[np.int64]], other: tuple[str, Evaluation, NDArray[np.int64]]
) -> None:
    (name, first, order_C), (other_name, second, other_C) = one, other
    both = f"of {name} and {other_name}"
    strangers = np.setxor1d(first.users, second.users)
    if len(strangers):
        raise InputError(
            f"a paired test needs the same users: {len(strangers)} are in one evaluation only {both} "
            f"({first.num_users} users against {second.num_users})"
        )
    if first.num_cases != second.num_cases:
        raise InputError(
            f"a paired test needs the same targets: there are {first.num_cases} against {second.num_cases} {both}"
        )
    apart_C = (first.targets[order_C] != second.targets[other_C]) | (first.users[order_C] != second.users[other_C])
    if apart_C.any():
        num_users = len(np.unique(first.users[order_C][apart_C]))
        raise InputError(
            f"a paired test needs the same targets: they differ for {num_users} of {first.num_users} users {both}"
        )
    if first.protocol() != second.protocol():
        raise InputError(
            f"a paired test needs the same protocol, got {first.protocol()} against {second.protocol()} {both}"
        )
