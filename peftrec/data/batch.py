"""Training batches: windows of users' training events, drawn in a new order each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data.dataset import Dataset
from peftrec.data.sequence import Sequences


@dataclass(frozen=True, eq=False)
class UserBatch:
    """B windows, L positions; arrays of int64, but for the ratings.

    Args:
        users: user indexes, shape (B,); a user with several windows may occur more than once.
        inputs: catalogue indexes, shape (B, L), left-padded with -1.
        targets: the item that follows each position, shape (B, L), -1 where it is not to be learned.
        starts: place of each row's first input among its user's training events, shape (B,).
        seen_offsets: shape (B + 1,): row i's training items are `seen_items[seen_offsets[i]:seen_offsets[i + 1]]`.
        seen_items: all training items of each row's user, inside and outside the window, in order of time.
        events: the kind of each input's event, shape (B, L), left-padded with -1; None where there are no kinds.
        times: when each input happened, milliseconds since 1970, shape (B, L), left-padded with -1; None where the
            data hold only an order.
        ratings: how the event that follows each position was rated, float32, shape (B, L), left-padded with NaN; None
            where there are no ratings.
        past: how many of the user's training events lie before each target, shape (B, L); None where the inputs are
            consecutive events, so that `starts` tells it.
    """

    users: NDArray[np.int64]
    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    starts: NDArray[np.int64]
    seen_offsets: NDArray[np.int64]
    seen_items: NDArray[np.int64]
    events: NDArray[np.int64] | None = None
    times: NDArray[np.int64] | None = None
    ratings: NDArray[np.float32] | None = None
    past: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def rows(self, start: int, stop: int) -> UserBatch:
        """Return some of the rows, padded as before."""
        stop = min(stop, len(self))
        rows, low, high = slice(start, stop), self.seen_offsets[start], self.seen_offsets[stop]
        return replace(
            self,
            users=self.users[rows],
            inputs=self.inputs[rows],
            targets=self.targets[rows],
            starts=self.starts[rows],
            seen_offsets=self.seen_offsets[start : stop + 1] - low,
            seen_items=self.seen_items[low:high],
            events=None if self.events is None else self.events[rows],
            times=None if self.times is None else self.times[rows],
            ratings=None if self.ratings is None else self.ratings[rows],
            past=None if self.past is None else self.past[rows],
        )

    def past_events(self) -> NDArray[np.int64]:
        """How many of the user's training events lie before each target, shape (B, L): its place among them."""
        if self.past is not None:
            return self.past
        # The newest input stands last; the one before it has one event fewer behind it.
        width = self.inputs.shape[1]
        lengths = (self.inputs >= 0).sum(axis=1, keepdims=True)
        past: NDArray[np.int64] = self.starts[:, None] + np.arange(width) + 1 - (width - lengths)
        return past


