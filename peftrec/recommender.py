"""What people hold: a trained recommender with its catalogue.

Shapes: B users, L places of a history, N items, D width of item vectors.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data import Catalogue
from peftrec.data.given_history import Moment, event_kinds, event_times, history_indexes
from peftrec.evaluation import ProductScores, UserScores
from peftrec.models import given_features, given_users, scores_with
from peftrec.publishing import EnsembleRun, Run, load_run
from peftrec.publishing.hub import PushReport, push_run, run_folder_of
from peftrec.recipe import Recipe
from peftrec.retrieval import Asked, Recommendation, best_lists, ranks_of_item

# Lists are made of so many users at a time.
_USERS_AT_ONCE = 4096


class Recommender:
    """Recommends from a loaded run; made by `from_pretrained`."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._catalogue = run.catalogue
        self._num_trained = len(run.catalogue)
        self._vectors_ND, self._bias_N = run.vectors_ND, run.bias_N

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, verify: bool = True) -> Recommender:
        """Load a run.

        Args:
            folder: as `train` wrote it; or, as a text that names no folder here, `user/name[@revision]` of the Hub.
            verify: prove that backbone and adapter give the stored probe vectors (checksums are always compared).
        Raises:
            InputError: if it is damaged or does not fit its backbone, or the Hub does not have it.
        """
        return cls(load_run(run_folder_of(folder), verify=verify))

    def push_to_hub(self, repo_id: str, *, license: str | None, **options: Any) -> PushReport:  # noqa: A002
        """Publish the run on the Hub, from its folder; arguments, result and errors are those of `push_run`."""
        if len(self) > self._num_trained:
            raise InputError(f"{len(self) - self._num_trained} items were added, which the run's folder does not hold")
        return push_run(self._run.folder, repo_id, license=license, **options)

    def __len__(self) -> int:
        return len(self._catalogue)

    @property
    def recipe(self) -> Recipe:
        """The recipe that the run was trained with."""
        return self._run.recipe

    @property
    def catalogue(self) -> Catalogue:
        """Ids, texts and titles of all items, added ones at the end."""
        return self._catalogue

    def recommend(
        self,
        history: Sequence[str | int],
        k: int = 10,
        *,
        exclude_history: bool = True,
        attributes: str | None = None,
        events: Sequence[str] | None = None,
        times: Sequence[Moment] | None = None,
        user_attributes: Mapping[str, Any] | None = None,
    ) -> list[Recommendation]:
        """Return the k best items for one history.

        Args:
            history: item ids, oldest first; repeats are allowed. An empty one gets the most popular training items,
                unless attributes are given.
            k: length of the list; shorter where the catalogue is.
            exclude_history: leave items of the history out.
            attributes: what is known of the user, as `data.user_template` writes it; for runs that read users' texts.
            events: kind of each event of the history, as in the data; None takes the first of `data.event_words`.
            times: when each event of the history happened, in a form that a time column may have (all in one unit), or
                `datetime`; for runs with `user.time_intervals`, which need them for two events or more.
            user_attributes: columns of `data.user_attributes` to the user's values, as the table of users has them;
                a column left out is missing.
        Raises:
            InputError: if an id, a kind or a column is unknown, times are missing or fall, k is below 1, or the run
                does not read what it is told.
        """
        (found,) = self.recommend_batch(
            [history],
            k,
            exclude_history=exclude_history,
            attributes=None if attributes is None else [attributes],
            events=None if events is None else [events],
            times=None if times is None else [times],
            user_attributes=None if user_attributes is None else [user_attributes],
        )
        return found

    def recommend_batch(
        self,
        histories: Sequence[Sequence[str | int]],
        k: int = 10,
        *,
        exclude_history: bool = True,
        attributes: Sequence[str] | None = None,
        events: Sequence[Sequence[str]] | None = None,
        times: Sequence[Sequence[Moment]] | None = None,
        user_attributes: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[list[Recommendation]]:
        """Return the k best items for each of several histories; arguments as in `recommend`, one of each a user."""
        if k < 1:
            raise InputError(f"k is {k}; a list has at least 1 item")
        lists: list[list[Recommendation]] = []
        # Whoever reads what is not one a user refuses it.
        told = (given for given in (attributes, events, times, user_attributes) if given is not None)
        at_once = _USERS_AT_ONCE if all(len(given) == len(histories) for given in told) else sys.maxsize
        for start in range(0, len(histories), at_once):
            part = slice(start, start + at_once)
            asked = self.asked(
                histories[part],
                _part(attributes, part),
                _part(events, part),
                _part(times, part),
                _part(user_attributes, part),
            )
            found = best_lists(self._scorer, asked, k, self._popularity_N, exclude_history=exclude_history)
            lists += self._described(*found)
        return lists

    def asked(
        self,
        histories: Sequence[Sequence[str | int]],
        attributes: Sequence[str] | None = None,
        events: Sequence[Sequence[str]] | None = None,
        times: Sequence[Sequence[Moment]] | None = None,
        user_attributes: Sequence[Mapping[str, Any]] | None = None,
    ) -> Asked:
        """Return what `recommend_batch` is told of users as models read it, or refuse it as that does."""
        histories_BL = history_indexes(self._catalogue, histories)
        times_BL, events_BL = self._times(histories, times), self._kinds(histories, events)
        users_B, told_B = given_users(self._run.models, len(histories_BL), attributes, user_attributes)
        return Asked(histories_BL, users_B, events_BL, times_BL, (histories_BL < 0).all(1) & ~told_B)

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
        """Return the users for whom an item ranks highest among all items outside their history.

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
        (item,) = self._catalogue.index([str(item_id)])
        names = [name for name, history in histories.items() if str(item_id) not in map(str, history)]
        if not names:
            return []
        chosen = [histories[name] for name in names]
        asked = self.asked(
            chosen,
            _of_each(names, attributes, ""),
            _of_each(names, events, ()),
            _of_each(names, times, ()),
            _of_each(names, user_attributes, {}),
        )
        ranks = ranks_of_item(self._scorer, asked, int(item), self._popularity_N)
        return sorted(zip(names, ranks, strict=True), key=lambda pair: pair[1])[:k]

    def add_items(
        self,
        ids: Sequence[str | int],
        texts: Sequence[str],
        titles: Sequence[str] | None = None,
        attributes: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Make new items recommendable from their texts and attributes, without training.

        Args:
            ids: new ids.
            texts: one an item, made as the recipe's template makes them.
            titles: for people; the texts where None.
            attributes: one mapping an item of columns of `data.item_attributes` to values, as the table of items has
                them; a column left out is missing. None leaves all out.
        Raises:
            InputError: if an id exists already, a text is empty, a column is unknown, or the model reads neither.
        """
        names = [str(item_id) for item_id in ids]
        titles = texts if titles is None else titles
        if not len(names) == len(texts) == len(titles):
            counts = f"{len(names)} ids, {len(texts)} texts and {len(titles)} titles"
            raise InputError(f"{counts}; there must be one of each")
        known = set(self._catalogue.ids)
        for item_id, text in zip(names, texts, strict=True):
            if item_id in known:
                raise InputError(f"item '{item_id}' is in the catalogue already")
            if not text.strip():
                raise InputError(f"item '{item_id}' has an empty text")
            known.add(item_id)
        if self._run.model is None:
            kind = "an ensemble" if isinstance(self._run, EnsembleRun) else "a baseline"
            raise InputError(f"this run is {kind}; it cannot take in new items")
        if not names:
            return
        assert self._vectors_ND is not None
        assert self._bias_N is not None
        part = self._run.model.item_encoder.attributes
        features = given_features(part, attributes, "item", [f"item '{name}'" for name in names])
        vectors = self._run.model.encode_new_items(list(texts), features)
        self._vectors_ND = torch.cat([self._vectors_ND, vectors])
        self._bias_N = torch.cat([self._bias_N, self._bias_N.new_zeros(len(names))])
        if self._run.model.profiles is not None:
            self._run.model.profiles.tokens.add_items(texts)
        self._catalogue = Catalogue(
            ids=(*self._catalogue.ids, *names),
            texts=(*self._catalogue.texts, *texts),
            titles=(*self._catalogue.titles, *titles),
        )

    def _kinds(
        self, histories: Sequence[Sequence[str | int]], events: Sequence[Sequence[str]] | None
    ) -> NDArray[np.int64] | None:
        """Return the codes of the kinds of events, laid out as the histories are."""
        if events is None:
            return None
        words = self.recipe.data.event_words
        if words is None or all(model.profiles is None for model in self._run.models):
            raise InputError("kinds of events were given, but this run reads none (its recipe has no data.event_words)")
        return event_kinds(words, histories, events)

    def _times(
        self, histories: Sequence[Sequence[str | int]], times: Sequence[Sequence[Moment]] | None
    ) -> NDArray[np.int64] | None:
        """Return the times of events, laid out as the histories are."""
        if any(model.needs_times for model in self._run.models):
            return event_times(histories, times)
        if times is not None:
            raise InputError("times were given, but this run reads none (its recipe has no user.time_intervals: true)")
        return None

    def _described(self, items_BK: torch.Tensor, scores_BK: torch.Tensor) -> list[list[Recommendation]]:
        ids, titles = self._catalogue.ids, self._catalogue.titles
        return [
            [
                Recommendation(rank=rank, score=score, item_id=ids[item], title=titles[item])
                for rank, (item, score) in enumerate(zip(items, scores, strict=True), start=1)
                if item >= 0
            ]
            for items, scores in zip(items_BK.tolist(), scores_BK.tolist(), strict=True)
        ]

    @property
    def _scorer(self) -> UserScores | ProductScores:
        if self._run.model is None or self._vectors_ND is None or self._bias_N is None:
            return self._run.scorer
        return scores_with(self._run.model, self._vectors_ND, self._bias_N)

    @property
    def _popularity_N(self) -> torch.Tensor:
        """Training events of each item, none of those added."""
        counts_N = torch.zeros(len(self._catalogue))
        counts_N[: self._num_trained] = self._run.train_counts_N.float()
        return counts_N


def _part(given: Any, part: slice) -> Any:
    return None if given is None else given[part]


def _of_each(names: Sequence[str], given: Mapping[str, Any] | None, nothing: Any) -> list[Any] | None:
    return None if given is None else [given.get(name, nothing) for name in names]
