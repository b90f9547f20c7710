"""What lists show: how popular their items are, and of which groups."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.ratio import ratio


def mean_popularity(items: NDArray[np.int64], item_counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute how often the items of each user's list occur in training, on average.

    popularity = mean over the list of n(item). Places that a short list leaves empty do not count.

    Args:
        items: item indexes, one list a user, -1 for places without an item, shape (U, K).
        item_counts: training events of every item, shape (N,).
    Returns:
        Shape (U,).
    Raises:
        ValueError: if a list is empty.
    Source:
        Abdollahpouri, Burke and Mobasher (2019), Managing Popularity Bias in Recommender Systems with Personalized
        Re-ranking (average recommendation popularity).
    """
    shown = _shown(items)
    counts = item_counts[np.maximum(items, 0)] * shown
    popularity: NDArray[np.float64] = counts.sum(axis=1) / shown.sum(axis=1)
    return popularity


def group_shares(items: NDArray[np.int64], group: NDArray[np.int64], num_groups: int) -> NDArray[np.float64]:
    """Compute which share of each user's list is of each group.

    Places that a short list leaves empty do not count.

    Args:
        items: item indexes, one list a user, -1 for places without an item, shape (U, K).
        group: group of every item, shape (N,).
        num_groups: how many groups there are, G.
    Returns:
        Shape (U, G); each row sums to 1.
    Raises:
        ValueError: if a list is empty.
    """
    shown = _shown(items)
    of_group = group[np.maximum(items, 0)][:, :, None] == np.arange(num_groups)
    shares: NDArray[np.float64] = (of_group & shown[:, :, None]).sum(axis=1) / shown.sum(axis=1)[:, None]
    return shares


def exposure_gap(shares: NDArray[np.float64], parts: NDArray[np.float64]) -> float:
    """Compute how far the mean of lists' shares lies from the parts that groups should have.

    gap = sum_g (mean_u share_ug - part_g)^2, from 0 to 2.

    Args:
        shares: from `group_shares`, shape (U, G).
        parts: sum to 1, shape (G,).
    """
    return float(np.square(shares.mean(axis=0) - parts).sum())


def exposure_ratio(shares_G: NDArray[np.float64], parts_G: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute how much of the exposure each group has for each part that it should have; 1 is its due.

    ratio_g = share_g / part_g. NaN for a group whose part is 0.

    Args:
        shares_G: exposure of each group, such as the mean over users of `group_shares`, shape (G,).
        parts_G: what each should have, from 0, shape (G,).
    Returns:
        From 0 for each group, or NaN, shape (G,).
    Raises:
        ValueError: if shapes differ, or a share or part is below 0 or not finite.
    Source:
        Singh and Joachims (2018), Fairness of Exposure in Rankings, section 4.2 (disparate treatment ratio), each group
        against its part instead of against another group.
    """
    if shares_G.ndim != 1 or shares_G.shape != parts_G.shape:
        raise ValueError(f"shares and parts must have one shape (G,), got {shares_G.shape} and {parts_G.shape}")
    for name, values in (("share", shares_G), ("part", parts_G)):
        fine_G = np.isfinite(values) & (values >= 0)
        if not fine_G.all():
            raise ValueError(f"the {name} of group {int(np.argmin(fine_G))} is {values[np.argmin(fine_G)]}; from 0")
    return ratio(shares_G, parts_G)


def _shown(items: NDArray[np.int64]) -> NDArray[np.bool_]:
    shown = items >= 0
    if not shown.any(axis=1).all():
        raise ValueError(f"the list of user {int(np.argmin(shown.any(axis=1)))} is empty")
    return shown
