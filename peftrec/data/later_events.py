"""A data set with what happened since: histories go on, and later events are the targets.

Shapes: E events, U users.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data.case_choice import choose_cases, event_users, told
from peftrec.data.dataset import Dataset
from peftrec.data.later_tables import LaterRows, LaterTables, clean_later
from peftrec.data.report import CleaningReport, CleaningRow
from peftrec.data.sequence import Sequences
from peftrec.data.source import DataConfig
from peftrec.data.split import Split
from peftrec.data.timeline import Timeline


@dataclass(frozen=True, kw_only=True)
class LaterPeriod:
    """What is made of later events.

    Args:
        valid_fraction: share of them, before the last part, that validates.
        test_fraction: share of them, the last part, that tests.
        replay: chance with which, in each epoch, an event that was learned before is a target once more.
    Raises:
        ValueError: if a share is out of range, or the first two leave nothing to train.
    """

    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    replay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("valid_fraction", "test_fraction"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}: must lie between 0 and 1, got {getattr(self, name):g}")
        if self.valid_fraction + self.test_fraction >= 1:
            total = self.valid_fraction + self.test_fraction
            raise ValueError(f"valid_fraction + test_fraction must be below 1, got {total:g}")
        if not 0 <= self.replay <= 1:
            raise ValueError(f"replay: must lie from 0 to 1, got {self.replay:g}")


def check_extendable(config: DataConfig) -> None:
    """Refuse data that later events cannot be put behind.

    Args:
        config: the `data` section of a recipe.
    Raises:
        InputError: naming the key and why.
    """
    reasons = {
        "timestamps: order": (
            config.timestamps == "order",
            "positions do not tell which events came after those that were learned from",
        ),
        "sessions": (config.sessions is not None, "the first of the later events may belong to a session that is cut"),
        "cleaning.count_repeats": (config.cleaning.count_repeats, "later events would change what was learned from"),
        "user_template": (config.user_template is not None, "the texts of new users are not known"),
        "user_attributes": (config.user_attributes is not None, "those of new users are not known"),
        "item_attributes": (config.item_attributes is not None, "they were fitted to the items of then"),
    }
    for key, (there, why) in reasons.items():
        if there:
            raise InputError(f"data.{key}: such a run cannot be updated, as {why}; train it anew on all data")


def extend(timeline: Timeline, config: DataConfig, tables: LaterTables, period: LaterPeriod) -> Timeline:
    """Put later events behind those of a data set.

    Known users and items keep their numbers, new ones follow. Two moments cut the later events: those before the first
    train, up to the second they validate, after it they test, each with all that the user did before it as history.
    Earlier events are context, but for those that are replayed.

    Args:
        timeline: so far.
        config: the recipe's `data` section.
        tables: of the later events and new items.
        period: shares and replay.
    Raises:
        InputError: as of `clean_later`, or if the later events leave nothing to train, validate or test.
    """
    check_extendable(config)
    known = timeline.dataset.sequences
    rows = clean_later(tables, config, timeline.dataset.catalogue, known)
    sequences, order_E = _joined(known, rows)
    later_E = order_E >= len(known.items)
    weights_E = _own_weights(timeline, rows, order_E)
    learned_E = np.concatenate([timeline.learned_E, np.zeros(rows.events.height, dtype=bool)])[order_E]
    ones_E = np.ones(len(order_E), dtype=np.float32) if weights_E is None else weights_E
    targets_E = np.where(later_E, ones_E, np.where(learned_E, ones_E * np.float32(period.replay), np.float32(0)))
    sequences = replace(sequences, weights=targets_E.astype(np.float32))
    split = _split(sequences, later_E, tables.events.name, period)
    num_train = int(split.train_lengths.sum() - (~later_E).sum())
    row = CleaningRow("later events", "interactions", 0, num_train, f"to learn from; {split.note}")
    dataset = replace(
        timeline.dataset,
        catalogue=rows.catalogue,
        sequences=sequences,
        split=split,
        report=CleaningReport((*timeline.dataset.report.rows, *rows.rows, row)),
    )
    places_E = np.arange(len(order_E)) - np.repeat(sequences.offsets[:-1], sequences.lengths)
    trains_E = places_E < np.repeat(split.train_lengths, sequences.lengths)
    return Timeline(dataset, learned_E | (later_E & trains_E), weights_E)


def events_since(before: Dataset, after: Dataset) -> NDArray[np.bool_]:
    """Which events of an extended data set are not in the one before it, shape (E,)."""
    sequences = after.sequences
    lengths_U = np.zeros(len(sequences), dtype=np.int64)
    lengths_U[: len(before.sequences)] = before.sequences.lengths
    places_E = np.arange(len(sequences.items)) - np.repeat(sequences.offsets[:-1], sequences.lengths)
    return places_E >= np.repeat(lengths_U, sequences.lengths)


def _joined(known: Sequences, rows: LaterRows) -> tuple[Sequences, NDArray[np.int64]]:
    """All events user by user, and where each was among the known, then the later ones."""
    events = rows.events
    num_known = len(known)
    # New users of whom cleaning left nothing are not there.
    new = events.filter(pl.col("user") >= num_known)["user"].unique(maintain_order=True).to_numpy()
    number = np.concatenate([np.arange(num_known), np.full(len(rows.user_ids) - num_known, -1)])
    number[new] = num_known + np.arange(len(new))
    in_time = events.select(pl.arg_sort_by("time", maintain_order=True)).to_series().to_numpy().astype(np.int64)
    users_E = np.concatenate([event_users(known), number[events["user"].to_numpy()[in_time]]])
    places_E = np.concatenate([np.arange(len(known.items)), len(known.items) + in_time])
    by_user = np.argsort(users_E, kind="stable")
    order_E = places_E[by_user]
    offsets = np.zeros(num_known + len(new) + 1, dtype=np.int64)
    np.cumsum(np.bincount(users_E, minlength=num_known + len(new)), out=offsets[1:])

    def both(earlier: NDArray[Any] | None, column: str) -> Any:
        if earlier is None:
            return None
        return np.concatenate([earlier, events[column].to_numpy().astype(earlier.dtype)])[order_E]

    sequences = Sequences(
        user_ids=(*known.user_ids, *(rows.user_ids[place] for place in new)),
        offsets=offsets,
        items=both(known.items, "item"),
        times=both(known.times, "time"),
        events=both(known.events, "event"),
        ratings=both(known.ratings, "rating"),
    )
    return sequences, order_E


def _own_weights(timeline: Timeline, rows: LaterRows, order_E: NDArray[np.int64]) -> NDArray[np.float32] | None:
    if timeline.weights_E is None:
        return None
    later = rows.events["target_weight"].to_numpy().astype(np.float32)
    weights_E: NDArray[np.float32] = np.concatenate([timeline.weights_E, later])[order_E]
    return weights_E


def _split(sequences: Sequences, later_E: NDArray[np.bool_], name: str, period: LaterPeriod) -> Split:
    assert sequences.times is not None, "what has no times is not extended"
    ordered = np.sort(sequences.times[later_E])
    # Rounded first: 1 - .1 - .1 is .8 only nearly.
    ends = [1 - period.valid_fraction - period.test_fraction, 1 - period.test_fraction]
    places = [min(int(np.floor(round(len(ordered) * end, 6))), len(ordered) - 1) for end in ends]
    cuts = [int(ordered[place]) for place in places]
    before_valid, before_test = (_count(sequences, ~later_E | (sequences.times < cut)) for cut in cuts)
    valid = choose_cases(sequences, before_valid, before_test, "all")
    test = choose_cases(sequences, before_test, sequences.lengths, "all")
    counts = {
        "to train": int(before_valid.sum() - (~later_E).sum()),
        "to validate": len(valid),
        "to test": len(test),
    }
    for what, count in counts.items():
        if not count:
            raise InputError(
                f"{name}: its {len(ordered):,} new events leave nothing {what}: they are cut at two moments, by "
                f"valid_fraction {period.valid_fraction:g} and test_fraction {period.test_fraction:g}, and a user's "
                f"first event of all is no target; wait for more events, or choose other shares"
            )
    moments = " and ".join(f"{np.datetime64(cut, 'ms').astype('datetime64[s]')}Z" for cut in cuts)
    return Split(
        train_lengths=before_valid,
        valid=valid,
        test=test,
        leaks="Nothing later than a test event is trained on.",
        note=f"{told(sequences, valid, test)}; cuts at {moments}",
    )


def _count(sequences: Sequences, there_E: NDArray[np.bool_]) -> NDArray[np.int64]:
    running = np.zeros(len(there_E) + 1, dtype=np.int64)
    np.cumsum(there_E, out=running[1:])
    return np.diff(running[sequences.offsets])
