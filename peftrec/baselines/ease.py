"""ease: the linear model over items that gives back who has what, in closed form.

Shapes: N catalogue, M items with training events, n items of a block, K items kept for each item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.baselines.baseline import Baseline
from peftrec.baselines.interaction import BLOCK_BYTES, Interactions
from peftrec.baselines.item_to_item import CHOICE_OPERATIONS, ItemToItem, largest
from peftrec.config import InputError, Range

if TYPE_CHECKING:
    from peftrec.data import Dataset

# Of the inverse, relative: what float32 may lose before float64 is used.
_MOST_ERROR: Final = 1e-4
# A matrix and what is made of it.
_MATRICES: Final = 2
_ROWS: Final = 512


@dataclass(frozen=True, kw_only=True)
class EASE(Baseline):
    """Rank items by the linear regression of each item on all others.

    P = (X'X + regularisation I)^-1, B(j, i) = -P(j, i) / P(i, i), B(i, i) = 0, with X(u, i) = 1 where user u has item i
    in training, however often; score(i) = sum over the items j of the history of decay^k B(j, i), where k events are
    newer than j. An item that a history holds several times counts once, at its newest place. A user without history
    scores 0 everywhere, an item without training event 0 for all; other scores may be below 0.

    Attributes:
        regularisation: added to the diagonal, above 0, in events.
        decay: weight of an event over that of the next newer one, above 0 and at most 1; 1 is EASE as published.
        num_kept: of each row of B, the values that are kept, those of largest size, from 1; the catalogue's size or
            more keeps all.
        max_memory_mib: what the matrices may take, in MiB; a catalogue that needs more is refused before the work.

    Source:
        Steck (2019), Embarrassingly shallow autoencoders for sparse data, eq. 8. Decay and pruning are ours.
    """

    kind: ClassVar[str] = "ease"
    needs_item_vectors: ClassVar[bool] = False
    has_seed: ClassVar[bool] = False

    regularisation: Annotated[float, Range(gt=0.0)] = 300.0
    decay: Annotated[float, Range(gt=0.0, le=1.0)] = 0.7
    num_kept: Annotated[int, Range(ge=1)] = 200
    max_memory_mib: Annotated[float, Range(gt=0.0)] = 4096.0

    def fit(self, dataset: Dataset, item_vectors: torch.Tensor | None = None) -> ItemToItem:  # noqa: ARG002
        """Invert the matrix of common users; `item_vectors` are ignored.

        Raises:
            InputError: if the matrices would take more than `max_memory_mib`.
        """
        pairs, trained_M = Interactions.of(dataset).of_trained_items()
        num_items = len(dataset.catalogue)
        dtype = self._dtype(pairs)
        self._check_memory(len(trained_M), dtype)
        inverse_MM = regularised_inverse(pairs, self.regularisation, dtype)
        return ItemToItem(*self.pruned(inverse_MM, trained_M, num_items), self.decay)

    def fit_operations(self, dataset: Dataset) -> float:
        """Count common users, factor and invert (M^3), and choose the largest of M^2 values."""
        pairs, trained_M = Interactions.of(dataset).of_trained_items()
        size = float(len(trained_M))
        width = 2.0 if self._dtype(pairs) == torch.float64 else 1.0
        return pairs.shared_operations + width * size**3 + CHOICE_OPERATIONS * size**2

    def fit_bytes(self, dataset: Dataset) -> float:
        """Hold the matrices, blocks of common users, and what is kept of each row."""
        pairs, trained_M = Interactions.of(dataset).of_trained_items()
        kept = 8.0 * len(dataset.catalogue) * min(self.num_kept, len(dataset.catalogue))
        return _MATRICES * float(len(trained_M)) ** 2 * self._dtype(pairs).itemsize + 2 * BLOCK_BYTES + kept

    def from_tensors(self, tensors: Mapping[str, torch.Tensor]) -> ItemToItem:
        """Restore what was kept of the rows."""
        return ItemToItem.from_tensors(tensors, self.decay, self.kind)

    def pruned(
        self, inverse_MM: torch.Tensor, trained_M: NDArray[np.int64], num_items: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is kept of the rows of B, as `ItemToItem` takes it."""
        kept = min(self.num_kept, num_items)
        items_NK = torch.zeros(num_items, kept, dtype=torch.int32)
        values_NK = torch.zeros(num_items, kept)
        trained = torch.from_numpy(trained_M)
        diagonal_M = inverse_MM.diagonal().clone()
        for start in range(0, len(trained), _ROWS):
            rows_nM = (inverse_MM[start : start + _ROWS] / -diagonal_M).float()
            rows_nM.diagonal(start).zero_()
            columns_nK, kept_nK = largest(rows_nM, min(kept, len(trained)))
            here = trained[start : start + _ROWS]
            found_nK = torch.where(kept_nK == 0, 0, trained[columns_nK.long()])
            items_NK[here, : found_nK.shape[1]] = found_nK.to(torch.int32)
            values_NK[here, : found_nK.shape[1]] = kept_nK
        return items_NK, values_NK

    def _dtype(self, pairs: Interactions) -> torch.dtype:
        """Return the precision in which the inverse is close enough.

        Its relative error is near the rounding times the ratio of the largest eigenvalue to the smallest, which is at
        most 1 + the largest row sum of X'X / regularisation.
        """
        row_sums_M = np.bincount(pairs.items_P, pairs.user_items_U[pairs.users_P], minlength=pairs.num_items)
        ratio = 1.0 + float(row_sums_M.max(initial=0.0)) / self.regularisation
        return torch.float32 if ratio * 2.0**-24 <= _MOST_ERROR else torch.float64

    def _check_memory(self, num_items: int, dtype: torch.dtype) -> None:
        needed = _MATRICES * num_items**2 * dtype.itemsize / 2**20
        if needed > self.max_memory_mib:
            raise InputError(
                f"baseline.kind: ease inverts a matrix of {num_items:,} x {num_items:,} (items with training events), "
                f"which takes {needed:,.0f} MiB in {str(dtype).removeprefix('torch.')}; baseline.max_memory_mib is "
                f"{self.max_memory_mib:,.0f}: raise it where there is so much, or use item_knn or ials"
            )


def regularised_inverse(pairs: Interactions, regularisation: float, dtype: torch.dtype) -> torch.Tensor:
    """Return (X'X + regularisation I)^-1, shape (M, M), with X(u, i) = 1 where user u has item i.

    Args:
        pairs: of the M items.
        regularisation: above 0.
        dtype: that it is computed in.
    """
    matrix_MM = torch.empty(pairs.num_items, pairs.num_items, dtype=dtype)
    for start, shared_nM in pairs.shared_users():
        matrix_MM[start : start + len(shared_nM)] = shared_nM
    matrix_MM.diagonal().add_(regularisation)
    matrix_MM = torch.linalg.cholesky(matrix_MM)
    return torch.cholesky_inverse(matrix_MM)
