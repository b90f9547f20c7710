"""Why items are in a list, for the items of one moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from peftrec.evaluation import ProductScores, UserScores
from peftrec.explaining import Explained, Explanation, SentenceTemplates, explain
from peftrec.recommender.shelving import Shelving
from peftrec.recommender.stock import Stock
from peftrec.recommender.stock_view import StockView
from peftrec.retrieval import Asked


class Reasons:
    """Explains the scores of a run.

    Args:
        stock: the items.
        shelving: which knows what their vectors were made from.
    """

    def __init__(self, stock: Stock, shelving: Shelving) -> None:
        self._stock, self._shelving = stock, shelving

    def explain(
        self,
        scorer: UserScores | ProductScores,
        view: StockView,
        asked: Asked,
        rows: Sequence[int],
        *,
        words: bool,
        num_evidence: int | None,
        templates: SentenceTemplates | None,
        answered: Callable[[], None],
    ) -> list[Explanation]:
        """Return one explanation a row; arguments as of `peftrec.explaining.explain` and `Explained`."""
        explained = Explained(
            scores=scorer,
            ids=view.ids,
            titles=view.titles,
            popularity_N=view.popularity_N,
            subject=self._shelving.subject,
            # Items that are added meanwhile are encoded by the same encoder.
            turn=lambda: self._stock.writing,
            answered=answered,
        )
        items = np.asarray(rows, dtype=np.int64)
        return explain(explained, asked, items, words=words, num_evidence=num_evidence, templates=templates)
