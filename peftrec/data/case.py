"""Evaluation cases: a user's history up to a moment, and the event that followed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftrec.data.sequence import Sequences


@dataclass(frozen=True, eq=False)
class Cases:
    """B questions "what comes next?", each with its answer.

    The history of case i is the first `history_lengths[i]` events of user `users[i]`.

    Args:
        users: int64 user indexes, shape (B,).
        history_lengths: int64, shape (B,).
        targets: int64 catalogue indexes, shape (B,).
    """

    users: NDArray[np.int64]
    history_lengths: NDArray[np.int64]
    targets: NDArray[np.int64]

    def __post_init__(self) -> None:
        assert len(self.users) == len(self.history_lengths) == len(self.targets)

    def __len__(self) -> int:
        return len(self.users)

    def histories(
        self, sequences: Sequences, start: int, stop: int, max_length: int | None = None
    ) -> NDArray[np.int64]:
        """The histories of the cases start..stop-1, right-aligned.

        Padded to the longest of these histories, but at least one column wide, so that an empty history is a row of
        padding.

        Args:
            sequences: the events that the cases were cut from.
            start: first case.
            stop: case after the last; may lie beyond the end.
            max_length: keep only the newest so many events; None keeps all.
        Returns:
            int64 catalogue indexes, shape (b, L), left-padded with -1, the newest event last.
        Raises:
            ValueError: if max_length is below 1.
        """
        return sequences.gather(*self._runs(sequences, start, stop, max_length))

    def event_histories(
        self, sequences: Sequences, start: int, stop: int, max_length: int | None = None
    ) -> NDArray[np.int64] | None:
        """The kinds of the events that `histories` gives for the same arguments.

        Returns:
            int64 codes of kinds, shape (b, L), left-padded with -1, the newest last; None where there are no kinds.
        Raises:
            ValueError: if max_length is below 1.
        """
        return sequences.gather_events(*self._runs(sequences, start, stop, max_length))

    def time_histories(
        self, sequences: Sequences, start: int, stop: int, max_length: int | None = None
    ) -> NDArray[np.int64] | None:
        """The times of the events that `histories` gives for the same arguments.

        Returns:
            int64 milliseconds since 1970, shape (b, L), left-padded with -1, the newest last; None where the data hold
            only an order.
        Raises:
            ValueError: if max_length is below 1.
        """
        return sequences.gather_times(*self._runs(sequences, start, stop, max_length))

    def _runs(
        self, sequences: Sequences, start: int, stop: int, max_length: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}")
        full = self.history_lengths[start:stop]
        lengths = full if max_length is None else np.minimum(full, max_length)
        ends = sequences.offsets[self.users[start:stop]] + full
        return ends - lengths, lengths, max(1, int(lengths.max(initial=0)))
