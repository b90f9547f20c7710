"""The parts of a split in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftrec.data.case import Cases
from peftrec.data.dataset import Dataset

_CHUNK = 512  # cases looked at at once


@dataclass(frozen=True)
class Part:
    """One part of the split; of training every event is a target here, though the first of a user is none.

    Args:
        name: `train`, `valid` or `test`.
        users: who have targets in it (or sessions, where the recipe cuts users into them).
        targets: how many there are.
        items: distinct ones among them.
        cold_targets: targets of items that have no training event.
        cold_items: distinct ones among those; of training, items of the catalogue without a training event.
        repeats: targets that lie in the history that they are asked with.
        untrained_users: users without a training event (or sessions, though another one of the same person may train).
        untrained_people: people none of whose sessions has a training event; None where users are whole.
    """

    name: str
    users: int
    targets: int
    items: int
    cold_targets: int
    cold_items: int
    repeats: int
    untrained_users: int
    untrained_people: int | None


def split_parts(dataset: Dataset) -> tuple[Part, ...]:
    """Counts training, validation and test."""
    counts, split = dataset.item_counts(), dataset.split
    train = Part(
        name="train",
        users=int((split.train_lengths > 0).sum()),
        targets=int(split.train_lengths.sum()),
        items=int((counts > 0).sum()),
        cold_targets=0,
        cold_items=int((counts == 0).sum()),
        repeats=0,
        untrained_users=int((split.train_lengths == 0).sum()),
        untrained_people=_untrained_people(dataset, np.arange(len(dataset.sequences))),
    )
    return train, _part("valid", split.valid, dataset, counts), _part("test", split.test, dataset, counts)


def _part(name: str, cases: Cases, dataset: Dataset, counts: NDArray[np.int64]) -> Part:
    users, items = np.unique(cases.users), np.unique(cases.targets)
    repeats = 0
    for start in range(0, len(cases), _CHUNK):
        histories = cases.histories(dataset.sequences, start, start + _CHUNK)
        repeats += int((histories == cases.targets[start : start + _CHUNK, None]).any(axis=1).sum())
    return Part(
        name=name,
        users=len(users),
        targets=len(cases),
        items=len(items),
        cold_targets=int((counts[cases.targets] == 0).sum()),
        cold_items=int((counts[items] == 0).sum()),
        repeats=repeats,
        untrained_users=int((dataset.split.train_lengths[users] == 0).sum()),
        untrained_people=_untrained_people(dataset, users),
    )


def _untrained_people(dataset: Dataset, users: NDArray[np.int64]) -> int | None:
    owners = dataset.sequences.owners
    if owners is None:
        return None
    return len(np.setdiff1d(owners[users], owners[dataset.split.train_lengths > 0]))
