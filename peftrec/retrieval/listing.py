"""Lists of the best items for many users, in constant memory.

Shapes: B users, L places of a history, N items of the catalogue, K length of a list, D width of vectors.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.evaluation import ProductScores, UserScores, users_at_once
from peftrec.evaluation.product import Excluded, batches_by_length
from peftrec.retrieval.exact import top_items, top_products

_USERS_AT_ONCE: Final = 512

_Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """Users for whom lists are asked, as models read them.

    Args:
        histories_BL: indexes of items, -1 for padding on the left.
        users_B: indexes of users of whom models have been told, or None.
        events_BL: kinds of the events, or None.
        times_BL: when they happened, milliseconds since 1970, or None.
        unknown_B: of whom nothing is known; their histories are empty.
    """

    histories_BL: _Ints
    users_B: _Ints | None
    events_BL: _Ints | None
    times_BL: _Ints | None
    unknown_B: NDArray[np.bool_]

    def given(self, rows: _Ints) -> tuple[_Ints, _Ints | None, _Ints | None, _Ints | None]:
        """Return what `UserScores` are given of some users, no wider than the longest of their histories."""
        valid = self.histories_BL[rows] >= 0
        length = max(1, int(valid.sum(axis=1).max(initial=0)))
        histories = self.histories_BL[rows, -length:]
        events, times = (None if one is None else one[rows, -length:] for one in (self.events_BL, self.times_BL))
        return histories, None if self.users_B is None else self.users_B[rows], events, times


@torch.no_grad()
def best_lists(
    scores: UserScores | ProductScores, asked: Asked, k: int, popularity_N: torch.Tensor, *, exclude_history: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the K best items of each user and their scores, as `top_items` does, on the CPU.

    Of `ProductScores` a block of items is held at a time, of others whole rows of as many users as are 256 MiB.

    Args:
        scores: what scores the catalogue.
        asked: the users.
        k: length of the lists.
        popularity_N: scores for users of whom nothing is known.
        exclude_history: leave out the items of each history.
    Raises:
        ValueError: if k is below 1.
        InputError: if a score is NaN.
    """
    num_users, num_items = len(asked.histories_BL), len(popularity_N)
    items_BK = torch.full((num_users, min(k, num_items)), -1, dtype=torch.int64)
    scores_BK = torch.full(items_BK.shape, -torch.inf)
    unknown, told = np.flatnonzero(asked.unknown_B), np.flatnonzero(~asked.unknown_B)
    items_BK[unknown], scores_BK[unknown] = (found.cpu() for found in top_items(popularity_N[None], k))
    lengths = (asked.histories_BL[told] >= 0).sum(axis=1)
    most = users_at_once(_USERS_AT_ONCE, num_items)
    if isinstance(scores, ProductScores):
        # The whole history is left out, but only its newest part is read.
        lengths, most = np.minimum(lengths, scores.max_history), _USERS_AT_ONCE
    for places in batches_by_length(lengths, most):
        rows = told[places]
        given = asked.given(rows)
        if isinstance(scores, ProductScores):
            users_BD = scores.user_vectors(*given)
            excluded = Excluded.of(given[0], users_BD.device) if exclude_history else None
            found = top_products(users_BD, scores.vectors_ND, scores.bias_N, k, excluded=excluded)
        else:
            found = top_items(scores(*given), k, exclude_BL=torch.from_numpy(given[0]) if exclude_history else None)
        items_BK[rows], scores_BK[rows] = (one.cpu() for one in found)
    return items_BK, scores_BK


@torch.no_grad()
def ranks_of_item(
    scores: UserScores | ProductScores,
    asked: Asked,
    item: int,
    popularity_N: torch.Tensor,
    *,
    refused_N: torch.Tensor | None = None,
) -> list[int]:
    """Return at which place each user's list, without the history, has an item; whole rows as in `best_lists`.

    Args:
        scores: and `asked`, `popularity_N`: as in `best_lists`.
        item: its index; in none of the histories.
        refused_N: True for items that are in no list, the item not among them; None for none.
    """
    ranks = []
    most = users_at_once(_USERS_AT_ONCE, len(popularity_N))
    for start in range(0, len(asked.histories_BL), most):
        rows = np.arange(start, min(start + most, len(asked.histories_BL)))
        given = asked.given(rows)
        if isinstance(scores, ProductScores):
            rows_BN = torch.addmm(scores.bias_N, scores.user_vectors(*given), scores.vectors_ND.T)
        else:
            rows_BN = scores(*given)
        unknown_B1 = torch.from_numpy(asked.unknown_B[rows, None]).to(rows_BN.device)
        rows_BN = torch.where(unknown_B1, popularity_N.to(rows_BN), rows_BN)
        # As in lists, of equal scores the item that stands first in the catalogue is first.
        above_BN = rows_BN > rows_BN[:, item, None]
        above_BN[:, : item + 1] |= rows_BN[:, : item + 1] == rows_BN[:, item, None]
        if refused_N is not None:
            above_BN &= ~refused_N
        above_BN[Excluded.of(given[0], rows_BN.device).within(0, len(popularity_N))] = False
        ranks += above_BN.sum(1).tolist()
    return ranks
