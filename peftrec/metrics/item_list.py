"""Lists of items: what every list metric takes, checked in one place.

Shapes: U users, K places of a list, N catalogue.
"""

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.ratio import ratio


def check_lists(items: NDArray[np.int64], num_items: int) -> NDArray[np.bool_]:
    """Refuse what no list metric is defined for, and tell which places hold an item.

    -1 stands in places that a short list leaves empty; a list may be empty as a whole.

    Args:
        items: item indexes, one list a user, shape (U, K).
        num_items: size N of the catalogue.
    Returns:
        Shape (U, K).
    Raises:
        ValueError: if items are not integers of two dimensions from -1 to N - 1, or a list holds an item twice; with
            the user's row.
    """
    if items.ndim != 2 or not np.issubdtype(items.dtype, np.integer):
        raise ValueError(f"lists must be integers of shape (U, K), got shape {items.shape} of {items.dtype}")
    wrong_UK = (items < -1) | (items >= num_items)
    if wrong_UK.any():
        row, place = np.argwhere(wrong_UK)[0].tolist()
        raise ValueError(f"the list of user {row} holds item {items[row, place]}; there are 0 to {num_items - 1}")
    ordered_UK = np.sort(items, axis=1)
    twice_UK = (ordered_UK[:, 1:] == ordered_UK[:, :-1]) & (ordered_UK[:, 1:] >= 0)
    if twice_UK.any():
        row, place = np.argwhere(twice_UK)[0].tolist()
        raise ValueError(f"the list of user {row} holds item {ordered_UK[row, place]} twice")
    shown_UK: NDArray[np.bool_] = items >= 0
    return shown_UK


def check_counts(counts: NDArray[np.int64]) -> None:
    """Refuse counts of items that are not whole numbers from 0, one an item.

    Args:
        counts: training events (or users) of every item, shape (N,).
    Raises:
        ValueError: with the item.
    """
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer):
        raise ValueError(f"counts must be integers of shape (N,), got shape {counts.shape} of {counts.dtype}")
    if counts.size and int(counts.min()) < 0:
        item = int(np.argmax(counts < 0))
        raise ValueError(f"counts start at 0, got {int(counts[item])} of item {item}")


def check_histories(history_items: NDArray[np.int64], history_offsets: NDArray[np.int64], num_items: int) -> None:
    """Refuse histories that do not lie one after the other, or hold what is no item.

    Args:
        history_items: items of all histories, shape (E,).
        history_offsets: where each user's begin, and E at the end, shape (U + 1,).
        num_items: size N of the catalogue.
    Raises:
        ValueError: with what is wrong.
    """
    for name, values in (("history_items", history_items), ("history_offsets", history_offsets)):
        if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"{name} must be integers of one dimension, got shape {values.shape} of {values.dtype}")
    ends = (int(history_offsets[0]), int(history_offsets[-1])) if history_offsets.size else None
    if ends != (0, len(history_items)) or (np.diff(history_offsets) < 0).any():
        raise ValueError(f"history_offsets must rise from 0 to {len(history_items)}, the number of events")
    if history_items.size and (int(history_items.min()) < 0 or int(history_items.max()) >= num_items):
        event = int(np.argmax((history_items < 0) | (history_items >= num_items)))
        user = int(np.searchsorted(history_offsets, event, side="right")) - 1
        raise ValueError(
            f"the history of user {user} holds item {int(history_items[event])}; there are 0 to {num_items - 1}"
        )


def list_means(values_UK: NDArray[np.float64], shown_UK: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute the mean over the places of each list that count; NaN where none does.

    Args:
        values_UK: shape (U, K).
        shown_UK: which places count, shape (U, K).
    Returns:
        Shape (U,).
    """
    shown_U = shown_UK.sum(axis=1)
    sums_U = np.where(shown_UK, values_UK, 0.0).sum(axis=1)
    return ratio(sums_U, shown_U)
