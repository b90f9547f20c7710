"""Group-fair exposure: a group of items gets at least a share of what users look at.

Shapes: B users, C candidates of a user, K places of a list, R users.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, ClassVar

import numpy as np

from peftrec.config import Range
from peftrec.retrieval.reranking.candidate import Candidates
from peftrec.retrieval.reranking.fact import ItemFacts
from peftrec.retrieval.reranking.step import Bools, Constraint, Ints, flat


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exposure(Constraint):
    """Give a group of items at least a share of each list's exposure, and of the places of each of its beginnings.

    The item at place t, from 1, has exposure 1 / log2(1 + t). An item of the group must come next where the first t
    places would else hold fewer than floor(share * t) of them, or where the rest of the list could not reach the share
    of the exposure any more though it were filled with the group. So the share of the exposure is reached wherever the
    candidates could reach it at all; where they hold too few of the group for it, only the counts are kept, as far as
    they go. Order within the group, and without, is that of the gains.

    Args:
        field: that says which group an item belongs to.
        values: of the group; an item that has one of them belongs to it.
        share: above 0 and below 1.
    Source:
        Exposure, and its discount, of Singh and Joachims (2018), Fairness of Exposure in Rankings, as a lower bound for
        one group in each single ranking, where theirs holds in expectation over a stochastic one. Lower bounds of
        counts in every prefix are those of Celis, Straszak and Vishnoi (2018), Ranking with Fairness Constraints; FA*IR
        (Zehlike et al. 2017) has the same form with quantiles of a binomial in place of floor(share * t), which at ten
        places allow far fewer than the share.
    """

    kind: ClassVar[str] = "exposure"
    field: str
    values: tuple[str, ...]
    share: Annotated[float, Range(gt=0, lt=1)]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("values: name at least one value of the group")

    def begin(self, candidates: Candidates, facts: ItemFacts, k: int) -> _Shared:
        """Look up which candidates belong to the group."""
        items, cells = flat(candidates)
        groups = facts.groups(self.field, items)
        wanted = [place for place, name in enumerate(groups.names) if name in self.values]
        members = np.zeros(candidates.items_BC.size, dtype=bool)
        members[cells] = groups.members(wanted)
        lengths_B = np.minimum((candidates.items_BC >= 0).sum(axis=1), k)
        return _Shared(members.reshape(candidates.items_BC.shape), lengths_B, self.share, k)


class _Shared:
    def __init__(self, members_BC: Bools, lengths_B: Ints, share: float, k: int) -> None:
        self._members_BC, self._lengths_B, self._share = members_BC, lengths_B, share
        # The exposure of the first t places, t from 0 to K.
        self._upto = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(k) + 2.0))])
        self._left_B = members_BC.sum(axis=1)
        self._held_B = np.zeros(len(members_BC), dtype=np.int64)
        self._exposed_B = np.zeros(len(members_BC))
        self._place = 0
        wanted_B = share * self._upto[lengths_B]
        reachable_B = self._upto[np.minimum(self._left_B, lengths_B)] >= wanted_B - 1e-12
        self._wanted_B = np.where(reachable_B, wanted_B, 0.0)

    def allowed(self, place: int) -> Bools:
        self._place = place
        # What the group could still reach if another item came next.
        last_B = np.minimum(place + 1 + self._left_B, np.maximum(self._lengths_B, place + 1))
        reach_B = self._exposed_B + self._upto[last_B] - self._upto[place + 1]
        # A hair more than the product, so that 0.3 * 10 is 3.
        too_few_B = self._held_B < math.floor(self._share * (place + 1) + 1e-9)
        must_B = too_few_B | (reach_B < self._wanted_B - 1e-12)
        allowed: Bools = self._members_BC | ~must_B[:, None]
        return allowed

    def take(self, rows: Ints, chosen: Ints) -> None:
        won_R = self._members_BC[rows, chosen]
        self._held_B[rows] += won_R
        self._left_B[rows] -= won_R
        self._exposed_B[rows] += won_R * (self._upto[self._place + 1] - self._upto[self._place])
