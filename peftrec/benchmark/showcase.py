"""Recommendations as a person would look at them: some users, and an item that nobody has tried yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from peftrec.data import Dataset
from peftrec.recommender import Recommender

_LISTED = 5
_REMEMBERED = 3


def show_users(recommender: Recommender, dataset: Dataset, show: Callable[[Any], None]) -> None:
    """Show lists for three users of short, middling and long history, the last cut to the two newest events.

    Histories are all events before the test event; a recommended test item is marked.
    """
    cases = dataset.split.test
    order = np.argsort(cases.history_lengths, kind="stable")
    for share, newest in ((0.25, None), (0.5, None), (0.75, 2)):
        case = int(order[int(share * (len(order) - 1))])
        history = _events(dataset, int(cases.users[case]), int(cases.history_lengths[case]))
        known = history if newest is None else history[-newest:]
        cut = "" if newest is None else f", of which the model is told only the last {newest}"
        titles = [dataset.catalogue.titles[item] for item in known[-_REMEMBERED:]]
        user_id = dataset.sequences.user_ids[int(cases.users[case])]
        show(f"\nuser {user_id}, {len(history)} films{cut}; the last: {'; '.join(titles)}")
        ids = [dataset.catalogue.ids[item] for item in known]
        target = dataset.catalogue.ids[int(cases.targets[case])]
        for entry in recommender.recommend(ids, _LISTED):
            hit = "  <- what this user watched next" if entry.item_id == target else ""
            show(f"  {entry.rank}. {entry.title} (id {entry.item_id}, score {entry.score:.2f}){hit}")


def show_cold_item(recommender: Recommender, dataset: Dataset, show: Callable[[Any], None]) -> None:
    """Show whom an item without any training event would be recommended to first."""
    trained, events = dataset.item_counts(), np.bincount(dataset.sequences.items, minlength=len(dataset.catalogue))
    cold = np.flatnonzero(trained == 0)
    if not len(cold):
        show("\nEvery item has training events.")
        return
    item = int(cold[np.argmax(events[cold])])
    users: list[int] = np.flatnonzero(dataset.split.train_lengths > 0).tolist()
    histories = {
        dataset.sequences.user_ids[user]: [
            dataset.catalogue.ids[event] for event in _events(dataset, user, int(dataset.split.train_lengths[user]))
        ]
        for user in users
    }
    show(f"\nNobody watched '{dataset.catalogue.titles[item]}' in training; its text: {dataset.catalogue.texts[item]}")
    show(f"Of {len(users):,} users it would go first to")
    titles = dict(zip(dataset.catalogue.ids, dataset.catalogue.titles, strict=True))
    for user, rank in recommender.audience(dataset.catalogue.ids[item], histories, _LISTED):
        last = "; ".join(titles[event] for event in histories[user][-_REMEMBERED:])
        show(f"  user {user}, where it has rank {rank} of {len(dataset.catalogue):,}; last watched: {last}")


def _events(dataset: Dataset, user: int, length: int) -> list[int]:
    start = int(dataset.sequences.offsets[user])
    events: list[int] = dataset.sequences.items[start : start + length].tolist()
    return events
