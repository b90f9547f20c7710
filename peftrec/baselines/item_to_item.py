"""Scores that are sums over the history of what each of its items says for others, kept sparse.

Shapes: B batch, L history, E events of a batch, N catalogue, K items kept for each item, n items of a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.baselines.baseline import check_histories, check_tensors
from peftrec.baselines.interaction import event_weights, newest_places
from peftrec.config import InputError

# Of a matrix product, while `largest` looks at one value.
CHOICE_OPERATIONS: Final = 5e3
# Numbers that are added at once: 32 MiB of scores and 64 MiB of their places.
_AT_ONCE: Final = 2**23


class ItemToItem:
    """Each item speaks for its K kept items; places that none fills hold item 0 with the value 0.

    score(i) = sum over the items j of the history of w(j) value(j, i), w as in `event_weights`. Nothing speaks for an
    item that is kept nowhere: it scores 0, and so does every item for a user without history.

    Args:
        items_NK: int32, the kept items of each item.
        values_NK: float32, what they are given.
        decay: weight of an event over that of the next newer one, above 0 and at most 1.
    """

    def __init__(self, items_NK: torch.Tensor, values_NK: torch.Tensor, decay: float) -> None:
        # Values come largest first, so what no row fills is the last columns.
        filled = max(1, int((values_NK != 0).sum(dim=1).max()))
        self._items_NK, self._values_NK, self._decay = items_NK[:, :filled], values_NK[:, :filled], decay

    def scores(self, histories_BL: NDArray[np.int64]) -> torch.Tensor:
        """Score the catalogue by the sum over the history, shape (B, N)."""
        num_items, num_kept = self._items_NK.shape
        check_histories(histories_BL, num_items)
        weights_BL = event_weights(newest_places(histories_BL), self._decay).astype(np.float32)
        rows_E, columns_E = np.nonzero(weights_BL)
        weights_E = torch.from_numpy(weights_BL[rows_E, columns_E])
        speakers_E = torch.from_numpy(histories_BL[rows_E, columns_E])
        starts_E = torch.from_numpy(rows_E * num_items)
        scores = torch.zeros(len(histories_BL) * num_items)
        step = max(1, _AT_ONCE // max(1, num_kept))
        for start in range(0, len(rows_E), step):
            here = slice(start, start + step)
            values_EK = weights_E[here, None] * self._values_NK[speakers_E[here]]
            said_EK = values_EK != 0
            places_EK = starts_E[here, None] + self._items_NK[speakers_E[here]]
            scores.scatter_add_(0, places_EK[said_EK], values_EK[said_EK])
        return scores.view(len(histories_BL), num_items)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Give `items`, int32, and `values`, float32, both of shape (N, K)."""
        return {"items": self._items_NK, "values": self._values_NK}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], decay: float, kind: str) -> ItemToItem:
        """Restore what `tensors` gave.

        Raises:
            InputError: if they are not such tensors.
        """
        check_tensors(tensors, {"items": (torch.int32, 2), "values": (torch.float32, 2)}, kind)
        items_NK, values_NK = tensors["items"], tensors["values"]
        if items_NK.shape != values_NK.shape:
            shapes = f"{tuple(items_NK.shape)} and {tuple(values_NK.shape)}"
            raise InputError(f"{kind} tensors 'items' and 'values' must have one shape, got {shapes}")
        if items_NK.numel() and not 0 <= int(items_NK.min()) <= int(items_NK.max()) < len(items_NK):
            raise InputError(f"{kind} tensor 'items' must hold items 0 to {len(items_NK) - 1}")
        return cls(items_NK, values_NK, decay)


def largest(values_nN: torch.Tensor, num_kept: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep the values of each row that are largest without their sign; of equal ones, those that stand first.

    Args:
        values_nN: float32, finite.
        num_kept: K, at most N.
    Returns:
        Columns, int32, and values, both of shape (n, K), largest first; where a row has fewer than K values other than
        0, column 0 with the value 0 fills the rest.
    """
    num_columns = values_nN.shape[1]
    # Bits of floats above 0 have the order of the floats; the column below them settles ties.
    bits_nN = values_nN.abs().contiguous().view(torch.int32).to(torch.int64)
    keys_nN = (bits_nN << 32) + torch.arange(num_columns - 1, -1, -1)
    columns_nK = keys_nN.topk(num_kept, dim=1).indices
    kept_nK = values_nN.gather(1, columns_nK)
    return torch.where(kept_nK == 0, 0, columns_nK).to(torch.int32), kept_nK
