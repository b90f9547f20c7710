"""How much more popular lists are than histories."""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.item_list import check_counts, check_histories, check_lists, list_means
from peftrec.metrics.ratio import ratio


def popularity_lift(
    items: NDArray[np.int64], history_popularity: NDArray[np.float64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compute by which share each user's list is more popular than the user's history.

    lift = (mean over the list of n(item) - mean over the history) / mean over the history. 0 is as popular, 1 is twice
    as popular, -1 is a list of items that nobody had. Places without an item do not count; NaN for an empty list, and
    where the history is empty or nobody had its items in training.

    Args:
        items: item indexes, one list a user, -1 for places without an item, shape (U, K).
        history_popularity: mean of `counts` over each user's history, or NaN, such as of `history_popularity`,
            shape (U,).
        counts: training events (or users) of every item, shape (N,).
    Returns:
        From -1 for each user, or NaN, shape (U,).
    Raises:
        ValueError: if a list holds what is no item or an item twice, a count or a mean is below 0, or a user has no
            mean.
    Source:
        Abdollahpouri, Mansoury, Burke and Mobasher (2020), The Connection Between Popularity Bias, Calibration, and
        Fairness in Recommendation, section 3. There, lists and histories of a group of users are averaged before the
        ratio; here, each user is a group.
    """
    check_counts(counts)
    shown_UK = check_lists(items, len(counts))
    if history_popularity.shape != (len(items),):
        raise ValueError(f"history_popularity must have the shape ({len(items)},), got {history_popularity.shape}")
    if (history_popularity < 0).any() or np.isinf(history_popularity).any():
        row = int(np.argmax((history_popularity < 0) | np.isinf(history_popularity)))
        raise ValueError(f"the history of user {row} has a mean popularity of {history_popularity[row]}")
    means_U = list_means(counts[np.maximum(items, 0)].astype(np.float64), shown_UK)
    return ratio(means_U - history_popularity, history_popularity)  # NaN is not above 0


def history_popularity(
    history_items: NDArray[np.int64], history_offsets: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compute how often the items of each user's history occur in training, on average over its events.

    Args:
        history_items: items of all histories, one user's after the other's, shape (E,).
        history_offsets: where each user's begin, and E at the end, shape (U + 1,).
        counts: training events (or users) of every item, shape (N,).
    Returns:
        From 0 for each user, NaN for an empty history, shape (U,).
    Raises:
        ValueError: if offsets do not rise from 0 to E, or a history holds what is no item.
    """
    check_counts(counts)
    check_histories(history_items, history_offsets, len(counts))
    upto = np.concatenate([[0], np.cumsum(counts[history_items])])
    lengths_U = np.diff(history_offsets)
    sums_U = np.diff(upto[history_offsets]).astype(np.float64)
    return ratio(sums_U, lengths_U)
