"""What list metrics know of items and users beside the lists.

Shapes: N catalogue, D dimension, G categories, E events of all histories, U users, R targets of a user.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.category import CategoryShares
from peftrec.metrics.popularity_lift import history_popularity


@dataclass(frozen=True, kw_only=True)
class ListFacts:
    """Facts of a catalogue and of the users that lists were made for; metrics whose facts are None are left out.

    Attributes:
        num_items: size N of the catalogue.
        counts: training events (or users) of every item, shape (N,).
        counted: events (or users) that there were in training; None: the sum of `counts`, which are events then.
        vectors: of every item, such as of its text; a row of zeros is an item without one, shape (N, D).
        categories: each row shares out one item over its categories and sums to 1; a row of zeros is an item whose
            categories are not known, shape (N, G); or the same as `CategoryShares`.
        history_items: items of the users' histories, one user's after the other's, shape (E,).
        history_offsets: where each user's begin, and E at the end, shape (U + 1,).
        targets: items that each user took, -1 for places without one, shape (U,) or (U, R).
    """

    num_items: int
    counts: NDArray[np.int64] | None = None
    counted: int | None = None
    vectors: NDArray[np.floating] | None = None
    categories: NDArray[np.floating] | CategoryShares | None = None
    history_items: NDArray[np.int64] | None = None
    history_offsets: NDArray[np.int64] | None = None
    targets: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.num_items, bool) or not isinstance(self.num_items, int | np.integer) or self.num_items < 1:
            raise ValueError(f"num_items must be a whole number from 1, got {self.num_items!r}")
        for name in ("counts", "vectors", "categories"):
            values = getattr(self, name)
            if values is not None and len(values) != self.num_items:
                raise ValueError(f"{name} must have a row for each of {self.num_items} items, got {len(values)}")
        if (self.history_items is None) != (self.history_offsets is None):
            raise ValueError("history_items and history_offsets belong together: give both or neither")
        if self.counted is not None and self.counts is None:
            raise ValueError("counted says what counts are shares of, but there are no counts")

    @property
    def num_counted(self) -> int | None:
        """What `counts` are shares of; None without counts."""
        if self.counted is not None or self.counts is None:
            return self.counted
        return int(self.counts.sum())

    @property
    def history_popularity(self) -> NDArray[np.float64] | None:
        """Mean of `counts` over each user's history, shape (U,); None without counts or histories."""
        if self.counts is None or self.history_items is None or self.history_offsets is None:
            return None
        return history_popularity(self.history_items, self.history_offsets, self.counts)
