"""Maximal marginal relevance: items unlike those that stand in the list already.

Shapes: B users, C candidates of a user, D width of vectors, M items in a row.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from peftrec.config import Range
from peftrec.retrieval.reranking.candidate import Candidates
from peftrec.retrieval.reranking.fact import ItemFacts
from peftrec.retrieval.reranking.step import Floats, Ints, Objective, flat


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mmr(Objective):
    """Add minus the greatest similarity to an item that stands in the list.

    gain = (1 - diversity) * relevance - diversity * max over items j of the list of cos(i, j). 0 keeps the order of the
    scores. An item without a vector, or without a value, is like none.

    Args:
        diversity: from 0 to 1; 1 - lambda of the paper.
        field: compare items by the values that they share in this field, as the cosine of 0/1 vectors; None compares
            the vectors that the model scores by.
    Source:
        Carbonell and Goldstein (1998), The use of MMR, diversity-based reranking; relevance is the model's score,
        stretched to 0 to 1 over the candidates.
    """

    kind: ClassVar[str] = "mmr"
    diversity: Annotated[float, Range(ge=0, le=1)]
    field: str | None = None

    @property
    def weight(self) -> float:
        """The strength."""
        return self.diversity

    def begin(self, candidates: Candidates, facts: ItemFacts) -> _Unlike:
        """Hold the candidates' vectors at unit length."""
        items, cells = flat(candidates)
        vectors_MD = facts.vectors(items) if self.field is None else _shared_values(self.field, facts, items)
        norms_M1 = np.linalg.norm(vectors_MD, axis=1, keepdims=True)
        shape = candidates.items_BC.shape
        units = np.zeros((shape[0] * shape[1], vectors_MD.shape[1]), dtype=np.float32)
        units[cells] = np.divide(vectors_MD, norms_M1, out=np.zeros_like(vectors_MD), where=norms_M1 > 0)
        return _Unlike(units.reshape(*shape, -1))


class _Unlike:
    def __init__(self, units_BCD: NDArray[np.float32]) -> None:
        self._units_BCD = units_BCD
        # The lowest that there is: alike for all while the list is empty, so that the first place is relevance's.
        self._similar_BC = np.full(units_BCD.shape[:2], -1.0)

    def gain(self) -> Floats:
        return -self._similar_BC

    def take(self, rows: Ints, chosen: Ints) -> None:
        taken_RD = self._units_BCD[rows, chosen]
        units_RCD = self._units_BCD if len(rows) == len(self._units_BCD) else self._units_BCD[rows]
        cosines_RC = np.matmul(units_RCD, taken_RD[:, :, None])[:, :, 0]
        self._similar_BC[rows] = np.maximum(self._similar_BC[rows], cosines_RC)


def _shared_values(field: str, facts: ItemFacts, items: Ints) -> NDArray[np.float32]:
    """Return which values each item has, as 0 and 1."""
    groups = facts.groups(field, items)
    values, columns = np.unique(groups.places, return_inverse=True)
    held = np.zeros((len(items), max(1, len(values))), dtype=np.float32)
    held[groups.rows, columns] = 1.0
    return held
