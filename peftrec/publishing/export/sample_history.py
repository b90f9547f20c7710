"""Made-up histories that exports are compared on: those of real users are in no run folder.

Shapes: B users, L places of a history.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

_DAY_MS = 86_400_000


@dataclasses.dataclass(frozen=True, eq=False)
class SampleHistories:
    """Histories of all lengths, drawn at random but always the same.

    Args:
        items_BL: indexes of items, -1 for padding on the left.
        times_BL: milliseconds, ascending, from seconds to years apart.
    """

    items_BL: NDArray[np.int64]
    times_BL: NDArray[np.int64]

    @classmethod
    def draw(cls, num_users: int, num_items: int, max_history: int) -> SampleHistories:
        """Draw items evenly and lengths from 1 to `max_history`; the first user has all, the second one event."""
        generator = np.random.default_rng(0)
        lengths_B = generator.integers(1, max_history + 1, num_users)
        lengths_B[: min(2, num_users)] = (max_history, 1)[:num_users]
        items_BL = generator.integers(0, num_items, (num_users, max_history))
        items_BL[np.arange(max_history) < max_history - lengths_B[:, None]] = -1
        gaps_BL = 10 ** generator.uniform(3, 10, items_BL.shape)
        return cls(items_BL, 10_000 * _DAY_MS + gaps_BL.astype(np.int64).cumsum(1))

    def __len__(self) -> int:
        return len(self.items_BL)
