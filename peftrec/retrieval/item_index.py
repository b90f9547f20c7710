"""What finds items by their vectors: one protocol for every kind of index.

Shapes: B users, L places of a history, N rows of the index, C rows that are added, K length of a list, D width.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import Registry
from peftrec.retrieval.allowed import Allowed

_Ints = NDArray[np.int64]


class IndexView(Protocol):
    """An index as it was at one moment; it never changes.

    Attributes:
        vectors_ND: of all rows, those removed included.
        bias_N: added to each row's score.
        live: the rows that are not removed; None where all are live.
    """

    @property
    def vectors_ND(self) -> torch.Tensor: ...

    @property
    def bias_N(self) -> torch.Tensor: ...

    @property
    def live(self) -> Allowed | None: ...

    def search(
        self, users_BD: torch.Tensor, k: int, *, allowed: Allowed | None = None, excluded_BL: _Ints | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows with the highest bias + user . item, best first.

        Args:
            users_BD: user vectors.
            k: length of the lists, from 1.
            allowed: rows that may come back, all of them live; None: all live ones.
            excluded_BL: rows to leave out of each user's list, -1 for none; None leaves out nothing.
        Returns:
            Rows (B, K) and their scores (B, K), where K is k or the number of rows; K of them wherever so many are
            allowed, else -1 with score -inf.
        Raises:
            InputError: if a score is NaN.
        """
        ...


class ItemIndex(Protocol):
    """Rows with vectors, numbered as they come; a number is never given again.

    Writers take turns; whoever holds a view reads on as if nothing had happened.
    """

    @property
    def view(self) -> IndexView:
        """The index as it is now."""
        ...

    def add(self, vectors_CD: torch.Tensor, bias_C: torch.Tensor) -> range:
        """Add rows and return their numbers."""
        ...

    def remove(self, rows: _Ints) -> None:
        """Let live rows never come back; their vectors can still be read."""
        ...

    def update(self, rows: _Ints, vectors_CD: torch.Tensor, bias_C: torch.Tensor) -> range:
        """Remove live rows and add others, in one step; return the new numbers."""
        ...

    def settle(self) -> None:
        """Do what changes have left to be done; searches are right without it, and slower by and by."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the kind, its settings and its size, for JSON."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """Which index finds the items; it decides no trained weight."""

    kind: ClassVar[str]

    def build(self, vectors_ND: torch.Tensor, bias_N: torch.Tensor) -> ItemIndex:
        """Make an index of these rows.

        Raises:
            InputError: if a package that it needs is not installed.
        """
        raise NotImplementedError


INDEXES = Registry(
    "retrieval.index",
    {
        "exact": "peftrec.retrieval.exact_index:ExactConfig",
        "hnsw": "peftrec.retrieval.hnsw_index:HnswConfig",
    },
)


def index_recall(view: IndexView, exact: IndexView, users_BD: torch.Tensor, k: int) -> float:
    """Return how many of the exact lists' items an index finds: the mean over users of |found and exact| / |exact|.

    Args:
        view: of the index.
        exact: of an exact index over the same rows.
        users_BD: user vectors.
        k: length of the lists.
    """
    found_BK, wanted_BK = view.search(users_BD, k)[0], exact.search(users_BD, k)[0]
    shares = []
    for found, wanted in zip(found_BK.tolist(), wanted_BK.tolist(), strict=True):
        right = {row for row in wanted if row >= 0}
        if right:
            shares.append(len(right.intersection(found)) / len(right))
    return float(np.mean(shares)) if shares else 1.0
