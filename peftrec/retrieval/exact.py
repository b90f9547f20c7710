"""The best items by exact score, without sorting the catalogue.

Shapes: B users, R users with something new, L places of a history, N items of the catalogue, n items of a block, g
groups of neighbouring items in it, w best of them, c candidates, K length of a list, D width of vectors.
"""

from __future__ import annotations

from typing import Final

import torch

from peftrec.config import InputError
from peftrec.evaluation.product import BLOCK_SCORES, Excluded, score_blocks

_GROUP: Final = 64


class BestItems:
    """The K best of items whose scores are shown a block at a time; of equal scores the lower index is first.

    Args:
        num_users: B.
        k: K, from 1.
        like: a tensor of the scores' type, on their device.
    """

    def __init__(self, num_users: int, k: int, like: torch.Tensor) -> None:
        self.k = k
        self.scores_BK = like.new_full((num_users, k), -torch.inf)
        self.items_BK = torch.full((num_users, k), -1, dtype=torch.int64, device=like.device)

    def add(self, start: int, scores_Bn: torch.Tensor) -> None:
        """Show the scores of the items that follow those shown before.

        Args:
            start: the first of them, above all shown before.
            scores_Bn: -inf where an item is to be left out.
        Raises:
            InputError: if a score is NaN.
        """
        width = scores_Bn.shape[1]
        grouped = width - width % _GROUP
        # Too few groups to leave any out: all are candidates.
        if grouped <= self.k * _GROUP:
            grouped = 0
        if grouped:
            self._add_grouped(start, scores_Bn[:, :grouped])
        if grouped < width:
            best_B = _orderly(scores_Bn[:, grouped:].amax(dim=1))
            rows_R = (best_B > self.scores_BK[:, -1]).nonzero()[:, 0]
            columns_c = torch.arange(grouped, width, device=rows_R.device)
            self._merge(rows_R, scores_Bn[rows_R, grouped:], (columns_c + start).expand(len(rows_R), -1))

    def _add_grouped(self, start: int, scores_Bn: torch.Tensor) -> None:
        """Look only into groups that hold something better than the K-th so far, and into the K best of those.

        The best K items of a block lie in its K best groups, by their best item and, where these are equal, by place:
        each of those groups holds an item that comes before all items of any other.
        """
        groups_BgG = scores_Bn.unflatten(1, (-1, _GROUP))  # type: ignore[no-untyped-call]
        best_Bg = _orderly(groups_BgG.amax(dim=2))
        counts_B = (best_Bg > self.scores_BK[:, -1:]).sum(dim=1)
        # Most users soon have one such group or none: they are not made to wait for a sort of those who have more.
        rows_R = (counts_B == 1).nonzero()[:, 0]
        if len(rows_R):
            self._add_groups(start, groups_BgG, rows_R, best_Bg[rows_R].argmax(dim=1, keepdim=True))
        rows_R = (counts_B > 1).nonzero()[:, 0]
        if len(rows_R):
            num = min(self.k, int(counts_B.max()))
            best_first_Rg = best_Bg[rows_R].sort(dim=1, descending=True, stable=True).indices
            self._add_groups(start, groups_BgG, rows_R, best_first_Rg[:, :num].sort(dim=1).values)

    def _add_groups(self, start: int, groups_BgG: torch.Tensor, rows_R: torch.Tensor, chosen_Rw: torch.Tensor) -> None:
        """Show the items of some groups to some users, groups in order of their place."""
        inside_G = torch.arange(_GROUP, device=rows_R.device)
        items_Rc = (start + chosen_Rw[..., None] * _GROUP + inside_G).flatten(1)
        self._merge(rows_R, groups_BgG[rows_R[:, None], chosen_Rw].flatten(1), items_Rc)

    def _merge(self, rows_R: torch.Tensor, scores_Rc: torch.Tensor, items_Rc: torch.Tensor) -> None:
        """Put candidates, in order of their index, into the lists of some users."""
        if not len(rows_R):
            return
        scores_Rc = torch.cat([self.scores_BK[rows_R], scores_Rc], dim=1)
        items_Rc = torch.cat([self.items_BK[rows_R], items_Rc], dim=1)
        found = scores_Rc.sort(dim=1, descending=True, stable=True)
        self.scores_BK[rows_R] = found.values[:, : self.k]
        self.items_BK[rows_R] = items_Rc.gather(1, found.indices[:, : self.k])

    def lists(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return items (B, K) and scores (B, K), best first; where fewer are left, the rest is -1 with score -inf."""
        return torch.where(self.scores_BK == -torch.inf, -1, self.items_BK), self.scores_BK


def top_items(
    scores_BN: torch.Tensor, k: int, *, exclude_BL: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the K items with the highest scores, best first; of equal scores the lower index is first.

    Args:
        scores_BN: higher is better.
        k: length of the lists; fewer come back where the catalogue is smaller.
        exclude_BL: items to leave out, -1 for padding; None leaves out nothing.
    Returns:
        Items (B, K) and their scores (B, K). Where a user has fewer than K items left, the rest is -1 with score -inf.
    Raises:
        ValueError: if k is below 1.
        InputError: if a score is NaN.
    """
    num_users, num_items = scores_BN.shape
    best = BestItems(num_users, _length(k, num_items), scores_BN)
    excluded = None if exclude_BL is None else Excluded.of(exclude_BL.cpu().numpy(), scores_BN.device)
    width = max(1, BLOCK_SCORES // max(1, num_users) // _GROUP) * _GROUP
    for start in range(0, num_items, width):
        block_Bn = scores_BN[:, start : start + width]
        if excluded is not None:
            rows, columns = excluded.within(start, start + width)
            if len(rows):
                block_Bn = block_Bn.clone()
                block_Bn[rows, columns] = -torch.inf
        best.add(start, block_Bn)
    return best.lists()


def top_products(
    users_BD: torch.Tensor,
    vectors_ND: torch.Tensor,
    bias_N: torch.Tensor,
    k: int,
    *,
    excluded: Excluded | None = None,
    refused_N: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the K items with the highest bias + user . item, as `top_items` does, a block of items at a time.

    Memory does not grow with N.

    Args:
        users_BD: user vectors.
        vectors_ND: item vectors.
        bias_N: of each item.
        k: length of the lists.
        excluded: items to leave out.
        refused_N: True for items that are left out of all lists; None for none.
    Raises:
        ValueError: if k is below 1.
        InputError: if a score is NaN.
    """
    best = BestItems(len(users_BD), _length(k, len(vectors_ND)), users_BD)
    for start, scores_Bn in score_blocks(users_BD, vectors_ND, bias_N):
        if refused_N is not None:
            scores_Bn.masked_fill_(refused_N[start : start + scores_Bn.shape[1]], -torch.inf)
        if excluded is not None:
            scores_Bn[excluded.within(start, start + scores_Bn.shape[1])] = -torch.inf
        best.add(start, scores_Bn)
    return best.lists()


def top_of_one(scores_N: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the K items with the highest scores of one user, as `top_items` does, shapes (1, K); made for speed.

    Args:
        scores_N: -inf where an item is left out.
        k: length of the list, from 1.
    Raises:
        InputError: if a score is NaN.
    """
    length = min(k, len(scores_N))
    grouped = len(scores_N) - len(scores_N) % _GROUP
    best_g = scores_N[:grouped].view(-1, _GROUP).amax(dim=1)
    if grouped < len(scores_N):
        best_g = torch.cat([best_g, scores_N[grouped:].amax()[None]])
    _orderly(best_g)
    # As many groups have an item of this score or a better one, so that nothing below it comes into the list.
    least = best_g.topk(length).values[-1] if length <= len(best_g) else best_g.new_tensor(-torch.inf)
    places_c = (scores_N >= least).nonzero()[:, 0]
    found = scores_N[places_c].sort(descending=True, stable=True)
    scores_K = found.values[:length]
    items_K = torch.where(scores_K == -torch.inf, -1, places_c[found.indices[:length]])
    return items_K[None], scores_K[None]


def _length(k: int, num_items: int) -> int:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return min(k, num_items)


def _orderly(best: torch.Tensor) -> torch.Tensor:
    """Refuse what is no number: the best of some scores is NaN if one of them is."""
    if bool(best.isnan().any()):
        raise InputError("a score is NaN: the model cannot rank items")
    return best