@dataclass(frozen=True, eq=False)
class _Windows:
    """W windows: arrays of shape (W,).

    Args:
        users: whose.
        starts: place of the first input among all events.
        lengths: inputs.
        num_targets: how many of the newest places have a target; the others are context.
    """

    users: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    num_targets: NDArray[np.int64]

    def __getitem__(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> _Windows:
        return _Windows(self.users[which], self.starts[which], self.lengths[which], self.num_targets[which])


class TrainingWindows:
    """The training events cut into windows of at most `max_history` inputs.

    Every training event but a user's first is a target exactly once an epoch. A user with more than L targets is cut
    elsewhere in each epoch, so that the same event is now learned from a short history, now from a long one: the oldest
    window has between r and L targets, where r is what whole windows of L leave over; those that follow have L; the
    newest has the rest, with the inputs before them as context.

    Where events have weights, an event of weight w is a target with the chance w / (the largest weight), drawn anew in
    each epoch, so that the expected gradient is that of the weighted loss; one of weight 0 never is. A batch in which
    none was drawn has one target, drawn by weight.

    Args:
        dataset: where events and train lengths come from; validation and test events are never read.
        max_history: L, at least 1.
        skip_repeats: an event whose item the user has had before is no target (it stays an input). Users with such
            events are cut the same way each epoch (r targets in the oldest window), and windows without targets are
            left out.
    Raises:
        ValueError: if max_history is below 1.
        InputError: if there is no target.
    """

    def __init__(self, dataset: Dataset, max_history: int, *, skip_repeats: bool = False) -> None:
        if max_history < 1:
            raise ValueError(f"max_history must be at least 1, got {max_history}")
        self._sequences, self._max_history = dataset.sequences, max_history
        self._train_lengths = dataset.split.train_lengths
        self._is_target = np.ones(len(self._sequences.items), dtype=bool)
        if skip_repeats:
            self._is_target = ~_repeats(self._sequences)
        weights = self._sequences.weights
        self._chances = None
        if weights is not None:
            self._is_target &= weights > 0
            self._chances = weights / (weights.max(initial=0, where=self._is_target) or 1)
        # Sum over the events before each, so that the targets of a window are one difference.
        self._running = np.concatenate([[0], np.cumsum(self._is_target)])
        targets_U = np.maximum(self._train_lengths - 1, 0)
        self._targets_U = targets_U
        self._windows_U = -(-targets_U // max_history)
        self._least_U = targets_U - (self._windows_U - 1) * max_history
        first = np.minimum(self._sequences.offsets[:-1] + 1, len(self._is_target))
        whole_U = self._running[first + targets_U] - self._running[first] == targets_U
        # A user's oldest window may have up to this many targets.
        self._most_U = np.where(whole_U & (self._windows_U > 1), max_history, self._least_U)
        windows = self._cut(self._least_U)
        self.num_windows = len(windows.users)
        self.num_targets = int(self._count(windows).sum())
        if not self.num_windows:
            new, weighed = " of a new item" * skip_repeats, " the second of which is a target" * (weights is not None)
            raise InputError(f"nothing to train on: no user has two training events{new}{weighed}")

    @property
    def user_ids(self) -> Sequence[str]:
        """The names of users, by their index."""
        return self._sequences.user_ids

    def num_batches(self, batch_size: int) -> int:
        """How many batches an epoch has, the last one smaller where it does not come out even."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        return -(-self.num_windows // batch_size)

    def epoch(self, seed: int, epoch: int, batch_size: int) -> Iterator[UserBatch]:
        """All windows once, cut and ordered in a way that depends on (seed, epoch) alone.

        Args:
            seed: the run's seed, at least 0.
            epoch: the epoch's number, at least 0.
            batch_size: windows a batch.
        Returns:
            The batches, each padded only to its own longest window.
        """
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(self.num_windows)
        windows = self._cut(random.integers(self._least_U, self._most_U, endpoint=True))
        for number in range(self.num_batches(batch_size)):
            yield self._batch(windows[order[number * batch_size : (number + 1) * batch_size]], random)

    def _cut(self, oldest_U: NDArray[np.int64]) -> _Windows:
        """Cut all users' events, each user's oldest window with that many targets; newest windows first."""
        users = np.repeat(np.arange(len(self._windows_U), dtype=np.int64), self._windows_U)
        first_window = np.cumsum(self._windows_U) - self._windows_U
        age = np.arange(len(users), dtype=np.int64) - first_window[users]  # 0 is a user's newest window
        place = self._windows_U[users] - 1 - age  # 0 is the oldest
        stops = np.minimum(oldest_U[users] + place * self._max_history, self._targets_U[users])
        before = np.where(place == 0, 0, oldest_U[users] + (place - 1) * self._max_history)
        starts = np.maximum(stops - self._max_history, 0)
        windows = _Windows(users, self._sequences.offsets[users] + starts, stops - starts, stops - before)
        return windows[self._count(windows) > 0]

    def _count(self, windows: _Windows) -> NDArray[np.int64]:
        """Targets of each window, repeats left out where they do not count."""
        after = windows.starts + windows.lengths + 1
        count: NDArray[np.int64] = self._running[after] - self._running[after - windows.num_targets]
        return count

    def _batch(self, windows: _Windows, random: np.random.Generator) -> UserBatch:
        users, starts, lengths = windows.users, windows.starts, windows.lengths
        width = int(lengths.max())
        seen_offsets, seen_items = self._sequences.gather_flat(
            self._sequences.offsets[users], self._train_lengths[users]
        )
        targets = self._sequences.gather(starts + 1, lengths, width)
        from_newest = width - 1 - np.arange(width)
        column = (lengths - 1)[:, None] - from_newest
        counted = (from_newest < windows.num_targets[:, None]) & (column >= 0)
        places = np.maximum(starts[:, None] + 1 + column, 0)
        counted &= self._is_target[places]
        if self._chances is not None:
            counted = _drawn(counted, self._chances[places], random)
        return UserBatch(
            users=users,
            inputs=self._sequences.gather(starts, lengths, width),
            targets=np.where(counted, targets, -1),
            starts=starts - self._sequences.offsets[users],
            seen_offsets=seen_offsets,
            seen_items=seen_items,
            events=self._sequences.gather_events(starts, lengths, width),
            times=self._sequences.gather_times(starts, lengths, width),
            ratings=self._sequences.gather_ratings(starts + 1, lengths, width),
        )


def _drawn(counted: NDArray[np.bool_], chances: NDArray[np.floating], random: np.random.Generator) -> NDArray[np.bool_]:
    """Some of the targets, each with its chance; one, by chance, where that would be none."""
    drawn: NDArray[np.bool_] = counted & (random.random(counted.shape) < chances)
    if not drawn.any():
        weights = np.where(counted, chances, 0.0).ravel().astype(np.float64)
        drawn.ravel()[random.choice(len(weights), p=weights / weights.sum())] = True
    return drawn


def _repeats(sequences: Sequences) -> NDArray[np.bool_]:
    """Which events are of an item that the same user has had before, shape (E,)."""
    users = np.repeat(np.arange(len(sequences), dtype=np.int64), sequences.lengths)
    pairs = users * (int(sequences.items.max(initial=0)) + 1) + sequences.items
    _, first = np.unique(pairs, return_index=True)  # the first of equal ones
    repeated = np.ones(len(pairs), dtype=bool)
    repeated[first] = False
    return repeated
