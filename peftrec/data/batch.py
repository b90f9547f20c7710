"""Training batches: windows of users' training events, drawn in a new order each epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data.dataset import Dataset
from peftrec.data.sequence import Sequences


@dataclass(frozen=True, eq=False)
class UserBatch:
    """B windows, L positions; arrays of int64.

    Args:
        users: user indexes, shape (B,); a user with several windows may occur more than once.
        inputs: catalogue indexes, shape (B, L), left-padded with -1.
        targets: the item that follows each position, shape (B, L), -1 where there is none.
        starts: place of each row's first input among its user's training events, shape (B,).
        seen_offsets: shape (B + 1,): row i's training items are `seen_items[seen_offsets[i]:seen_offsets[i + 1]]`.
        seen_items: all training items of each row's user, inside and outside the window, in order of time.
    """

    users: NDArray[np.int64]
    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    starts: NDArray[np.int64]
    seen_offsets: NDArray[np.int64]
    seen_items: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)


class TrainingWindows:
    """The training events cut into windows of at most `max_history` inputs, counted from each user's newest event.

    A window of L + 1 events gives L inputs and L targets and overlaps the next older one by one event, so that every
    training event but a user's first is a target exactly once. Windows without any target are left out.

    Args:
        dataset: where events and train lengths come from; validation and test events are never read.
        max_history: L, at least 1.
        skip_repeats: an event whose item the user has had before is no target (it stays an input).
    Raises:
        ValueError: if max_history is below 1.
        InputError: if there is no target.
    """

    def __init__(self, dataset: Dataset, max_history: int, *, skip_repeats: bool = False) -> None:
        if max_history < 1:
            raise ValueError(f"max_history must be at least 1, got {max_history}")
        self._sequences = dataset.sequences
        self._train_lengths = dataset.split.train_lengths
        num_targets = np.maximum(self._train_lengths - 1, 0)
        windows_per_user = -(-num_targets // max_history)
        self.users: NDArray[np.int64] = np.repeat(np.arange(len(num_targets), dtype=np.int64), windows_per_user)
        first_window = np.cumsum(windows_per_user) - windows_per_user
        age = np.arange(len(self.users), dtype=np.int64) - first_window[self.users]  # 0 is a user's newest window
        stops = num_targets[self.users] - age * max_history  # within the user: after the last input
        starts = np.maximum(stops - max_history, 0)
        self._lengths = stops - starts
        self._starts = self._sequences.offsets[self.users] + starts
        self._is_target = (
            ~_repeats(self._sequences) if skip_repeats else np.ones(len(self._sequences.items), dtype=bool)
        )
        running = np.concatenate([[0], np.cumsum(self._is_target)])
        targets = running[self._starts + 1 + self._lengths] - running[self._starts + 1]
        self._keep(targets > 0)
        self.num_targets = int(targets.sum())
        if not len(self.users):
            raise InputError("nothing to train on: no user has two training events" + " of a new item" * skip_repeats)

    @property
    def num_windows(self) -> int:
        """How many windows there are: the rows of one epoch."""
        return len(self.users)

    def _keep(self, wanted: NDArray[np.bool_]) -> None:
        self.users, self._starts, self._lengths = self.users[wanted], self._starts[wanted], self._lengths[wanted]

    def num_batches(self, batch_size: int) -> int:
        """How many batches an epoch has, the last one smaller where it does not come out even."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        return -(-self.num_windows // batch_size)

    def epoch(self, seed: int, epoch: int, batch_size: int) -> Iterator[UserBatch]:
        """All windows once, in an order that depends on (seed, epoch) alone.

        Args:
            seed: the run's seed, at least 0.
            epoch: the epoch's number, at least 0.
            batch_size: windows a batch.
        Returns:
            The batches, each padded only to its own longest window.
        """
        order = np.random.default_rng([seed, epoch]).permutation(self.num_windows)
        for number in range(self.num_batches(batch_size)):
            yield self.batch(order[number * batch_size : (number + 1) * batch_size])

    def batch(self, windows: NDArray[np.int64]) -> UserBatch:
        """The batch of some windows.

        Args:
            windows: window numbers, shape (B,), B at least 1.
        Returns:
            Inputs, targets and the seen items of these windows' users.
        """
        users, starts, lengths = self.users[windows], self._starts[windows], self._lengths[windows]
        width = int(lengths.max())
        seen_offsets, seen_items = self._sequences.gather_flat(
            self._sequences.offsets[users], self._train_lengths[users]
        )
        targets = self._sequences.gather(starts + 1, lengths, width)
        column = np.arange(width) - (width - lengths)[:, None]
        counted = (column >= 0) & self._is_target[np.maximum(starts[:, None] + 1 + column, 0)]
        return UserBatch(
            users=users,
            inputs=self._sequences.gather(starts, lengths, width),
            targets=np.where(counted, targets, -1),
            starts=starts - self._sequences.offsets[users],
            seen_offsets=seen_offsets,
            seen_items=seen_items,
        )


def _repeats(sequences: Sequences) -> NDArray[np.bool_]:
    """Which events are of an item that the same user has had before, shape (E,)."""
    users = np.repeat(np.arange(len(sequences), dtype=np.int64), sequences.lengths)
    pairs = users * (int(sequences.items.max(initial=0)) + 1) + sequences.items
    _, first = np.unique(pairs, return_index=True)  # the first of equal ones
    repeated = np.ones(len(pairs), dtype=bool)
    repeated[first] = False
    return repeated
