"""Everything beyond ranks that is told of what was measured: lists, slices, gaps between groups, curves, impressions.

Shapes: C cases, N items of the catalogue, K length of a list, G groups.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.data import Cases
from peftrec.data.group_table import Groups
from peftrec.evaluating import Measured
from peftrec.evaluation import ProductScores, UserScores
from peftrec.evaluation.curve import exposure_curve, popularity_curve
from peftrec.evaluation.gap import exposure_rows, gap_rows
from peftrec.evaluation.impression import impression_results
from peftrec.evaluation.shared import shared_rows
from peftrec.evaluation.slice import (
    POPULARITY,
    Slice,
    column_slices,
    popularity_group,
    slice_rows,
    standard_slices,
    told_slices,
)
from peftrec.launch import Ranks
from peftrec.metrics import CategoryShares, ListFacts, auc, list_metrics
from peftrec.retrieval import Asked, best_lists

# Cases whose histories are held at once, padded.
_CASES_AT_ONCE = 2**14


class Full:
    """All that is told of what was measured, with metrics of lists.

    Args:
        measured: ranks of the run and of what stands beside it.
        ranks: processes that share the making of lists, called alike on each; None for this one alone.
    """

    def __init__(self, measured: Measured, ranks: Ranks | None = None) -> None:
        self._of = measured
        assert measured.details is not None, "measured in part only"
        self._details = measured.details
        self.cases: Cases = getattr(measured.dataset.split, measured.split)
        self._counts_N = measured.dataset.item_counts()
        self.lists = {name: self._lists(scores, ranks) for name, scores in measured.scores.items()}
        facts = self._facts()
        num_ranked_C = self._num_ranked(facts)
        self.found = {}
        for name, evaluation in measured.found.items():
            ranked = {"auc": auc(evaluation.ranks, num_ranked_C)}
            per_case, overall = list_metrics(self.lists[name], facts, measured.recipe.evaluation.ks)
            self.found[name] = dataclasses.replace(
                evaluation, per_user=evaluation.per_user | ranked | per_case, overall=overall
            )

    def results(self) -> dict[str, Any]:
        """Return what `report` does, but for the files."""
        k = self._of.recipe.evaluation.ks[0]
        metric = f"ndcg@{k}"
        rank_keys = [f"{name}@{k}" for name in ("hr", "ndcg", "mrr")]
        slices = self._slices()
        num_items = len(self._of.dataset.catalogue)
        return self._of.results(self.found) | {
            "slices": slice_rows(self.found, slices, rank_keys),
            "gaps": [row for part in _columns(slices) for row in gap_rows(self.found, part)],
            "exposure": exposure_rows(self._cut(k), self._kinds(), self._counts_N),
            "popularity_curve": popularity_curve(self.found, self._counts_N, metric),
            "exposure_curve": {name: exposure_curve(lists, num_items) for name, lists in self._cut(k).items()},
            **self._impressions(),
        }

    def _impressions(self) -> dict[str, Any]:
        """Return what was found on impressions, where the recipe names some."""
        impressions = self._details.impressions
        if impressions is None:
            return {}
        num_items = len(self._of.dataset.catalogue)
        rows = {name: impression_results(scores, impressions, num_items) for name, scores in self._of.scores.items()}
        return {"impressions": {"rows": rows, "left_out": impressions.left_out}}

    def _lists(self, scores: UserScores | ProductScores, ranks: Ranks | None) -> NDArray[np.int64]:
        """Return the best items of every case, shape (C, K); -1 beyond what there is to rank."""
        recipe, sequences = self._of.recipe, self._of.dataset.sequences
        num_items = len(self._of.dataset.catalogue)
        k, exclude_history = max(recipe.evaluation.ks), recipe.evaluation.exclude_history

        def find(cases: Cases) -> NDArray[np.int64]:
            lists_CK = np.full((len(cases), k), -1, dtype=np.int64)
            for start in range(0, len(cases), _CASES_AT_ONCE):
                part = (sequences, start, min(start + _CASES_AT_ONCE, len(cases)))
                asked = Asked(
                    histories_BL=cases.histories(*part),
                    users_B=cases.users[start : part[2]],
                    events_BL=cases.event_histories(*part),
                    times_BL=cases.time_histories(*part),
                    unknown_B=np.zeros(part[2] - start, dtype=bool),  # ranks are of what the model makes of them, too
                )
                items_BK, _ = best_lists(
                    scores, asked, min(k, num_items), torch.zeros(num_items), exclude_history=exclude_history
                )
                lists_CK[start : part[2], : items_BK.shape[1]] = items_BK.numpy()
            return lists_CK

        return shared_rows(find, self.cases, sequences, ranks)

    def _num_ranked(self, facts: ListFacts) -> NDArray[np.int64]:
        """Return how many items were ranked for each case."""
        num_items = facts.num_items
        if not self._of.recipe.evaluation.exclude_history:
            return np.full(len(self.cases), num_items, dtype=np.int64)
        assert facts.history_items is not None
        assert facts.history_offsets is not None
        rows = np.repeat(np.arange(len(self.cases)), np.diff(facts.history_offsets))
        distinct = np.unique(rows * num_items + facts.history_items) // num_items
        left: NDArray[np.int64] = num_items - np.bincount(distinct, minlength=len(self.cases))
        return left

    def _facts(self) -> ListFacts:
        dataset = self._of.dataset
        offsets, items = dataset.sequences.gather_flat(
            dataset.sequences.offsets[self.cases.users], self.cases.history_lengths
        )
        category = self._of.recipe.evaluation.category
        categories = None
        if category is not None:
            groups = self._details.item_groups[category]
            categories = CategoryShares.even(groups.places, groups.offsets, len(groups.names))
        return ListFacts(
            num_items=len(dataset.catalogue),
            counts=self._counts_N,
            vectors=self._of.references["content_knn"].tensors()["item_vectors"].numpy(),
            categories=categories,
            history_items=items,
            history_offsets=offsets,
            targets=self.cases.targets,
        )

    def _slices(self) -> list[Slice]:
        dataset, data = self._of.dataset, self._of.recipe.data
        users, targets = self.cases.users, self.cases.targets
        offsets, items = dataset.sequences.gather_flat(dataset.sequences.offsets[users], self.cases.history_lengths)
        rows = np.repeat(np.arange(len(users)), np.diff(offsets))
        repeated_C = np.bincount(rows[items == targets[rows]], minlength=len(users)) > 0
        trained_C = dataset.split.train_lengths[users] > 0
        slices = standard_slices(targets, self._counts_N, self.cases.history_lengths, trained_C, repeated_C)
        for column in data.item_groups:
            slices += column_slices(f"target's {column}", self._details.item_groups[column].take(targets))
        for column in data.user_groups:
            # Results are published: what a handful of people got is nobody else's business.
            found = column_slices(f"user's {column}", self._details.user_groups[column].take(users))
            slices += told_slices(found, users)
        return slices

    def _cut(self, k: int) -> dict[str, NDArray[np.int64]]:
        """Return the lists of each model down to a cutoff."""
        return {model: lists_CK[:, :k] for model, lists_CK in self.lists.items()}

    def _kinds(self) -> dict[str, Groups]:
        """Return the groups of items whose exposure is told."""
        places_N = popularity_group(self._counts_N)
        popular = Groups("popularity", POPULARITY, places_N, np.arange(len(places_N) + 1))
        return {"popularity": popular, **self._details.item_groups}


def _columns(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Return the slices of each column."""
    kinds = dict.fromkeys(part.kind for part in slices if "'s " in part.kind)
    return [[part for part in slices if part.kind == kind] for kind in kinds]
