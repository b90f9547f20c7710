"""Slices: results of some of the cases, such as those whose target nobody had in training.

Shapes: C cases, N items, U users, G groups, M values of all rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from peftrec.data.group_table import Groups
from peftrec.evaluation.evaluation import Evaluation

POPULARITY: Final = ("cold", "tail", "torso", "head")
"""Groups of items by their training events; see `popularity_group`."""
OTHERS: Final = "others"
"""What values of a column that share a slice are called, with their number behind it."""
# Values that share a slice are named one by one up to so many.
_MOST_NAMED: Final = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Slice:
    """Some of the cases.

    Args:
        kind: what tells slices of one kind apart, such as `target` or a column's name.
        name: what these have in common.
        rows_C: which cases they are; of one kind they may overlap where a cell holds several values.
        num_groups: values of a column that they have, more than one where values share a slice.
    """

    kind: str
    name: str
    rows_C: NDArray[np.bool_]
    num_groups: int = 1


def popularity_group(item_counts_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tell how popular each item is: 0 cold, 1 tail, 2 torso, 3 head.

    Cold items have no training event. The others are sorted by their training events: the head is the most popular
    items that together hold the first third of all events, the torso those that hold the second, the tail the rest.
    Items with equally many events are in one group, the one that the first of them falls into.

    Args:
        item_counts_N: training events of every item.
    Returns:
        Places in `POPULARITY`, shape (N,).
    """
    levels, first_N = np.unique(-item_counts_N, return_inverse=True)  # most popular first
    events = np.bincount(first_N, item_counts_N)
    # Events of all items that are more popular.
    above = np.concatenate([[0.0], np.cumsum(events)[:-1]]) / max(1.0, float(events.sum()))
    group = np.where(above < 1 / 3, 3, np.where(above < 2 / 3, 2, 1))
    group[levels == 0] = 0
    result: NDArray[np.int64] = group[first_N].astype(np.int64)
    return result


def standard_slices(
    targets_C: NDArray[np.int64],
    item_counts_N: NDArray[np.int64],
    history_lengths_C: NDArray[np.int64],
    trained_C: NDArray[np.bool_],
    repeated_C: NDArray[np.bool_],
) -> list[Slice]:
    """Return the slices that every data set has; those without a case are left out, and kinds that tell nothing apart.

    Args:
        targets_C: items.
        item_counts_N: training events of every item.
        history_lengths_C: events of each history.
        trained_C: whether the case's user has training events.
        repeated_C: whether the target lies in the history.
    """
    group_C = popularity_group(item_counts_N)[targets_C]
    low, high = (int(edge) for edge in np.quantile(history_lengths_C, (1 / 3, 2 / 3), method="higher"))
    spans = {f"up to {low} events": history_lengths_C <= low}
    if high > low:
        spans[f"{low + 1} to {high} events"] = (history_lengths_C > low) & (history_lengths_C <= high)
    spans[f"more than {max(low, high)} events"] = history_lengths_C > max(low, high)
    kinds: dict[str, dict[str, NDArray[np.bool_]]] = {
        "target": {name: group_C == place for place, name in reversed([*enumerate(POPULARITY)])},
        "history": {"no event": history_lengths_C == 0, **{k: v & (history_lengths_C > 0) for k, v in spans.items()}},
        "user": {"seen in training": trained_C, "new": ~trained_C},
        "target before": {"not in the history": ~repeated_C, "in the history": repeated_C},
    }
    slices = []
    for kind, found in kinds.items():
        kept = [Slice(kind, name, np.asarray(rows)) for name, rows in found.items() if rows.any()]
        slices += kept if len(kept) > 1 else []
    return slices


