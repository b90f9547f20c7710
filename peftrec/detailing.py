"""Everything beyond ranks that is told of what was measured: lists, slices, gaps between groups, curves, impressions.

Shapes: C cases, N items of the catalogue, K length of a list, G groups.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data import Cases
from peftrec.data.group_table import read_groups
from peftrec.data.impression import read_impressions
from peftrec.evaluating import Measured
from peftrec.evaluation import ProductScores, UserScores
from peftrec.evaluation.curve import exposure_curve, popularity_curve
from peftrec.evaluation.impression import impression_results
from peftrec.evaluation.slice import (
    POPULARITY,
    Slice,
    column_slices,
    popularity_group,
    slice_rows,
    standard_slices,
)
from peftrec.metrics import ListFacts, auc, group_gaps, list_metrics
from peftrec.retrieval import Asked, best_lists

# Cases whose histories are held at once, padded.
_CASES_AT_ONCE = 2**14
# Users that a group must have to be the best or the worst.
_MIN_GROUP = 20
_MOST_GROUPS = 12
# Users that a slice by what is known of people must have to be told of.
_FEWEST_PEOPLE = 10


class Full:
    """All that is told of what was measured, with metrics of lists.

    Args:
        measured: ranks of the run and of what stands beside it.
    Raises:
        InputError: if a column of `evaluation` is not in the data.
    """

    def __init__(self, measured: Measured) -> None:
        self._of = measured
        recipe, dataset = measured.recipe, measured.dataset
        rules = recipe.evaluation
        self.cases: Cases = getattr(dataset.split, measured.split)
        self._counts_N = dataset.item_counts()
        more = () if rules.category is None else (rules.category,)
        self._item_groups, self._user_groups = read_groups(recipe.data, dataset, more_columns=more)
        self.lists = {name: self._lists(scores) for name, scores in measured.scores.items()}
        facts = self._facts()
        num_ranked_C = self._num_ranked(facts)
        self.found = {}
        for name, evaluation in measured.found.items():
            ranked = {"auc": auc(evaluation.ranks, num_ranked_C)}
            per_case, overall = list_metrics(self.lists[name], facts, rules.ks)
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
            "gaps": self._gaps(slices, [f"hr@{k}", metric]),
            "exposure": self._exposure(k),
            "popularity_curve": popularity_curve(self.found, self._counts_N, metric),
            "exposure_curve": {name: exposure_curve(lists[:, :k], num_items) for name, lists in self.lists.items()},
            **self._impressions(),
        }

    def _impressions(self) -> dict[str, Any]:
        """Return what was found on impressions, where the recipe names some."""
        recipe, dataset = self._of.recipe, self._of.dataset
        if recipe.evaluation.impressions is None:
            return {}
        if recipe.reads_times or dataset.sequences.events is not None:
            raise InputError("evaluation.impressions: tells neither times nor kinds of events, which this model reads")
        path = Path(recipe.data.root) / recipe.evaluation.impressions
        impressions = read_impressions(path, dataset, self._of.split)
        rows = {
            name: impression_results(scores, impressions, len(dataset.catalogue))
            for name, scores in self._of.scores.items()
        }
        return {"impressions": {"rows": rows, "left_out": impressions.left_out}}

    def _lists(self, scores: UserScores | ProductScores) -> NDArray[np.int64]:
        """Return the best items of every case, shape (C, K); -1 beyond what there is to rank."""
        recipe, dataset = self._of.recipe, self._of.dataset
        num_items = len(dataset.catalogue)
        k, exclude_history = max(recipe.evaluation.ks), recipe.evaluation.exclude_history
        lists_CK = np.full((len(self.cases), k), -1, dtype=np.int64)
        for start in range(0, len(self.cases), _CASES_AT_ONCE):
            part = (dataset.sequences, start, min(start + _CASES_AT_ONCE, len(self.cases)))
            asked = Asked(
                histories_BL=self.cases.histories(*part),
                users_B=self.cases.users[start : part[2]],
                events_BL=self.cases.event_histories(*part),
                times_BL=self.cases.time_histories(*part),
                unknown_B=np.zeros(part[2] - start, dtype=bool),  # ranks are of what the model makes of them, too
            )
            items_BK, _ = best_lists(
                scores, asked, min(k, num_items), torch.zeros(num_items), exclude_history=exclude_history
            )
            lists_CK[start : part[2], : items_BK.shape[1]] = items_BK.numpy()
        return lists_CK

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
            member_NG = self._item_groups[category].member_NG.astype(np.float64)
            categories = member_NG / np.maximum(1.0, member_NG.sum(axis=1, keepdims=True))
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
            groups = self._item_groups[column]
            slices += column_slices(f"target's {column}", groups.names, groups.member_NG[targets])
        for column in data.user_groups:
            groups = self._user_groups[column]
            found = column_slices(f"user's {column}", groups.names, groups.member_NG[users])
            # Results are published: what a handful of people got is nobody else's business.
            slices += [part for part in found if len(np.unique(users[part.rows_C])) >= _FEWEST_PEOPLE]
        return slices

    def _gaps(self, slices: Sequence[Slice], metrics: Sequence[str]) -> list[dict[str, Any]]:
        """Compare the groups of each column, model by model."""
        gaps: list[dict[str, Any]] = []
        for kind in dict.fromkeys(part.kind for part in slices if "'s " in part.kind):
            parts = [part for part in slices if part.kind == kind]
            for model, evaluation in self.found.items():
                taken = {part.name: evaluation.take(part.rows_C).defined() for part in parts}
                for metric in metrics:
                    values = {name: of[metric] for name, of in taken.items() if len(of[metric]) >= _MIN_GROUP}
                    if len(values) < 2:
                        continue
                    groups = np.repeat(np.arange(len(values)), [len(of) for of in values.values()])
                    found = group_gaps(np.concatenate([*values.values()]), groups, [*values])
                    ends = {"best": found.best, "worst": found.worst}
                    means = {f"{end}_mean": found.means[str(name)] for end, name in ends.items()}
                    row = {"kind": kind, "model": model, "metric": metric, "difference": found.gap}
                    gaps.append(row | ends | means)
        return gaps

    def _exposure(self, k: int) -> list[dict[str, Any]]:
        """Compare the share of places in lists that groups of items have with their share of training events."""
        popular_NG = popularity_group(self._counts_N)[:, None] == np.arange(len(POPULARITY))
        kinds: dict[str, tuple[tuple[str, ...], NDArray[np.bool_]]] = {"popularity": (POPULARITY, popular_NG)}
        kinds |= {column: (groups.names, groups.member_NG) for column, groups in self._item_groups.items()}
        rows: list[dict[str, Any]] = []
        for kind, (names, member_NG) in kinds.items():
            part_G = self._counts_N @ member_NG / max(1, int(self._counts_N.sum()))
            shares = {model: _share_of_places(lists[:, :k], member_NG) for model, lists in self.lists.items()}
            # The groups with most training events; a column may have thousands.
            for place in sorted(np.argsort(-part_G, kind="stable")[:_MOST_GROUPS].tolist()):
                share = {model: float(share_G[place]) for model, share_G in shares.items()}
                part = float(part_G[place])
                ratios = {model: value / part if part else None for model, value in share.items()}
                rows.append({"kind": kind, "name": names[place], "part": part, "shares": share, "ratios": ratios})
        return rows


def _share_of_places(lists_CK: NDArray[np.int64], member_NG: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the share of all places in lists that items of each group have, shape (G,)."""
    shown_N = np.bincount(lists_CK[lists_CK >= 0], minlength=len(member_NG))
    shares_G: NDArray[np.float64] = shown_N @ member_NG / max(1, int(shown_N.sum()))
    return shares_G
