"""Who interacted with what, in order of time, in one flat array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Sequences:
    """The events of U users, user after user, each user's in order of time (equal times keep the file's order).

    Where users are cut into sessions, a session stands for a user everywhere; `owners` tell whose it is.

    User u has the events `offsets[u]:offsets[u + 1]` of `items`, `times`, `events` and `ratings`.

    Args:
        user_ids: U ids, in order of first appearance in the interactions.
        offsets: int64, shape (U + 1,).
        items: int64 catalogue indexes, shape (E,).
        times: int64 milliseconds since 1970, shape (E,); None where the data hold only an order.
        events: int64 codes of what kind of event each was, shape (E,); None where the recipe reads no kinds.
        weights: float32, how much each counts as a target, shape (E,); 0 makes it context alone. None where all count
            alike.
        ratings: float32, how each was rated, shape (E,); None where the recipe keeps no ratings.
        owners: int64, whose session each sequence is, shape (U,): equal numbers are sessions of one person. None where
            sequences are whole users.
    """

    user_ids: tuple[str, ...]
    offsets: NDArray[np.int64]
    items: NDArray[np.int64]
    times: NDArray[np.int64] | None = None
    events: NDArray[np.int64] | None = None
    weights: NDArray[np.float32] | None = None
    ratings: NDArray[np.float32] | None = None
    owners: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        assert len(self.offsets) == len(self.user_ids) + 1
        assert self.offsets[0] == 0
        assert self.offsets[-1] == len(self.items)
        assert self.times is None or len(self.times) == len(self.items)
        assert self.events is None or len(self.events) == len(self.items)
        assert self.weights is None or len(self.weights) == len(self.items)
        assert self.ratings is None or len(self.ratings) == len(self.items)
        assert self.owners is None or len(self.owners) == len(self.user_ids)

    def __len__(self) -> int:
        return len(self.user_ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of events of each user, shape (U,)."""
        return np.diff(self.offsets)

    @property
    def unit(self) -> str:
        """What a sequence is: `user`, or `session`."""
        return "user" if self.owners is None else "session"

    @property
    def people(self) -> NDArray[np.int64]:
        """Whose each sequence is, shape (U,): equal numbers are one person."""
        return np.arange(len(self), dtype=np.int64) if self.owners is None else self.owners

    def gather(self, starts: NDArray[np.int64], lengths: NDArray[np.int64], width: int) -> NDArray[np.int64]:
        """Runs of consecutive events as one array, right-aligned.

        Args:
            starts: the place in `items` where each run begins, shape (B,).
            lengths: how long it is, at most `width`, shape (B,).
            width: columns of the result.
        Returns:
            Catalogue indexes, shape (B, width), left-padded with -1, the newest last.
        """
        return _gather(self.items, starts, lengths, width)

    def gather_events(
        self, starts: NDArray[np.int64], lengths: NDArray[np.int64], width: int
    ) -> NDArray[np.int64] | None:
        """The kinds of the events that `gather` gives for the same arguments.

        Returns:
            Codes of kinds, shape (B, width), left-padded with -1, the newest last; None where there are no kinds.
        """
        return None if self.events is None else _gather(self.events, starts, lengths, width)

    def gather_times(
        self, starts: NDArray[np.int64], lengths: NDArray[np.int64], width: int
    ) -> NDArray[np.int64] | None:
        """The times of the events that `gather` gives for the same arguments.

        Returns:
            Milliseconds since 1970, shape (B, width), left-padded with -1, the newest last; None where there are none.
        """
        return None if self.times is None else _gather(self.times, starts, lengths, width)

    def gather_ratings(
        self, starts: NDArray[np.int64], lengths: NDArray[np.int64], width: int
    ) -> NDArray[np.float32] | None:
        """The ratings of the events that `gather` gives for the same arguments.

        Returns:
            float32, shape (B, width), left-padded with NaN, the newest last; None where there are no ratings.
        """
        if self.ratings is None:
            return None
        places = _gather(np.arange(len(self.items), dtype=np.int64), starts, lengths, width)
        return np.where(places >= 0, self.ratings[places], np.float32(np.nan))

    def gather_flat(
        self, starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Runs of consecutive events, one after the other without padding.

        Args:
            starts: the place in `items` where each run begins, shape (B,).
            lengths: how long it is, shape (B,).
        Returns:
            Offsets of the runs, shape (B + 1,), and the catalogue indexes.
        """
        offsets = np.zeros(len(starts) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        place = np.arange(offsets[-1], dtype=np.int64) + np.repeat(starts - offsets[:-1], lengths)
        return offsets, self.items[place]


def _gather(
    values: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64], width: int
) -> NDArray[np.int64]:
    """Runs of consecutive values, one a row, right-aligned, left-padded with -1."""
    column = np.arange(width, dtype=np.int64) - (width - lengths)[:, None]
    place = np.where(column >= 0, column + starts[:, None], 0)
    if len(values) == 0:
        return np.full(place.shape, -1, dtype=np.int64)
    return np.where(column >= 0, values[place], -1)
