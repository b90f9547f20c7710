"""The index that reads every item: blocks of one matrix product.

Shapes: B users, L places of a history, N rows, C rows that are added, A rows that are allowed, K length of a list, D
width.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.evaluation.product import Excluded
from peftrec.retrieval.allowed import Allowed
from peftrec.retrieval.exact import top_of_one, top_products
from peftrec.retrieval.growing import GrowingRows
from peftrec.retrieval.item_index import IndexConfig

_Ints = NDArray[np.int64]

# Fewer of the rows than this share are gathered before the product; more are scored with the rest and left out.
_FEW: Final = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExactConfig(IndexConfig):
    """Every item is scored for every list: exact, at once up to date, slower the more items there are."""

    kind: ClassVar[str] = "exact"

    def build(self, vectors_ND: torch.Tensor, bias_N: torch.Tensor) -> ExactIndex:
        """Make an index of these rows."""
        return ExactIndex(vectors_ND, bias_N)


@dataclasses.dataclass(frozen=True, eq=False)
class ExactView:
    """See `IndexView`.

    Args:
        vectors_ND: of all rows.
        bias_N: of all rows.
        live: None where all are live.
        has_bias: whether any bias is not 0.
    """

    vectors_ND: torch.Tensor
    bias_N: torch.Tensor
    live: Allowed | None
    has_bias: bool

    @torch.no_grad()
    def search(
        self, users_BD: torch.Tensor, k: int, *, allowed: Allowed | None = None, excluded_BL: _Ints | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score all rows, or the few that are allowed; see `IndexView`. Of equal scores the lower row is first."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        allowed = self.live if allowed is None else allowed
        if allowed is not None and allowed.count < _FEW * len(allowed):
            return self._search_few(users_BD, k, allowed, excluded_BL)
        if len(users_BD) == 1:
            return self._search_one(users_BD, k, allowed, excluded_BL)
        excluded = None if excluded_BL is None else Excluded.of(excluded_BL, users_BD.device)
        refused_N = None if allowed is None else allowed.refused_N
        return top_products(users_BD, self.vectors_ND, self.bias_N, k, excluded=excluded, refused_N=refused_N)

    def _search_one(
        self, users_1D: torch.Tensor, k: int, allowed: Allowed | None, excluded_1L: _Ints | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One user: a row of scores is little memory, and blocks would be made for nothing."""
        scores_N = torch.mv(self.vectors_ND, users_1D[0])
        if self.has_bias:
            scores_N += self.bias_N
        if allowed is not None:
            scores_N.masked_fill_(allowed.refused_N, -torch.inf)
        if excluded_1L is not None:
            rows = excluded_1L[excluded_1L >= 0]
            scores_N[torch.from_numpy(rows).to(scores_N.device)] = -torch.inf
        return top_of_one(scores_N, k)

    def _search_few(
        self, users_BD: torch.Tensor, k: int, allowed: Allowed, excluded_BL: _Ints | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score the allowed rows alone, and give them back their numbers."""
        rows_A = allowed.rows_A
        length = min(k, len(allowed))
        items_BK = torch.full((len(users_BD), length), -1, dtype=torch.int64, device=users_BD.device)
        scores_BK = users_BD.new_full(items_BK.shape, -torch.inf)
        if not len(rows_A):
            return items_BK, scores_BK
        excluded = None
        if excluded_BL is not None:
            known = rows_A.cpu().numpy()
            places_BL = np.searchsorted(known, excluded_BL).clip(max=len(known) - 1)
            excluded = Excluded.of(np.where(known[places_BL] == excluded_BL, places_BL, -1), users_BD.device)
        found, scores = top_products(users_BD, self.vectors_ND[rows_A], self.bias_N[rows_A], k, excluded=excluded)
        items_BK[:, : found.shape[1]] = torch.where(found >= 0, rows_A[found.clamp(min=0)], -1)
        scores_BK[:, : found.shape[1]] = scores
        return items_BK, scores_BK


class ExactIndex:
    """See `ItemIndex`.

    Args:
        vectors_ND: rows to begin with.
        bias_N: of each.
    """

    kind: ClassVar[str] = "exact"

    def __init__(self, vectors_ND: torch.Tensor, bias_N: torch.Tensor) -> None:
        self._vectors, self._bias = GrowingRows(vectors_ND), GrowingRows(bias_N)
        self._live = GrowingRows(torch.ones(len(vectors_ND), dtype=torch.bool, device=vectors_ND.device))
        self._num_removed = 0
        self._has_bias = bool(bias_N.any())
        self._writing = threading.Lock()
        self._view = self._make_view()

    @property
    def view(self) -> ExactView:
        """The index as it is now."""
        return self._view

    def add(self, vectors_CD: torch.Tensor, bias_C: torch.Tensor) -> range:
        """Add rows and return their numbers."""
        return self._change(vectors_CD, bias_C, np.zeros(0, dtype=np.int64))

    def remove(self, rows: _Ints) -> None:
        """Let live rows never come back; their vectors can still be read."""
        self._change(self._vectors.rows[:0], self._bias.rows[:0], rows)

    def update(self, rows: _Ints, vectors_CD: torch.Tensor, bias_C: torch.Tensor) -> range:
        """Remove live rows and add others, in one step; return the new numbers."""
        return self._change(vectors_CD, bias_C, rows)

    def describe(self) -> dict[str, Any]:
        """Return the kind, its settings and its size, for JSON."""
        return {"kind": self.kind, "rows": len(self._vectors), "live": len(self._vectors) - self._num_removed}

    def _change(self, vectors_CD: torch.Tensor, bias_C: torch.Tensor, removed: _Ints) -> range:
        with self._writing:
            first = len(self._vectors)
            if len(removed):
                places = torch.from_numpy(removed).to(self._bias.rows.device)
                assert bool(self._live.rows[places].all()), "a row is removed once"
                self._live.replace(places, torch.zeros(len(places), dtype=torch.bool, device=places.device))
                self._num_removed += len(removed)
            if len(vectors_CD):
                self._vectors.append(vectors_CD)
                self._bias.append(bias_C)
                self._live.append(torch.ones(len(vectors_CD), dtype=torch.bool, device=bias_C.device))
                self._has_bias = self._has_bias or bool(bias_C.any())
            self._view = self._make_view()
        return range(first, first + len(vectors_CD))

    def _make_view(self) -> ExactView:
        live = Allowed(self._live.rows) if self._num_removed else None
        return ExactView(self._vectors.rows, self._bias.rows, live, self._has_bias)

    def settle(self) -> None:
        """Do what need not be done before a change is seen: here nothing."""
