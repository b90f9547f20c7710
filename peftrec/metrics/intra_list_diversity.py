"""Diversity of lists by vectors of their items.

Shapes: U users, B users of a block, K places of a list, N catalogue, D dimension.
"""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.item_list import check_lists

# Numbers of a block of users that are held at once.
_MOST_NUMBERS = 2**20


def intra_list_diversity(items: NDArray[np.int64], vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the mean of 1 - cosine over all pairs of items of each user's list.

    diversity = mean over pairs i < j of 1 - <v_i, v_j> / (|v_i| |v_j|). 0 is a list of copies. An item whose vector is
    zero has no cosine and is left out; places without an item do not count; NaN where fewer than two items are left.
    Pairs are not formed: with unit vectors, the cosines of all pairs add up to (|sum of v|^2 - n) / 2.

    Args:
        items: item indexes, one list a user, -1 for places without an item, shape (U, K).
        vectors: of every item, such as of its text, shape (N, D).
    Returns:
        From 0 to 2 for each user, or NaN, shape (U,).
    Raises:
        ValueError: if a list holds what is no item or an item twice, or a vector is NaN or infinite.
    Source:
        Ziegler et al. (2005), Improving Recommendation Lists Through Topic Diversification, eq. 5; as a distance, and
        the mean instead of the sum, of Castells, Hurley and Vargas (2022), Novelty and Diversity in Recommender
        Systems.
    """
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise ValueError(f"vectors must be floats of shape (N, D), got shape {vectors.shape} of {vectors.dtype}")
    shown_UK = check_lists(items, len(vectors))
    norms_N = _norms(vectors)
    weights_N = np.divide(1.0, norms_N, out=np.zeros_like(norms_N), where=norms_N > 0)
    diversity_U = np.full(len(items), np.nan)
    block = max(1, _MOST_NUMBERS // max(1, items.shape[1] * vectors.shape[1]))
    for start in range(0, len(items), block):
        items_BK = np.maximum(items[start : start + block], 0)
        weights_BK = weights_N[items_BK] * shown_UK[start : start + block]
        count_B = (weights_BK > 0).sum(axis=1)
        sums_BD = np.matmul(weights_BK[:, None, :], vectors[items_BK].astype(np.float64))[:, 0, :]
        cosines_B = np.einsum("bd,bd->b", sums_BD, sums_BD) - count_B  # of both orders of a pair
        paired_B = count_B > 1
        mean_B = cosines_B[paired_B] / (count_B * (count_B - 1))[paired_B]
        diversity_U[start : start + block][paired_B] = np.clip(1.0 - mean_B, 0.0, 2.0)
    return diversity_U


def _norms(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the length of each vector, a block at a time."""
    norms_N = np.empty(len(vectors))
    block = max(1, _MOST_NUMBERS // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), block):
        norms_N[start : start + block] = np.linalg.norm(vectors[start : start + block].astype(np.float64), axis=1)
    if not np.isfinite(norms_N).all():
        raise ValueError(f"the vector of item {int(np.argmin(np.isfinite(norms_N)))} is not finite")
    return norms_N
