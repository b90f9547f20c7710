"""Ranks: what every rank metric takes, checked in one place.

Shapes: U users, R places for the relevant items of one user.
"""

import numpy as np
from numpy.typing import NDArray

MISS: int = int(np.iinfo(np.int64).max)
"""The rank of a target that cannot be recommended: worse than any place, 0 in every metric."""


def check_cutoff(k: int) -> None:
    """Refuse a cutoff that is not a whole number from 1.

    Raises:
        ValueError: with the value.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k must be a whole number from 1, got {k!r}")


def check_ranks(ranks: NDArray[np.int64], k: int = 1) -> NDArray[np.int64]:
    """Refuse what no rank metric is defined for, and give one row a user.

    Ranks are whole numbers from 1 (best) upwards, `MISS` included, of one list a user, ties against the model: items
    that tie share the worst place of their tie, so m targets that share a place need m places. 0 stands for no
    target in that place, wherever in the row. No users are allowed; a user without any target is not.

    Args:
        ranks: place of each user's targets, shape (U,) or (U, R).
        k: cutoff, a whole number from 1.
    Returns:
        The same ranks, shape (U, 1) or (U, R).
    Raises:
        ValueError: if k < 1 or not whole, if ranks are not integers of one or two dimensions, or if a row has no
            target, a rank below 1, or ranks that no list can have; with the row.
    """
    check_cutoff(k)
    if ranks.ndim not in (1, 2) or not np.issubdtype(ranks.dtype, np.integer):
        raise ValueError(f"ranks must be integers of shape (U,) or (U, R), got shape {ranks.shape} of {ranks.dtype}")
    if ranks.ndim == 1:
        if ranks.size and int(ranks.min()) < 1:
            row = int(np.argmax(ranks < 1))
            raise ValueError(f"ranks start at 1 (best), got {int(ranks[row])} in row {row}")
        return ranks[:, None]
    if ranks.size and int(ranks.min()) < 0:
        row, place = np.argwhere(ranks < 0)[0].tolist()
        raise ValueError(f"ranks start at 1 (best), 0 is no target; got {int(ranks[row, place])} in row {row}")
    given_UR = ranks > 0
    if not given_UR.any(axis=1).all():
        row = int(np.argmin(given_UR.any(axis=1)))
        raise ValueError(f"row {row} of the ranks has no target; leave such users out, their metrics are not defined")
    ordered_UR, upto_UR = order_targets(ranks)
    others_UR = np.where(ordered_UR == MISS, MISS, ordered_UR - upto_UR)
    possible_U = (others_UR >= 0).all(axis=1) & (np.diff(others_UR, axis=1) >= 0).all(axis=1)
    if not possible_U.all():
        row = int(np.argmin(possible_U))
        found = ", ".join(str(rank) for rank in ordered_UR[row].tolist() if rank != MISS)
        raise ValueError(f"row {row} has the ranks {found}, but each place of a list holds one item")
    return ranks


def hits(ranks_UR: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Tell which targets are among the first k.

    Args:
        ranks_UR: from `check_ranks`, shape (U, R).
        k: cutoff, from 1.
    Returns:
        Shape (U, R); False in places without a target.
    """
    found: NDArray[np.bool_] = (ranks_UR > 0) & (ranks_UR <= k)
    return found


def order_targets(ranks_UR: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort each user's targets by rank and count the targets up to each, those that tie with it included.

    Args:
        ranks_UR: from 1, 0 for no target in that place, shape (U, R).
    Returns:
        Ranks, best first, `MISS` in places without a target, and counts, both of shape (U, R).
    """
    ordered_UR = np.sort(np.where(ranks_UR > 0, ranks_UR, MISS), axis=1).astype(np.int64, copy=False)
    upto_UR = np.zeros_like(ordered_UR) + np.arange(1, ordered_UR.shape[1] + 1)
    for place in range(ordered_UR.shape[1] - 2, -1, -1):
        tied_U = ordered_UR[:, place] == ordered_UR[:, place + 1]
        upto_UR[tied_U, place] = upto_UR[tied_U, place + 1]
    return ordered_UR, upto_UR
