"""Caps: at most so many items of one brand, category or any other value.

Shapes: B users, C candidates of a user, V values of the field, M values of all candidates, R users.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import numpy as np

from peftrec.config import Range
from peftrec.retrieval.reranking.candidate import Candidates
from peftrec.retrieval.reranking.fact import ItemFacts
from peftrec.retrieval.reranking.step import Bools, Constraint, Ints, flat


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cap(Constraint):
    """Leave out what would be more than `most` items of one value.

    An item of several values counts for each of them; one without a value is never left out. As a step of re-ranking it
    gives way where the candidates hold nothing else: the list is filled all the same.

    Args:
        field: whose values are counted.
        most: items of one value in a list.
    """

    kind: ClassVar[str] = "cap"
    field: str
    most: Annotated[int, Range(ge=1)]

    def begin(self, candidates: Candidates, facts: ItemFacts, k: int) -> _Counted:  # noqa: ARG002
        """Look up the values of the candidates."""
        items, cells = flat(candidates)
        groups = facts.groups(self.field, items)
        return _Counted(cells[groups.rows], groups.places, len(groups.names), candidates.items_BC.shape, self.most)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardCap(Cap):
    """A cap that a list rather ends at than breaks; what rules lay down."""

    kind: ClassVar[str] = "hard_cap"
    is_hard: ClassVar[bool] = True


class _Counted:
    def __init__(self, cells_M: Ints, values_M: Ints, num_values: int, shape: tuple[int, int], most: int) -> None:
        self._cells_M, self._values_M, self._shape, self._most = cells_M, values_M, shape, most
        self._users_M = cells_M // max(1, shape[1])
        self._counts_BV = np.zeros((shape[0], num_values), dtype=np.int64)
        # Where the values of each cell begin among the M; cells come in order.
        self._starts = np.searchsorted(cells_M, np.arange(shape[0] * shape[1] + 1))

    def allowed(self, place: int) -> Bools:  # noqa: ARG002
        full_M = self._counts_BV[self._users_M, self._values_M] >= self._most
        allowed = np.ones(self._shape[0] * self._shape[1], dtype=bool)
        allowed[self._cells_M[full_M]] = False
        return allowed.reshape(self._shape)

    def take(self, rows: Ints, chosen: Ints) -> None:
        cells_R = rows * self._shape[1] + chosen
        counts_R = self._starts[cells_R + 1] - self._starts[cells_R]
        ends_R = np.cumsum(counts_R)
        places = np.repeat(self._starts[cells_R] - ends_R + counts_R, counts_R) + np.arange(int(counts_R.sum()))
        # No value stands twice in a cell, and no user twice in rows: plain addition counts each once.
        self._counts_BV[self._users_M[places], self._values_M[places]] += 1
