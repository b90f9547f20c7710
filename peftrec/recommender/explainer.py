"""Why a recommender's items have their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from peftrec.config import InputError
from peftrec.data.given_history import Moment
from peftrec.data.item_field import FieldKind
from peftrec.explaining import Explanation, SentenceTemplates
from peftrec.publishing import Run
from peftrec.recipe import Recipe
from peftrec.recommender.answer import Answers
from peftrec.recommender.capability import Capabilities, capabilities_of
from peftrec.recommender.item_keeper import ItemKeeper
from peftrec.recommender.question import Questions, Told
from peftrec.recommender.reason import Reasons
from peftrec.recommender.stock import Stock


class Explainer(ItemKeeper):
    """The part of `Recommender` that says why.

    Args:
        run: a loaded run.
    """

    def __init__(self, run: Run) -> None:
        scorer = run.scorer
        super().__init__(run, Stock.of(run.catalogue, run.train_counts_N, scorer, run.recipe.retrieval.index))
        self._run = run
        self._questions = Questions(run, self._stock)
        self._answers = Answers(run, scorer)
        self._reasons = Reasons(self._stock, self._shelving)
        self._capabilities = capabilities_of(run, has_vectors=self._stock.view.index is not None)

    @property
    def recipe(self) -> Recipe:
        """The recipe that the run was trained with."""
        return self._run.recipe

    @property
    def capabilities(self) -> Capabilities:
        """What it can be asked for."""
        return self._capabilities

    @property
    def field_kinds(self) -> dict[str, FieldKind | None]:
        """The fields of items with the kind of their values; None where no item has had one yet."""
        return self._stock.fields.kinds

    def explain(
        self,
        history: Sequence[str | int],
        item_ids: Sequence[str | int],
        *,
        words: bool = False,
        num_evidence: int | None = None,
        templates: SentenceTemplates | None = None,
        attributes: str | None = None,
        events: Sequence[str] | None = None,
        times: Sequence[Moment] | None = None,
        user_attributes: Mapping[str, Any] | None = None,
    ) -> list[Explanation]:
        """Return why items have their scores for one history: the events and words that carry each, and a sentence.

        Scores are those of the model, also where the recipe's lists are fused from several sources.

        Args:
            history: and `attributes`, `events`, `times`, `user_attributes`: as in `recommend`.
            item_ids: items of the catalogue, such as those of a list; repeats are allowed.
            words: also find the words of each item's text that carry it; takes longer, and needs `peftrec[explain]`.
            num_evidence: events that are kept, those that change the score most; None keeps all.
            templates: of the sentences, where not the English ones.
        Raises:
            InputError: as in `recommend`; if an item is not there, num_evidence is below 1, captum is missing, or the
                run has no words to find: baselines, ensembles, models that read no texts.
        """
        if isinstance(item_ids, str):
            raise InputError(f"item_ids is a list of item ids, got the text {item_ids!r}")
        # Before the view is taken, which then has them.
        rows = [self._stock.row(str(item_id)) for item_id in item_ids]
        given = (attributes, events, times, user_attributes)
        told = Told.of(["user"], *(None if one is None else {"user": one} for one in given))
        # Words take longest, and of users nothing is asked for them: others then have their turn.
        with ExitStack() as turn:
            turn.enter_context(self._questions.turn())
            asked, _, view = self._questions.ask([history], told)
            return self._reasons.explain(
                self._answers.scorer(view),
                view,
                asked,
                rows,
                words=words,
                num_evidence=num_evidence,
                templates=templates,
                answered=turn.close,
            )
