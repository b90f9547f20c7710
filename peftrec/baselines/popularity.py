"""Popularity: every user gets the items that were bought most, ever or lately.

Shapes: B batch, L history, N catalogue, E training events.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.baselines.baseline import Baseline, check_histories, check_tensors
from peftrec.config import Range

if TYPE_CHECKING:
    from peftrec.data import Dataset

# Of a matrix product, while one event is sorted in.
_EVENT_OPERATIONS: Final = 1e4


@dataclass(frozen=True, kw_only=True)
class Popularity(Baseline):
    """Rank items by how many training events they have, of all or of the newest.

    score(item) = number of the item's events among the newest ceil(window E) of all E training events; events that are
    as new as the oldest of those count too, so that the order of a file decides nothing. Validation and test events are
    never counted. Where the data hold times, newer is later. Where they hold only an order, newer is nearer to the end
    of its user's training events: first come the last events of all users, then all that are second to last, and so on;
    that is another thing than what sold lately, and long histories weigh less in it. Items with equally many events
    are tied, and evaluation counts ties against the model. Everyone gets the same scores, with or without history.

    Attributes:
        window: share of the training events that count, above 0 and at most 1; 1 counts all.

    Source:
        Cremonesi et al. (2010), Performance of recommender algorithms on top-N recommendation tasks (TopPop); Ji et al.
        (2020), A re-visit of the popularity baseline in recommender systems, for counting what is recent, with shares
        of events in place of spans of time. Tables that count test events too (S3-Rec's PopRec on Beauty) are higher by
        what leaks.
    """

    kind: ClassVar[str] = "popularity"
    needs_item_vectors: ClassVar[bool] = False
    has_seed: ClassVar[bool] = False

    window: Annotated[float, Range(gt=0.0, le=1.0)] = 1.0

    @property
    def reads_times(self) -> bool:
        """Whether only the newest events count."""
        return self.window < 1.0

    def fit(self, dataset: Dataset, item_vectors: torch.Tensor | None = None) -> FittedPopularity:  # noqa: ARG002
        """Count the training events of each item; `item_vectors` are ignored."""
        counts_N = dataset.item_counts() if self.window == 1.0 else _newest_counts(dataset, self.window)
        return FittedPopularity(torch.from_numpy(counts_N.astype(np.int64)))

    def fit_operations(self, dataset: Dataset) -> float:
        """Sort and count the training events."""
        return _EVENT_OPERATIONS * float(dataset.split.train_lengths.sum())

    def fit_bytes(self, dataset: Dataset) -> float:
        """Hold events with their times, and counts."""
        return 32.0 * float(dataset.split.train_lengths.sum()) + 8.0 * len(dataset.catalogue)

    def from_tensors(self, tensors: Mapping[str, torch.Tensor]) -> FittedPopularity:
        """Restore the stored counts."""
        check_tensors(tensors, {"item_counts": (torch.int64, 1)}, self.kind)
        return FittedPopularity(tensors["item_counts"])


def _newest_counts(dataset: Dataset, window: float) -> NDArray[np.int64]:
    """Count the events of each item among the newest, shape (N,)."""
    sequences, lengths = dataset.sequences, dataset.split.train_lengths
    offsets, items_E = sequences.gather_flat(sequences.offsets[:-1], lengths)
    counted_E = np.ones(len(items_E), dtype=np.bool_)
    if len(items_E):
        starts = np.repeat(sequences.offsets[:-1] - offsets[:-1], lengths)
        # Lower is newer.
        if sequences.times is not None:
            ages_E = -sequences.times[np.arange(len(items_E)) + starts]
        else:
            ages_E = np.repeat(offsets[1:], lengths) - np.arange(len(items_E))
        # A share that is whole but for rounding is not rounded up: 0.07 of 100 is 7.
        last = max(1, math.ceil(window * len(items_E) - 1e-9)) - 1
        counted_E = ages_E <= np.partition(ages_E, last)[last]
    return np.bincount(items_E[counted_E], minlength=len(dataset.catalogue)).astype(np.int64)


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
