"""Lists that rules and re-ranking have a say in.

Shapes: N rows, C candidates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.recommender.list_facts import facts_of
from peftrec.recommender.list_maker import ListMaker
from peftrec.recommender.stock_view import StockView
from peftrec.retrieval import Allowed, Asked, Candidate, Recommendation, Recommendations
from peftrec.retrieval.list_plan import Listed, ListPlan, Search

NOBODY: Final = "nothing is known of the user: these are the most popular items"
NOTHING_PASSES: Final = "no item passes the filter"
NOTHING_LEFT: Final = "the history has every item that could be recommended"
RULED_OUT: Final = "rules leave nothing of what could be recommended"

_Find = Callable[[int, Allowed | None], list[Candidate]]


@dataclasses.dataclass(frozen=True, eq=False)
class Shelf:
    """Makes lists as a plan says.

    Args:
        maker: finds the best rows.
        plan: rules and re-ranking.
        allowed: rows that pass the filter; None: all.
    """

    maker: ListMaker
    plan: ListPlan
    allowed: Allowed | None

    def lists(
        self, asked: Asked, k: int, ages: Sequence[float | None] | None, *, exclude_history: bool
    ) -> list[Recommendations]:
        """Return the lists of some users; the first search is of all together."""
        num = self.plan.num_asked(k)
        best = self.maker.lists(asked, num, self.allowed, exclude_history=exclude_history)
        made = []
        for user, first in enumerate(best):

            def find(count: int, allowed: Allowed | None, user: int = user) -> list[Candidate]:
                return self.maker.lists(one_of(asked, user), count, allowed, exclude_history=exclude_history)[0]

            history = asked.histories_BL[user]
            found = self._make(
                _Found(find, self, first, num), k, history[history >= 0], None if ages is None else ages[user]
            )
            unknown = bool(asked.unknown_B[user])
            empty = RULED_OUT if found.suppressed else NOTHING_LEFT
            found.reason = NOBODY if unknown and found else None if found else empty
            found.fallback = unknown
            made.append(found)
        return made

    def similar(self, row: int, k: int, age: float | None) -> Recommendations:
        """Return the rows most like a row."""

        def find(count: int, allowed: Allowed | None) -> list[Candidate]:
            return self.maker.similar(row, count, allowed)

        num = self.plan.num_asked(k)
        found = self._make(_Found(find, self, find(num, self.allowed), num), k, np.array([row]), age)
        found.reason = None if found else RULED_OUT if found.suppressed else NOTHING_PASSES
        return found

    def without(self, hidden_N: NDArray[np.bool_]) -> Allowed:
        """Return the allowed rows that are not hidden."""
        num_rows, device = self.maker.view.num_rows, self.maker.view.popularity_N.device
        shown_N = torch.zeros(num_rows, dtype=torch.bool)
        # Rules may know rows already that this view does not have yet.
        known = min(num_rows, len(hidden_N))
        shown_N[:known] = torch.from_numpy(~hidden_N[:known])
        shown_N = shown_N.to(device)
        return Allowed(shown_N if self.allowed is None else shown_N & self.allowed.mask_N)

    def _make(self, found: _Found, k: int, history: NDArray[np.int64], age: float | None) -> Recommendations:
        view = self.maker.view
        listed: Listed = self.plan.make(found.search, facts_of(view), view.ids.__getitem__, k, history=history, age=age)
        entries = [
            Candidate(row, score, found.source[row])
            for row, score in zip(listed.rows.tolist(), listed.scores.tolist(), strict=True)
        ]
        return Recommendations(described(entries, view), suppressed=listed.suppressed)


class _Found:
    """What was found for one list, and who found it.

    Args:
        find: finds more.
        shelf: that asks.
        first: found already.
        num: so many were asked for.
    """

    def __init__(self, find: _Find, shelf: Shelf, first: list[Candidate], num: int) -> None:
        self._find, self._shelf, self._first, self._num = find, shelf, first, num
        self.source: dict[int, str] = {}
        self.search: Search = self._search

    def _search(self, count: int, hidden_N: NDArray[np.bool_] | None) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
        if hidden_N is None and count <= self._num:
            entries = self._first[:count]
        elif hidden_N is None:
            entries = self._find(count, self._shelf.allowed)
        else:
            allowed = self._shelf.without(hidden_N)
            entries = self._find(count, allowed) if allowed.count else []
        self.source |= {one.row: one.source for one in entries}
        rows = np.array([one.row for one in entries], dtype=np.int64)
        return rows, np.array([one.score for one in entries], dtype=np.float64)


def one_of(asked: Asked, user: int) -> Asked:
    """Return one of several users."""
    part = slice(user, user + 1)
    users, events, times = (
        None if one is None else one[part] for one in (asked.users_B, asked.events_BL, asked.times_BL)
    )
    return Asked(asked.histories_BL[part], users, events, times, asked.unknown_B[part])


def described(entries: Sequence[Candidate], view: StockView) -> list[Recommendation]:
    """Return the entries of a list with their ids and titles."""
    return [
        Recommendation(
            rank=rank, score=one.score, item_id=view.ids[one.row], title=view.titles[one.row], source=one.source
        )
        for rank, one in enumerate(entries, start=1)
    ]
