"""From a search to the list that is shown: rules before the cut, then re-ranking.

Shapes: N rows of the index, C candidates, K places of a list.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from peftrec.retrieval.recommendation import Suppressed
from peftrec.retrieval.reranking import Candidates, ItemFacts, Reranking, Step, make_lists
from peftrec.retrieval.reranking.cap import HardCap
from peftrec.retrieval.rules import RuleBook, Verdicts

_Ints = NDArray[np.int64]
Search = Callable[[int, NDArray[np.bool_] | None], tuple[_Ints, NDArray[np.floating]]]
"""Given a number and which rows to leave out, the best rows and their scores, best first; fewer where no more.

The mask may be shorter than the index, where items were added meanwhile: rows beyond it are left out too."""
# Hidden items are mostly few: with so many more asked for, one search does.
_SPARE: Final = 16
# Where a hard limit leaves a list too short, it is made anew from so many times the candidates.
_WIDER: Final = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Listed:
    """A list as it is shown.

    Args:
        rows: of the index, best first, shape (K,) or shorter.
        scores: the model's, of the same, shape (K,); re-ranking changes the order, not these.
        suppressed: items that would have stood in the list but for a rule: hidden ones among the k best of the search,
            and those among the k best of what may be shown that found a limit reached.
    """

    rows: _Ints
    scores: NDArray[np.floating]
    suppressed: tuple[Suppressed, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class ListPlan:
    """How lists are made of what a search finds.

    Args:
        reranking: steps; None keeps the order of the scores.
        rules: hard rules; None: there are none.
    """

    reranking: Reranking | None = None
    rules: RuleBook | None = None

    def num_asked(self, k: int) -> int:
        """Return how many items the first search for a list of k is asked for."""
        return self._num_candidates(k) + (0 if self.rules is None else _SPARE)

    def _num_candidates(self, k: int) -> int:
        return k if self.reranking is None or not self.reranking.steps else self.reranking.num_candidates(k)

    @property
    def is_plain(self) -> bool:
        """Whether a list is just the best items."""
        return self.rules is None and (self.reranking is None or not self.reranking.steps)

    def make(
        self,
        search: Search,
        facts: ItemFacts,
        item_id: Callable[[int], str],
        k: int,
        *,
        history: _Ints | None = None,
        age: float | None = None,
    ) -> Listed:
        """Make one user's list.

        What rules forbid is left out of the search, so that k items come back wherever there are as many that may be
        shown; a limit of lists (`at_most`) widens the search until the list is full or nothing is left. Constraints of
        re-ranking stand behind those of rules.

        Args:
            search: of the index, without the user's history and without what a filter leaves out.
            facts: of items.
            item_id: gives the id of the item in a row.
            k: length of the list, from 1.
            history: rows of the user's history, for calibration.
            age: of the user in years; None is taken to be below every age.
        Raises:
            InputError: if facts lack what a step needs.
        """
        limits = [] if self.rules is None else self.rules.limits
        steps: list[Step] = [] if self.reranking is None else [*self.reranking.steps]
        # One that rules lay down gives way to none of the recipe's.
        steps = [*(cap for _, cap in limits), *steps]
        count = self._num_candidates(k)
        verdicts = None if self.rules is None else self.rules.verdicts
        hidden_N = None if verdicts is None else verdicts.hidden(age)
        while True:
            best, rows, scores, is_all = _allowed(search, count, hidden_N)
            if not steps:
                places = np.arange(min(k, len(rows)))
            else:
                own = np.empty(0, dtype=np.int64) if history is None else history
                (places,) = make_lists(steps, Candidates.of_one(rows, scores, own), facts, k)
                places = places[places >= 0]
            if len(places) == k or is_all or not limits:
                break
            count *= _WIDER
        kept_out = [] if verdicts is None else _hidden(verdicts, best[:k], age, item_id)
        shown = set(places.tolist())
        passed = [int(rows[place]) for place in range(min(k, len(rows))) if place not in shown]
        for name, cap in limits:
            kept_out += _full(name, cap, rows[places], passed, facts, item_id)
        first: dict[str, Suppressed] = {}
        for one in kept_out:
            first.setdefault(one.item_id, one)
        return Listed(rows[places], scores[places], tuple(first.values()))


def _allowed(
    search: Search, count: int, hidden_N: NDArray[np.bool_] | None
) -> tuple[_Ints, _Ints, NDArray[np.floating], bool]:
    """Return the best rows, those of them that may be shown with their scores, and whether there are no more."""
    if hidden_N is None or not hidden_N.any():
        rows, scores = search(count, None)
        return rows, rows, scores, len(rows) < count
    best, scores = search(count + _SPARE, None)
    # What came into the index a moment ago has no verdict yet: it is not shown.
    kept = ~np.array([_is_hidden(hidden_N, row) for row in best.tolist()], dtype=bool)
    if kept.sum() >= count or len(best) < count + _SPARE:
        return best, best[kept][:count], scores[kept][:count], len(best) < count + _SPARE
    rows, scores = search(count, hidden_N)
    return best, rows, scores, len(rows) < count


def _is_hidden(hidden_N: NDArray[np.bool_], row: int) -> bool:
    return row >= len(hidden_N) or bool(hidden_N[row])


def _hidden(verdicts: Verdicts, rows: _Ints, age: float | None, item_id: Callable[[int], str]) -> list[Suppressed]:
    """Tell which of some rows a rule hides."""
    told = ((row, verdicts.why(row, age)) for row in rows.tolist() if row < len(verdicts.rule_N))
    return [Suppressed(item_id=item_id(row), rule=why[0], reason=why[1]) for row, why in told if why is not None]


def _full(
    name: str, cap: HardCap, shown: _Ints, passed: list[int], facts: ItemFacts, item_id: Callable[[int], str]
) -> list[Suppressed]:
    """Tell which of the items that were passed over found a value full."""
    if not passed:
        return []
    groups = facts.groups(cap.field, np.concatenate([shown, np.array(passed, dtype=np.int64)]))
    counts = np.bincount(groups.places[: groups.offsets[len(shown)]], minlength=len(groups.names))
    found = []
    for place, row in enumerate(passed, start=len(shown)):
        own = groups.places[groups.offsets[place] : groups.offsets[place + 1]]
        full = next((value for value in own.tolist() if counts[value] >= cap.most), None)
        if full is not None:
            reason = f"the list has {cap.most} of {cap.field} '{groups.names[full]}'"
            found.append(Suppressed(item_id=item_id(row), rule=name, reason=reason))
    return found