def column_slices(kind: str, groups_C: Groups, *, most: int = 12) -> list[Slice]:
    """Return a slice for each value of a column, those with most cases first.

    Args:
        kind: what the column is called.
        groups_C: which of its values each case has.
        most: values beyond so many share a slice, `others`.
    Returns:
        Slices with at least one case; cases without a value are `unknown`.
    """
    counts_G = groups_C.sums(np.ones(len(groups_C.known)))
    order = [int(place) for place in np.argsort(-counts_G, kind="stable") if counts_G[place]]
    slices = [Slice(kind, groups_C.names[place], groups_C.members([place])) for place in order[:most]]
    rest = order[most:]
    if rest:
        slices.append(Slice(kind, f"{OTHERS} ({len(rest)})", groups_C.members(rest), num_groups=len(rest)))
    return slices + ([] if groups_C.known.all() else [Slice(kind, "unknown", ~groups_C.known)])


def told_slices(slices: Sequence[Slice], users_C: NDArray[np.int64], *, fewest: int = 10) -> list[Slice]:
    """Leave out what would tell of a handful of people.

    From the means of groups follow those of what lies between them: all but the told ones, or one less another. So
    slices are told, those with most users first, as long as every set of users that the told ones part everybody into
    has at least `fewest`; every sum and difference of them is then of whole such sets. The values that this leaves out
    are told together, as `a or b` or `others`, if that holds for them too. Between columns, or with other results of
    the run, more can be worked out in principle: columns that single people out do not belong into published results.

    Args:
        slices: of one column of users; all cases of a user belong to the same ones.
        users_C: the user of each case.
        fewest: users that may be told of together.
    """
    _, first_U = np.unique(users_C, return_index=True)
    held = {part.name: part.rows_C[first_U] for part in slices}
    sets_U = np.zeros(len(first_U), dtype=np.int64)
    told: set[str] = set()
    for part in sorted(slices, key=lambda part: -int(held[part.name].sum())):
        parted_U = _parted(sets_U, held[part.name])
        if np.bincount(parted_U).min() >= fewest:
            sets_U = parted_U
            told.add(part.name)
    kept = [part for part in slices if part.name in told]
    left = [part for part in slices if part.name not in told]
    if not left:
        return kept
    rows_C: NDArray[np.bool_] = np.any([part.rows_C for part in left], axis=0)
    number = sum(part.num_groups for part in left)
    few = number <= _MOST_NAMED and all(part.num_groups == 1 for part in left)
    name = " or ".join(part.name for part in left) if few else f"{OTHERS} ({number})"
    together = Slice(left[0].kind, name, rows_C, num_groups=number)
    if np.bincount(_parted(sets_U, rows_C[first_U])).min() < fewest:
        return kept
    return [*kept, together]


def _parted(sets_U: NDArray[np.int64], held_U: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number the sets that users fall into when a slice parts those that there are."""
    parted_U: NDArray[np.int64] = np.unique(2 * sets_U + held_U, return_inverse=True)[1]
    return parted_U


def slice_rows(
    found: Mapping[str, Evaluation], slices: Sequence[Slice], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Measure some models on slices.

    Args:
        found: evaluations of the same cases in the same order, by what they are called.
        slices: of these cases.
        metrics: keys of the metrics to give.
    Returns:
        For each slice its `kind`, `name`, `num_cases`, `num_users`, and `rows`: for each model `metrics` and
        `intervals`, as in `Evaluation.to_json`.
    """
    rows = []
    for part in slices:
        taken = {name: _only(evaluation, metrics).take(part.rows_C) for name, evaluation in found.items()}
        first = next(iter(taken.values()))
        values = {name: evaluation.to_json() for name, evaluation in taken.items()}
        rows.append(
            {
                "kind": part.kind,
                "name": part.name,
                "num_cases": first.num_cases,
                "num_users": first.num_users,
                "rows": {name: {key: of[key] for key in ("metrics", "intervals")} for name, of in values.items()},
            }
        )
    return rows


def _only(evaluation: Evaluation, metrics: Sequence[str]) -> Evaluation:
    return dataclasses.replace(evaluation, per_user={key: evaluation.per_user[key] for key in metrics}, overall={})
