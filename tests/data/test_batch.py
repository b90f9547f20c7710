from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftrec.config import InputError
from peftrec.data import Cases, Catalogue, CleaningReport, Dataset, Sequences, Split, TrainingWindows

NO_CASES = Cases(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))


def dataset_of(sequences: Sequences, train_lengths: list[int]) -> Dataset:
    names = tuple(map(str, range(1 + int(sequences.items.max(initial=0)))))
    split = Split(np.array(train_lengths, dtype=np.int64), NO_CASES, NO_CASES)
    return Dataset(Catalogue(names, names, names), sequences, split, CleaningReport(()))


def test_windows_of_one_epoch(make_sequences: Callable[..., Sequences]) -> None:
    sequences = make_sequences([[1, 2, 3, 4, 5, 6, 99, 98], [7], [8, 9], [10, 97]])
    windows = TrainingWindows(dataset_of(sequences, [6, 1, 2, 1]), max_history=2)
    assert windows.num_windows == 4
    assert windows.num_targets == 6
    rows = {}
    for epoch in range(8):
        (batch,) = windows.epoch(0, epoch, 10)
        order = sorted(range(4), key=lambda row: (batch.users[row], -batch.starts[row]))
        assert batch.users[order].tolist() == [0, 0, 0, 2]
        rows[tuple(map(tuple, batch.inputs[order])), tuple(map(tuple, batch.targets[order]))] = batch.starts[order]
        for row in range(4):
            seen = batch.seen_items[batch.seen_offsets[row] : batch.seen_offsets[row + 1]]
            assert seen.tolist() == ([8, 9] if batch.users[row] == 2 else [1, 2, 3, 4, 5, 6])
    # Five targets in windows of two: the oldest has one, or two, and then the newest has one and its context.
    newest_whole = (((4, 5), (2, 3), (-1, 1), (-1, 8)), ((5, 6), (3, 4), (-1, 2), (-1, 9)))
    oldest_whole = (((4, 5), (3, 4), (1, 2), (-1, 8)), ((-1, 6), (4, 5), (2, 3), (-1, 9)))
    assert set(rows) == {newest_whole, oldest_whole}
    assert rows[newest_whole].tolist() == [3, 1, 0, 0]
    assert rows[oldest_whole].tolist() == [3, 2, 0, 0]


def test_padded_only_to_its_own_longest(make_sequences: Callable[..., Sequences]) -> None:
    sequences = make_sequences([[1, 2], [3, 4, 5]])
    batches = TrainingWindows(dataset_of(sequences, [2, 3]), max_history=10).epoch(0, 0, 1)
    assert {batch.inputs.shape[1] for batch in batches} == {1, 2}


def test_users_with_repeats_are_always_cut_alike(make_sequences: Callable[..., Sequences]) -> None:
    sequences = make_sequences([[1, 2, 1, 1, 3, 4]])
    windows = TrainingWindows(dataset_of(sequences, [6]), max_history=2, skip_repeats=True)
    assert (windows.num_windows, windows.num_targets) == (2, 3)
    for epoch in range(8):
        (batch,) = windows.epoch(0, epoch, 10)
        # The window between holds repeats alone.
        assert sorted(map(tuple, batch.targets)) == [(-1, 2), (3, 4)]
        assert sorted(map(tuple, batch.inputs)) == [(-1, 1), (1, 3)]


def test_epochs(make_sequences: Callable[..., Sequences]) -> None:
    sequences = make_sequences([[i, i + 1, i + 2] for i in range(20)])
    windows = TrainingWindows(dataset_of(sequences, [3] * 20), max_history=5)
    assert windows.num_batches(8) == 3

    def users(seed: int, epoch: int) -> list[list[int]]:
        return [batch.users.tolist() for batch in windows.epoch(seed, epoch, 8)]

    assert users(0, 0) == users(0, 0)
    assert users(0, 0) != users(0, 1)
    assert users(0, 0) != users(1, 0)
    assert [len(batch) for batch in users(0, 0)] == [8, 8, 4]
    assert sorted(user for batch in users(3, 4) for user in batch) == list(range(20))


