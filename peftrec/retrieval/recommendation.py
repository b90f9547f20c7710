"""One entry of a list, as people get it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recommendation:
    """One entry of a list.

    Args:
        rank: 1 is the best.
        score: higher is better; comparable within one list.
        item_id: as in the item table.
        title: for people.
    """

    rank: int
    score: float
    item_id: str
    title: str


def describe(recommendations: Sequence[Recommendation]) -> list[dict[str, Any]]:
    """Return recommendations as plain rows for JSON."""
    return [dataclasses.asdict(recommendation) for recommendation in recommendations]
