"""Calibrated lists: categories in the shares that the user's history has them.

Shapes: B users, C candidates of a user, G categories, S categories of one history at most, E events.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, ClassVar, Final

import numpy as np

from peftrec.config import Range
from peftrec.metrics import CategoryShares
from peftrec.retrieval.reranking.candidate import Candidates
from peftrec.retrieval.reranking.fact import ItemFacts
from peftrec.retrieval.reranking.step import Bools, Floats, Ints, Objective, flat

_ALPHA: Final = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration(Objective):
    """Add minus the divergence that the list would have from the history with the item on it.

    gain = (1 - strength) * relevance - strength * KL(p || q~), q~ = (1 - alpha) q + alpha p with alpha 0.01: p shares
    out the events of the history evenly over the values of their items, q the places of the list so far and this item.
    Items without a value are left out of both; a history without any value leaves the order as it is.

    Args:
        field: whose values are the categories.
        strength: from 0 to 1; lambda of the paper.
    Source:
        Steck (2018), Calibrated Recommendations, eq. 3 to 6, the greedy algorithm of section 4; weights of all events
        and places are 1, relevance is stretched to 0 to 1 over the candidates.
    """

    kind: ClassVar[str] = "calibration"
    field: str
    strength: Annotated[float, Range(ge=0, le=1)]

    @property
    def weight(self) -> float:
        """The strength."""
        return self.strength

    def begin(self, candidates: Candidates, facts: ItemFacts) -> _Divergence:
        """Share out histories and candidates over the categories of each history."""
        num_users, num_candidates = candidates.items_BC.shape
        items, cells = flat(candidates)
        num_events = len(candidates.history_items)
        # Asked about together, so that both have one numbering of values.
        groups = facts.groups(self.field, np.concatenate([candidates.history_items, items]))
        shares = CategoryShares.even(groups.places, groups.offsets, max(1, len(groups.names)))
        rows_E = np.repeat(np.arange(num_users), np.diff(candidates.history_offsets))
        history_BG = shares.distributions(np.arange(num_events), rows_E, num_users)
        item_cells = np.arange(num_events, num_events + len(items))
        item_BCG = shares.distributions(item_cells, cells, num_users * num_candidates)
        known_BC = np.zeros(num_users * num_candidates, dtype=bool)
        known_BC[cells] = groups.known[num_events:]
        # What is not in a history adds nothing to the divergence but by being counted.
        width = max(1, int((history_BG > 0).sum(axis=1).max(initial=0)))
        support_BS = np.argsort(-history_BG, axis=1, kind="stable")[:, :width]
        item_BCS = np.take_along_axis(item_BCG.reshape(num_users, num_candidates, -1), support_BS[:, None, :], axis=2)
        history_BS = np.take_along_axis(history_BG, support_BS, axis=1)
        return _Divergence(history_BS, item_BCS, known_BC.reshape(num_users, num_candidates))


class _Divergence:
    def __init__(self, history_BS: Floats, item_BCS: Floats, known_BC: Bools) -> None:
        self._history_BS, self._item_BCS, self._known_BC = history_BS, item_BCS, known_BC
        self._sums_BS = np.zeros_like(history_BS)
        self._counts_B = np.zeros(len(history_BS), dtype=np.int64)
        # KL = sum of p ln p - sum of p ln q~; where p is 0 the term is 0, and the logarithm is kept finite.
        self._constant_B1 = _sum_p_ln_p(history_BS)[:, None]
        self._floor_B1S = _ALPHA * np.where(history_BS > 0, history_BS, 1.0)[:, None]
        self._told_B1 = history_BS.any(axis=1, keepdims=True)

    def gain(self) -> Floats:
        counts_BC = self._counts_B[:, None] + self._known_BC
        mixed_BCS = self._item_BCS + self._sums_BS[:, None]
        mixed_BCS *= ((1.0 - _ALPHA) / np.maximum(counts_BC, 1))[:, :, None]
        mixed_BCS += self._floor_B1S
        np.log(mixed_BCS, out=mixed_BCS)
        divergence_BC = self._constant_B1 - np.matmul(mixed_BCS, self._history_BS[:, :, None])[:, :, 0]
        # A list without any category is as far as one without any of the history.
        return -np.where(self._told_B1, np.where(counts_BC > 0, divergence_BC, -math.log(_ALPHA)), 0.0)

    def take(self, rows: Ints, chosen: Ints) -> None:
        self._sums_BS[rows] += self._item_BCS[rows, chosen]
        self._counts_B[rows] += self._known_BC[rows, chosen]


def _sum_p_ln_p(history_BS: Floats) -> Floats:
    logarithms_BS = np.log(np.where(history_BS > 0, history_BS, 1.0))
    sums_B: Floats = np.einsum("bs,bs->b", history_BS, logarithms_BS)
    return sums_B