def test_bad_arguments(make_sequences: Callable[..., Sequences]) -> None:
    dataset = dataset_of(make_sequences([[0, 1, 2], [1]]), [1, 1])
    with pytest.raises(InputError, match="no user has two training events"):
        TrainingWindows(dataset, 5)
    with pytest.raises(ValueError, match="max_history"):
        TrainingWindows(dataset, 0)
    windows = TrainingWindows(dataset_of(dataset.sequences, [3, 1]), 5)
    with pytest.raises(ValueError, match="batch_size"):
        next(windows.epoch(0, 0, 0))


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=8),
    max_history=st.integers(1, 6),
    batch_size=st.integers(1, 5),
)
def test_every_training_event_is_a_target_once(
    lengths: list[tuple[int, int]], max_history: int, batch_size: int
) -> None:
    totals = [train + rest for train, rest in lengths]
    offsets = np.cumsum([0, *totals]).astype(np.int64)
    sequences = Sequences(tuple(map(str, range(len(totals)))), offsets, np.arange(offsets[-1], dtype=np.int64))
    train = [length for length, _ in lengths]
    wanted = [int(offsets[user]) + place for user, length in enumerate(train) for place in range(1, length)]
    if not wanted:
        return
    found: list[int] = []
    for batch in TrainingWindows(dataset_of(sequences, train), max_history).epoch(1, 2, batch_size):
        held = batch.targets >= 0
        assert batch.inputs.shape == batch.targets.shape
        assert batch.inputs.shape[1] <= max_history
        assert held[:, -1].all()
        assert (batch.inputs[:, 0] >= 0).any()
        assert (batch.inputs[held] >= 0).all()
        # Only the inputs of context have no target, and they stand before the others.
        assert (np.diff(held.astype(int), axis=1) >= 0).all()
        assert (batch.targets[held] == batch.inputs[held] + 1).all()  # items are numbered by event here
        found += batch.targets[held].tolist()
        for row, user in enumerate(batch.users):
            seen = batch.seen_items[batch.seen_offsets[row] : batch.seen_offsets[row + 1]]
            assert seen.tolist() == list(range(offsets[user], offsets[user] + train[user]))
    assert sorted(found) == wanted


def test_ratings_are_those_of_the_targets(make_sequences: Callable[..., Sequences]) -> None:
    sequences = make_sequences([[1, 2, 3, 4, 9], [5, 6]])
    ratings = np.array([10, 20, 30, 40, 90, 50, 60], dtype=np.float32)
    rated = dataclasses.replace(sequences, ratings=ratings)
    windows = TrainingWindows(dataset_of(rated, [4, 2]), max_history=2)
    found = {}
    for epoch in range(4):
        (batch,) = windows.epoch(0, epoch, 10)
        assert batch.ratings is not None
        assert batch.ratings.shape == batch.targets.shape
        held = batch.targets >= 0
        # Items are numbered by their ratings here; a place without an input has none.
        assert (batch.ratings[held] == 10 * batch.targets[held]).all()
        assert np.isnan(batch.ratings[batch.inputs < 0]).all()
        found |= dict(zip(batch.targets[held].tolist(), batch.ratings[held].tolist(), strict=True))
    assert found == {2: 20.0, 3: 30.0, 4: 40.0, 6: 60.0}
    (plain,) = TrainingWindows(dataset_of(sequences, [4, 2]), max_history=2).epoch(0, 0, 10)
    assert plain.ratings is None


def test_item_counts_read_training_events_only(make_sequences: Callable[..., Sequences]) -> None:
    dataset = dataset_of(make_sequences([[0, 0, 2, 3], [3, 2, 4]]), [2, 1])
    assert dataset.item_counts().tolist() == [2, 0, 0, 1, 0]
    assert dataset.item_counts().dtype == np.int64
