"""What every step of re-ranking is: an objective that adds to an item's gain, or a constraint that leaves items out.

Shapes: B users, C candidates of a user, R users whose lists still grow.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from peftrec.retrieval.reranking.candidate import Candidates
from peftrec.retrieval.reranking.fact import ItemFacts

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Gain(Protocol):
    """An objective at work on some users' lists."""

    def gain(self) -> Floats:
        """Return what each candidate would add to the lists as they are now, shape (B, C)."""

    def take(self, rows: Ints, chosen: Ints) -> None:
        """Learn which candidate was put next on some users' lists.

        Args:
            rows: the users, shape (R,).
            chosen: places among their candidates, shape (R,).
        """


class Limit(Protocol):
    """A constraint at work on some users' lists."""

    def allowed(self, place: int) -> Bools:
        """Return which candidates may stand at a place, from 0, shape (B, C)."""

    def take(self, rows: Ints, chosen: Ints) -> None:
        """Learn which candidate was put next, as `Gain.take`."""


class Objective:
    """A step that pulls: it has a strength, and what it does not take is left to relevance."""

    kind: ClassVar[str]

    @property
    def weight(self) -> float:
        """Its share of an item's gain, from 0 to 1."""
        raise NotImplementedError

    def begin(self, candidates: Candidates, facts: ItemFacts) -> Gain:
        """Start the lists of some users.

        Raises:
            InputError: if the facts lack what it needs.
        """
        raise NotImplementedError


class Constraint:
    """A step that leaves out.

    Attributes:
        is_hard: whether a list rather ends than breaks it.
    """

    kind: ClassVar[str]
    is_hard: ClassVar[bool] = False

    def begin(self, candidates: Candidates, facts: ItemFacts, k: int) -> Limit:
        """Start lists of k items for some users.

        Raises:
            InputError: if the facts lack what it needs.
        """
        raise NotImplementedError


Step = Objective | Constraint


def flat(candidates: Candidates) -> tuple[Ints, Ints]:
    """Return all candidates of all users in one row, and the cell (of B x C) that each stands in."""
    cells = np.flatnonzero(candidates.items_BC.ravel() >= 0)
    return candidates.items_BC.ravel()[cells], cells
