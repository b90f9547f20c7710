"""Popularity: every user gets the items that were bought most.

Shapes: B batch, L history, N catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.baselines.baseline import Baseline, check_histories, check_tensors

if TYPE_CHECKING:
    from peftrec.data import Dataset


@dataclass(frozen=True, kw_only=True)
class Popularity(Baseline):
    """Rank items by how many training events they have.

    score(item) = number of training events of the item; validation and test events are never counted. Items with
    equally many events are tied, and evaluation counts ties against the model.

    Source:
        Cremonesi et al. (2010), Performance of recommender algorithms on top-N recommendation tasks (TopPop). Tables
        that count test events too (S3-Rec's PopRec on Beauty) are higher by what leaks.
    """

    kind: ClassVar[str] = "popularity"
    needs_item_vectors: ClassVar[bool] = False

    def fit(self, dataset: Dataset, item_vectors: torch.Tensor | None = None) -> FittedPopularity:  # noqa: ARG002
        """Count the training events of each item; `item_vectors` are ignored."""
        return FittedPopularity(torch.from_numpy(dataset.item_counts().astype(np.int64)))

    def from_tensors(self, tensors: Mapping[str, torch.Tensor]) -> FittedPopularity:
        """Restore the stored counts."""
        check_tensors(tensors, {"item_counts": (torch.int64, 1)}, self.kind)
        return FittedPopularity(tensors["item_counts"])


class FittedPopularity:
    """Training counts, the same scores for every history, empty ones included."""

    def __init__(self, item_counts_N: torch.Tensor) -> None:
        self._item_counts_N = item_counts_N
        # float32 holds whole numbers exactly up to 2**24 events of one item.
        self._scores_N = item_counts_N.to(torch.float32)

    def scores(self, histories_BL: NDArray[np.int64]) -> torch.Tensor:
        """Score the catalogue by training counts: a view of one row, shape (B, N)."""
        check_histories(histories_BL, len(self._scores_N))
        return self._scores_N.expand(len(histories_BL), -1)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Give `item_counts`, int64, shape (N,)."""
        return {"item_counts": self._item_counts_N}
