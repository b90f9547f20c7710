"""What people hold: a trained recommender with its catalogue.

Shapes: B users, D width of item vectors.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peftrec.config import InputError
from peftrec.data.given_history import Moment
from peftrec.publishing import Run, load_run
from peftrec.publishing.hub import PushReport, push_run, run_folder_of
from peftrec.recommender.explainer import Explainer
from peftrec.recommender.list_facts import check_steps
from peftrec.recommender.question import Told
from peftrec.recommender.rule_check import rule_book
from peftrec.retrieval import Asked, Filter, Recommendations
from peftrec.retrieval.list_plan import ListPlan
from peftrec.retrieval.reranking import Reranking
from peftrec.retrieval.rules import Audit, RuleBook, RuleFile

# Lists are made of so many users at a time.
_USERS_AT_ONCE = 4096


class Recommender(Explainer):
    """Recommends from a run folder; made by `from_pretrained`.

    Several threads may use one: each list is made of the items of one moment, while others are added or removed.

    Args:
        run: a loaded run.
        reranking: how lists are made of the best items; None: as the recipe says.
        rules: hard rules, or their YAML file; None: there are none.
        audit: where it is written down what they hid, in place of what their file says.
    Raises:
        InputError: if rules or steps do not fit the catalogue.
    """

    def __init__(
        self,
        run: Run,
        *,
        reranking: Reranking | None = None,
        rules: RuleFile | str | Path | None = None,
        audit: Audit | None = None,
    ) -> None:
        super().__init__(run)
        book = None if rules is None else rule_book(rules, self._stock, audit)
        self._plan = ListPlan(None, book)
        self._plan = self._planned(run.recipe.retrieval.reranking if reranking is None else reranking)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        verify: bool = True,
        reranking: Reranking | None = None,
        rules: RuleFile | str | Path | None = None,
        audit: Audit | None = None,
    ) -> Recommender:
        """Load a run.

        Args:
            folder: as `train` wrote it; or, as a text that names no folder here, `user/name[@revision]` of the Hub.
            verify: prove that backbone and adapter give the stored probe vectors (checksums are always compared).
            reranking: and `rules`, `audit`: as of the class.
        Raises:
            InputError: if it is damaged or does not fit its backbone, the Hub does not have it, or rules or steps do
                not fit it.
        """
        run = load_run(run_folder_of(folder), verify=verify)
        return cls(run, reranking=reranking, rules=rules, audit=audit)

    def push_to_hub(self, repo_id: str, *, license: str | None, **options: Any) -> PushReport:  # noqa: A002
        """Publish the run on the Hub, from its folder; arguments, result and errors are those of `push_run`."""
        if self.catalogue != self._run.catalogue:
            raise InputError(
                "items were added, changed or removed since this run was loaded, which its folder does not hold"
            )
        return push_run(self._run.folder, repo_id, license=license, **options)

    @property
    def rules(self) -> RuleBook | None:
        """The rules at work, with their counts; None where there are none."""
        return self._plan.rules

    @property
    def reranking(self) -> Reranking | None:
        """How lists are made of the best items, unless a list is asked for otherwise."""
        return self._plan.reranking

    def recommend(
        self,
        history: Sequence[str | int],
        k: int = 10,
        *,
        filter: Filter | Mapping[str, Any] | None = None,  # noqa: A002
        exclude_history: bool = True,
        attributes: str | None = None,
        events: Sequence[str] | None = None,
        times: Sequence[Moment] | None = None,
        user_attributes: Mapping[str, Any] | None = None,
        age: float | None = None,
        user: str | None = None,
        reranking: Reranking | None = None,
    ) -> Recommendations:
        """Return the k best items for one history.

        Args:
            history: item ids, oldest first; repeats are allowed, and items that have been removed. An empty one gets
                the most popular training items, unless attributes are given.
            k: length of the list; shorter where there are not so many items.
            filter: which items may come back, as `Filter.parse` reads it; k of them do wherever so many pass.
            exclude_history: leave items of the history out.
            attributes: what is known of the user, as `data.user_template` writes it; for runs that read users' texts.
            events: kind of each event of the history, as in the data; None takes the first of `data.event_words`.
            times: when each event of the history happened, in a form that a time column may have (all in one unit), or
                `datetime`; for runs with `user.time_intervals`, which need them for two events or more.
            user_attributes: columns of `data.user_attributes` to the user's values, as the table of users has them;
                a column left out is missing.
            age: of the user in years, for rules; None is taken to be below every age.
            user: who it is, for the log of rules; written only where that is to name users.
            reranking: in place of the recommender's own, for this list.
        Raises:
            InputError: if an id, a kind, a column or a field is unknown, times are missing or fall, k is below 1, or
                the run does not read what it is told.
        """
        (found,) = self.recommend_batch(
            [history],
            k,
            filter=filter,
            exclude_history=exclude_history,
            attributes=None if attributes is None else [attributes],
            events=None if events is None else [events],
            times=None if times is None else [times],
            user_attributes=None if user_attributes is None else [user_attributes],
            ages=[age],
            users=[user],
            reranking=reranking,
        )
        return found

    def recommend_batch(
        self,
        histories: Sequence[Sequence[str | int]],
        k: int = 10,
        *,
        filter: Filter | Mapping[str, Any] | None = None,  # noqa: A002
        exclude_history: bool = True,
        attributes: Sequence[str] | None = None,
        events: Sequence[Sequence[str]] | None = None,
        times: Sequence[Sequence[Moment]] | None = None,
        user_attributes: Sequence[Mapping[str, Any]] | None = None,
        ages: Sequence[float | None] | None = None,
        users: Sequence[str | None] | None = None,
        reranking: Reranking | None = None,
    ) -> list[Recommendations]:
        """Return the k best items for each of several histories, one filter and one re-ranking for all.

        Other arguments are as in `recommend`, one of each a user.
        """
        if k < 1:
            raise InputError(f"k is {k}; a list has at least 1 item")
        for name, given in (("ages", ages), ("users", users)):
            if given is not None and len(given) != len(histories):
                raise InputError(f"{len(histories)} histories and {len(given)} {name}; there must be one of each")
        plan = self._plan if reranking is None else self._planned(reranking)
        wanted = None if filter is None else Filter.parse(filter)
        told = Told(attributes, events, times, user_attributes)
        lists: list[Recommendations] = []
        # Whoever reads what is not one a user refuses it.
        at_once = _USERS_AT_ONCE if told.is_of(len(histories)) else sys.maxsize
        for start in range(0, len(histories), at_once):
            part = slice(start, start + at_once)
            with self._questions.turn():
                question = self._questions.ask(histories[part], told.part(part), wanted)
                own = None if ages is None else ages[part]
                lists += self._answers.lists(*question, k, exclude_history=exclude_history, plan=plan, ages=own)
        if plan.rules is not None:
            for found, user in zip(lists, users or [None] * len(lists), strict=True):
                plan.rules.record(found.suppressed, user)
        return lists

    def warm_up(self) -> None:
        """Make lists for nobody, so that who asks first does not wait for what is made once; none is logged."""
        for history in ([], *self._stock.sample_histories(1)):
            with self._questions.turn():
                self._answers.lists(*self._questions.ask([history], Told()), 1, exclude_history=True, plan=self._plan)

    def similar(
        self,
        item_id: str | int,
        k: int = 10,
        *,
        filter: Filter | Mapping[str, Any] | None = None,  # noqa: A002
        age: float | None = None,
    ) -> Recommendations:
        """Return the k items whose vectors are nearest to an item's, by their cosine.

        Args:
            item_id: of the catalogue; it is not in its own list.
            k: length of the list.
            filter: as in `recommend`.
            age: likewise; rules hold here too, re-ranking does not.
        Raises:
            InputError: if the item is not there, the run has no item vectors, a field is unknown, or k is below 1.
        """
        if k < 1:
            raise InputError(f"k is {k}; a list has at least 1 item")
        self._stock.row(str(item_id))  # whether it is there
        histories_BL, choice, view = self._stock.look_up([[item_id]], Filter.parse(filter))
        plan = ListPlan(None, self._plan.rules)
        found = self._answers.similar(int(histories_BL[0, 0]), choice, view, k, plan, age)
        if plan.rules is not None:
            plan.rules.record(found.suppressed)
        return found

    def asked(
        self,
        histories: Sequence[Sequence[str | int]],
        attributes: Sequence[str] | None = None,
        events: Sequence[Sequence[str]] | None = None,
        times: Sequence[Sequence[Moment]] | None = None,
        user_attributes: Sequence[Mapping[str, Any]] | None = None,
    ) -> Asked:
        """Return what `recommend_batch` is told of users as models read it, or refuse it as that does."""
        with self._questions.turn():
            return self._questions.ask(histories, Told(attributes, events, times, user_attributes))[0]

    def audience(
        self,
        item_id: str | int,
        histories: Mapping[str, Sequence[str | int]],
        k: int = 10,
        *,
        attributes: Mapping[str, str] | None = None,
        events: Mapping[str, Sequence[str]] | None = None,
        times: Mapping[str, Sequence[Moment]] | None = None,
        user_attributes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> list[tuple[str, int]]:
        """Return the users for whom the model ranks an item highest among all items outside their history.

        Args:
            item_id: any item, also one without training interactions.
            histories: user to item ids, oldest first; users who have the item already are left out.
            k: how many users.
            attributes: and `events`, `times`, `user_attributes`: user to what `recommend` takes under that name; of
                users who are left out nothing is known.
        Returns:
            User and rank of the item in that user's list, best first.
        Raises:
            InputError: as in `recommend`.
        """
        if k < 1:
            raise InputError(f"k is {k}; an audience has at least 1 user")
        self._stock.row(str(item_id))  # whether it is there
        names = [name for name, history in histories.items() if str(item_id) not in map(str, history)]
        if not names:
            return []
        told = Told.of(names, attributes, events, times, user_attributes)
        with self._questions.turn():
            asked, _, view = self._questions.ask([histories[name] for name in names], told)
            ranks = self._answers.ranks(asked, view, self._stock.row(str(item_id)))
        return sorted(zip(names, ranks, strict=True), key=lambda pair: pair[1])[:k]

    def describe_index(self, k: int = 10, histories: Sequence[Sequence[str | int]] | None = None) -> dict[str, Any]:
        """Return the kind, settings and size of the index, and the share of the exact lists that it finds, for JSON.

        Args:
            k: length of the lists that are compared.
            histories: whose lists; None: 100 histories of one item each, spread over the catalogue.
        Raises:
            InputError: if the run has no item vectors, or as in `recommend`.
        """
        if k < 1:
            raise InputError(f"k is {k}; a list has at least 1 item")
        if histories is None:
            histories = self._stock.sample_histories()
        with self._questions.turn():
            asked, _, view = self._questions.ask(histories, Told())
            return self._answers.index_report(asked, view, self._stock.index, k)

    def _planned(self, reranking: Reranking) -> ListPlan:
        """Return the plan with other steps; raises where they do not fit."""
        view = self._stock.view
        check_steps(reranking, view.fields.names, has_vectors=view.index is not None)
        return ListPlan(reranking, self._plan.rules)
