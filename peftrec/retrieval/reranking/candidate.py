"""The candidates that lists are made from.

Shapes: B users, C candidates of a user, E events of all histories.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """The best items of each user, best first, and the user's history.

    Args:
        items_BC: item indexes, -1 where a user has no more candidates, none twice.
        scores_BC: finite where there is an item, falling along the row.
        history_items: items of all histories, one user's after the other's, shape (E,).
        history_offsets: where each user's begin, and E at the end, shape (B + 1,).
    Raises:
        ValueError: if shapes differ or a score is not finite.
    """

    items_BC: NDArray[np.int64]
    scores_BC: NDArray[np.floating]
    history_items: NDArray[np.int64]
    history_offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.items_BC.ndim != 2 or self.items_BC.shape != self.scores_BC.shape:
            raise ValueError(f"items and scores have shapes {self.items_BC.shape} and {self.scores_BC.shape}")
        if len(self.history_offsets) != len(self.items_BC) + 1:
            raise ValueError(f"there are {len(self.items_BC)} users, but {len(self.history_offsets) - 1} histories")
        if not np.isfinite(self.scores_BC[self.items_BC >= 0]).all():
            raise ValueError("the score of a candidate is not finite")

    @classmethod
    def of_one(
        cls, items: NDArray[np.int64], scores: NDArray[np.floating], history: NDArray[np.int64] | None = None
    ) -> Candidates:
        """Return the candidates of a single user."""
        own = np.empty(0, dtype=np.int64) if history is None else history
        return cls(items[None], scores[None], own, np.array([0, len(own)]))

    @property
    def relevance_BC(self) -> NDArray[np.float64]:
        """Scores stretched so that each user's best is 1 and worst 0; all 0 where they are equal, and in empty places.

        What scores mean differs from model to model and from user to user; strengths must not.
        """
        here_BC = self.items_BC >= 0
        scores_BC = np.where(here_BC, self.scores_BC, np.inf).astype(np.float64)
        low_B1 = scores_BC.min(axis=1, keepdims=True, initial=np.inf)
        scores_BC = np.where(here_BC, self.scores_BC, -np.inf)
        high_B1 = scores_BC.max(axis=1, keepdims=True, initial=-np.inf)
        wide_B1 = high_B1 > low_B1
        span_B1 = np.where(wide_B1, high_B1 - low_B1, 1.0)
        return np.where(here_BC & wide_B1, (scores_BC - np.where(wide_B1, low_B1, 0.0)) / span_B1, 0.0)
