"""item_knn: items that the same users had as those of the history.

Shapes: U users, N catalogue, n items of a block, K neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import torch

from peftrec.baselines.baseline import Baseline
from peftrec.baselines.interaction import BLOCK_BYTES, Interactions
from peftrec.baselines.item_to_item import CHOICE_OPERATIONS, ItemToItem, largest
from peftrec.config import Range

if TYPE_CHECKING:
    from peftrec.data import Dataset


@dataclass(frozen=True, kw_only=True)
class ItemKNN(Baseline):
    """Rank items by the likeness of their users to the users of the history's items.

    likeness(j, i) = c / (c + shrinkage) * x_j . x_i / (|x_j| |x_i|), with x_i the users of item i and c the number of
    users that both have; score(i) = sum over the items j of the history of decay^k likeness(j, i), where k events are
    newer than j and i is among the `num_neighbours` items most like j (of equally like ones, the first of the
    catalogue). An item that is there several times counts once: in training, and in a history at its newest place. No
    item is a neighbour of itself. A user without history scores 0 everywhere, an item without training event 0 for all.

    Attributes:
        num_neighbours: items that each item speaks for, from 1.
        shrinkage: users in common at which half of the cosine is left, from 0.
        user_weights: `equal`, or `idf`, where each user counts log(1 + N / items that the user has), so that who has
            everything says little. BM25 would be the same: of events that are there or not, its other factors are the
            same for all users of an item, and the cosine does not see them.
        decay: weight of an event over that of the next newer one, above 0 and at most 1; 1 is the classical sum.

    Source:
        Sarwar et al. (2001), Item-based collaborative filtering recommendation algorithms (cosine); Deshpande and
        Karypis (2004), Item-based top-N recommendation algorithms, fig. 2 (neighbours of the history's items); Bell and
        Koren (2007), Scalable collaborative filtering with jointly derived neighborhood interpolation weights
        (shrinkage). The decay is ours.
    """

    kind: ClassVar[str] = "item_knn"
    needs_item_vectors: ClassVar[bool] = False
    has_seed: ClassVar[bool] = False

    num_neighbours: Annotated[int, Range(ge=1)] = 500
    shrinkage: Annotated[float, Range(ge=0.0)] = 5.0
    user_weights: Literal["equal", "idf"] = "idf"
    decay: Annotated[float, Range(gt=0.0, le=1.0)] = 0.7

    def fit(self, dataset: Dataset, item_vectors: torch.Tensor | None = None) -> ItemToItem:  # noqa: ARG002
        """Compare all items by their training events; `item_vectors` are ignored."""
        pairs = Interactions.of(dataset)
        num_items, num_kept = pairs.num_items, min(self.num_neighbours, pairs.num_items)
        # A user's weight stands in both vectors of a product.
        idf = np.log1p(num_items / np.maximum(pairs.user_items_U, 1)) ** 2
        weights_U = np.ones(pairs.num_users) if self.user_weights == "equal" else idf
        squared_N = np.bincount(pairs.items_P, weights_U[pairs.users_P], minlength=num_items)
        lengths_N = torch.from_numpy(np.sqrt(np.where(squared_N > 0, squared_N, 1.0)).astype(np.float32))
        items_NK = torch.zeros(num_items, num_kept, dtype=torch.int32)
        values_NK = torch.zeros(num_items, num_kept)
        shared = pairs.shared_users()
        weighed = pairs.shared_users(weights_U) if self.user_weights == "idf" else None
        for start, shared_nN in shared:
            products_nN = shared_nN if weighed is None else next(weighed)[1]
            rows_n = torch.arange(start, start + len(shared_nN))
            likeness_nN = products_nN / lengths_N / lengths_N[rows_n, None]
            # Two items without common user are 0 as they are, and with no shrinkage 0 / 0 would not be.
            likeness_nN *= shared_nN / (shared_nN + self.shrinkage).clamp(min=1.0)
            likeness_nN[rows_n - start, rows_n] = 0.0
            items_NK[rows_n], values_NK[rows_n] = largest(likeness_nN, num_kept)
        return ItemToItem(items_NK, values_NK, self.decay)

    def fit_operations(self, dataset: Dataset) -> float:
        """Count common users, with and without weights, and choose the largest of N^2 values."""
        counts = 2 if self.user_weights == "idf" else 1
        size = float(len(dataset.catalogue))
        return counts * Interactions.of(dataset).shared_operations + CHOICE_OPERATIONS * size**2

    def fit_bytes(self, dataset: Dataset) -> float:
        """Hold blocks of common users, of likeness and its order, and the neighbours."""
        size = len(dataset.catalogue)
        return 6 * BLOCK_BYTES + 8.0 * size * min(self.num_neighbours, size)

    def from_tensors(self, tensors: Mapping[str, torch.Tensor]) -> ItemToItem:
        """Restore the stored neighbours."""
        return ItemToItem.from_tensors(tensors, self.decay, self.kind)
