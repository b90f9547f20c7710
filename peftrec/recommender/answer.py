"""Lists and ranks as people get them.

Shapes: B users, D width of vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peftrec.config import InputError
from peftrec.evaluation import ProductScores, UserScores
from peftrec.models import scores_with
from peftrec.publishing import Run
from peftrec.recommender.list_maker import ListMaker
from peftrec.recommender.shelf import NOBODY, NOTHING_LEFT, NOTHING_PASSES, Shelf, described
from peftrec.recommender.stock_view import Choice, StockView
from peftrec.retrieval import (
    Allowed,
    Asked,
    ItemIndex,
    Recommendations,
    index_recall,
    ranks_of_item,
)
from peftrec.retrieval.exact_index import ExactConfig
from peftrec.retrieval.list_plan import ListPlan


class Answers:
    """Makes lists of the items of a moment, with the scores of a run.

    Args:
        run: that is asked.
        scorer: of the items that it was trained with.
    """

    def __init__(self, run: Run, scorer: UserScores | ProductScores) -> None:
        self._run, self._scorer = run, scorer

    def lists(
        self,
        asked: Asked,
        choice: Choice,
        view: StockView,
        k: int,
        *,
        exclude_history: bool,
        plan: ListPlan,
        ages: Sequence[float | None] | None = None,
    ) -> list[Recommendations]:
        """Return the lists of some users; arguments as in `ListMaker.lists`.

        Beside these, `plan` says how lists are made of what is found, and `ages` how old users are, None where that is
        not known.
        """
        allowed = view.allowed(choice)
        if allowed is not None and not allowed.count:
            fallback = asked.unknown_B.tolist()
            return [Recommendations(reason=NOTHING_PASSES, fallback=one) for one in fallback]
        if not plan.is_plain:
            shelf = Shelf(self._maker(view), plan, allowed)
            return shelf.lists(asked, k, ages, exclude_history=exclude_history)
        found = self._maker(view).lists(asked, k, allowed, exclude_history=exclude_history)
        return [
            Recommendations(
                described(entries, view),
                reason=NOBODY if unknown else None if entries else NOTHING_LEFT,
                fallback=unknown,
            )
            for entries, unknown in zip(found, asked.unknown_B.tolist(), strict=True)
        ]

    def similar(
        self, row: int, choice: Choice, view: StockView, k: int, plan: ListPlan, age: float | None = None
    ) -> Recommendations:
        """Return the rows most like a row; arguments as in `ListMaker.similar` and `lists`."""
        maker, allowed = self._maker(view), view.allowed(choice)
        if not plan.is_plain and not _is_empty(allowed):
            return Shelf(maker, plan, allowed).similar(row, k, age)
        entries = [] if view.index is not None and _is_empty(allowed) else maker.similar(row, k, allowed)
        reason = None if entries else NOTHING_PASSES
        return Recommendations(described(entries, view), reason=reason)

    def ranks(self, asked: Asked, view: StockView, row: int) -> list[int]:
        """Return at which place each user's list has a row."""
        refused_N = None if view.live is None else view.live.refused_N
        return ranks_of_item(self.scorer(view), asked, row, view.popularity_N, refused_N=refused_N)

    def index_report(self, asked: Asked, view: StockView, index: ItemIndex | None, k: int) -> dict[str, Any]:
        """Return what an index is, and how much of exact lists it finds for some users."""
        scorer = self.scorer(view)
        if view.index is None or index is None or not isinstance(scorer, ProductScores):
            raise InputError("this run has no index: its scores are no products of vectors")
        users_BD = scorer.user_vectors(asked.histories_BL, asked.users_B, asked.events_BL, asked.times_BL)
        exact = ExactConfig().build(view.index.vectors_ND, view.index.bias_N)
        if view.live is not None:
            exact.remove(view.live.refused_N.nonzero()[:, 0].cpu().numpy())
        recall = index_recall(view.index, exact.view, users_BD, k)
        return index.describe() | {f"recall@{k}": recall, "queries": len(users_BD)}

    def scorer(self, view: StockView) -> UserScores | ProductScores:
        """Return what scores the rows of a view."""
        if self._run.model is None or view.index is None:
            return self._scorer
        return scores_with(self._run.model, view.index.vectors_ND, view.index.bias_N)

    def _maker(self, view: StockView) -> ListMaker:
        return ListMaker(view, self.scorer(view), self._run.recipe.retrieval)


def _is_empty(allowed: Allowed | None) -> bool:
    return allowed is not None and not allowed.count
