"""Freshness: newer items first.

Shapes: B users, C candidates of a user.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import numpy as np

from peftrec.config import Range
from peftrec.retrieval.reranking.candidate import Candidates
from peftrec.retrieval.reranking.fact import ItemFacts
from peftrec.retrieval.reranking.step import Floats, Ints, Objective, flat


@dataclasses.dataclass(frozen=True, kw_only=True)
class Freshness(Objective):
    """Add an item's freshness: 1 when new, half as much after each half-life.

    gain = (1 - strength) * relevance + strength * 2^(-days old / half_life_days). An item whose age is not known has
    none; one of the future is new.

    Args:
        strength: from 0 to 1.
        half_life_days: above 0.
        field: that holds when an item came out: a date as in `2024-05-31`, or a year; None takes when it was added to
            the running service, of which items of the training are no part.
    """

    kind: ClassVar[str] = "freshness"
    strength: Annotated[float, Range(ge=0, le=1)]
    half_life_days: Annotated[float, Range(gt=0)]
    field: str | None = None

    @property
    def weight(self) -> float:
        """The strength."""
        return self.strength

    def begin(self, candidates: Candidates, facts: ItemFacts) -> _Fresh:
        """Look up how old the candidates are."""
        items, cells = flat(candidates)
        days = np.maximum(facts.days_old(self.field, items), 0.0)
        fresh = np.zeros(candidates.items_BC.size)
        fresh[cells] = np.where(np.isnan(days), 0.0, np.exp2(-np.nan_to_num(days) / self.half_life_days))
        return _Fresh(fresh.reshape(candidates.items_BC.shape))


class _Fresh:
    def __init__(self, fresh_BC: Floats) -> None:
        self._fresh_BC = fresh_BC

    def gain(self) -> Floats:
        return self._fresh_BC

    def take(self, rows: Ints, chosen: Ints) -> None:
        """An item is as fresh whatever stands above it."""
