"""Area under the ROC curve, from ranks."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.rank import MISS, check_ranks, order_targets
from peftrec.metrics.ratio import ratio


def auc(ranks: NDArray[np.int64], num_ranked: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """Compute which share of a user's pairs of a target and another item is in order.

    AUC = sum over targets of (others below it) / (targets x others). A target with rank r and j targets up to it,
    itself included, has r - j of the others above it. Ties count against the model, as they do in ranks. A target with
    the rank `MISS` was not ranked: all its pairs are out of order, and it is not one of the others. NaN where no other
    item was ranked. No ranks give an empty array.

    Args:
        ranks: place of each user's targets, 1 is best, 0 for no target in that place, shape (U,) or (U, R).
        num_ranked: how many items were ranked for each user, targets with a rank included and the excluded history
            not, shape (U,) or one number for all.
    Returns:
        Between 0 and 1 for each user, or NaN, shape (U,).
    Raises:
        ValueError: if a user has no target or a rank below 1, or a rank is beyond the number of items ranked.
    Source:
        Rendle et al. (2009), BPR: Bayesian Personalized Ranking from Implicit Feedback, section 6.2.
    """
    ranks_UR = check_ranks(ranks)
    num_users = len(ranks_UR)
    if np.ndim(num_ranked) not in (0, 1) or not np.issubdtype(np.asarray(num_ranked).dtype, np.integer):
        raise ValueError(f"num_ranked must be whole numbers, one a user or one for all, got {num_ranked!r}")
    if np.ndim(num_ranked) == 1 and len(np.atleast_1d(num_ranked)) != num_users:
        raise ValueError(f"num_ranked must have one number for each of {num_users} users, got {np.size(num_ranked)}")
    ranked_U1 = np.broadcast_to(np.asarray(num_ranked, dtype=np.int64), (num_users,))[:, None]
    placed_UR = (ranks_UR > 0) & (ranks_UR != MISS)
    if (placed_UR & (ranks_UR > ranked_U1)).any():
        row, place = np.argwhere(placed_UR & (ranks_UR > ranked_U1))[0].tolist()
        raise ValueError(f"row {row} has a rank of {ranks_UR[row, place]} among {ranked_U1[row, 0]} items")
    others_U1 = ranked_U1 - placed_UR.sum(axis=1, keepdims=True)
    ordered_UR, upto_UR = order_targets(np.where(placed_UR, ranks_UR, 0))
    below_UR = np.where(ordered_UR != MISS, others_U1 - (ordered_UR - upto_UR), 0)
    pairs_U = (ranks_UR > 0).sum(axis=1) * others_U1[:, 0]
    return ratio(below_UR.sum(axis=1), pairs_U)
