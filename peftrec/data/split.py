"""Which events train, which validate, which test: one class a split, behind one registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError, Range, RecipeError, Registry
from peftrec.data.case import Cases
from peftrec.data.sequence import Sequences


@dataclass(frozen=True, eq=False)
class Split:
    """What a split decided.

    Args:
        train_lengths: int64, shape (U,): the first so many events of each user are for training.
        valid: the validation cases.
        test: the test cases.
        leaks: one sentence on what the training events know of the test period, or "".
        note: one sentence for the report on who got no case.
    """

    train_lengths: NDArray[np.int64]
    valid: Cases
    test: Cases
    leaks: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """What every split has: a kind, and `split`."""

    kind: ClassVar[str]
    needs_times: ClassVar[bool] = False

    def split(self, sequences: Sequences) -> Split:
        """Cuts the events into training, validation and test.

        Args:
            sequences: all events.
        Returns:
            The split; neither the validation nor the test cases are empty.
        Raises:
            InputError: if validation or test would be empty, or the split does not fit the data.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut(SplitConfig):
    """Each user's last event tests, the one before validates, the rest trains.

    Users with fewer than three events are for training only. The split of most published tables; it leaks: others'
    training events may be later than a user's test event.
    """

    kind: ClassVar[str] = "leave_one_out"

    def split(self, sequences: Sequences) -> Split:
        """Cuts the last two events off each user with at least three."""
        lengths = sequences.lengths
        users = np.flatnonzero(lengths >= 3).astype(np.int64)
        if not len(users):
            raise InputError(
                f"leave_one_out leaves no test case: none of the {len(lengths):,} users has 3 events "
                f"(the longest history has {int(lengths.max(initial=0))})"
            )
        few, single = int((lengths < 3).sum()), int((lengths == 1).sum())
        return Split(
            train_lengths=np.where(lengths >= 3, lengths - 2, lengths),
            valid=_next_cases(sequences, users, lengths[users] - 2),
            test=_next_cases(sequences, users, lengths[users] - 1),
            leaks="Leave-one-out leaks across users in time: it trains on events later than other users' test events.",
            note=f"{len(users):,} users give a case; {few:,} have fewer than 3 events and only train; "
            f"{single:,} have one event and are no target at all",
        )


@dataclass(frozen=True, kw_only=True)
class GlobalTime(SplitConfig):
    """Two moments cut all events: before the first trains, up to the second validates, after it tests.

    Each user with an event in a period and at least one before it gives one case: the first event in the period,
    with all events before the period as history. Equal times fall on one side of a cut.

    Args:
        valid_fraction: share of all events in the validation period.
        test_fraction: share of all events in the test period (more where many events share the cut's time).
    """

    kind: ClassVar[str] = "global_time"
    needs_times: ClassVar[bool] = True
    valid_fraction: Annotated[float, Range(gt=0, lt=1)] = 0.1
    test_fraction: Annotated[float, Range(gt=0, lt=1)] = 0.1

    def __post_init__(self) -> None:
        if self.valid_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"valid_fraction + test_fraction must be below 1, got {self.valid_fraction + self.test_fraction:g}"
            )

    def split(self, sequences: Sequences) -> Split:
        """Cuts all users' events at the same two moments."""
        if sequences.times is None:
            raise RecipeError(
                "data.split.kind: global_time needs times, but data.timestamps is 'order' (positions tell nothing "
                "across users); use data.split.kind: leave_one_out"
            )
        valid_cut, test_cut = self._cuts(sequences.times)
        before_valid = _count_before(sequences, valid_cut)
        before_test = _count_before(sequences, test_cut)
        if not before_valid.any():
            raise InputError("global_time leaves no training event: too many events share the earliest time")
        valid = _period_cases(sequences, before_valid, before_test)
        test = _period_cases(sequences, before_test, sequences.lengths)
        for name, cases in (("validation", valid), ("test", test)):
            if not len(cases):
                raise InputError(
                    f"global_time leaves no {name} case: no user has an event in that period and one before it "
                    f"(valid_fraction {self.valid_fraction:g}, test_fraction {self.test_fraction:g} of "
                    f"{len(sequences.items):,} events)"
                )
        untrained = int((before_valid[test.users] == 0).sum())
        new = int(((before_test == 0) & (sequences.lengths > 0)).sum())
        return Split(
            train_lengths=before_valid,
            valid=valid,
            test=test,
            note=f"{len(valid):,} users give a validation case and {len(test):,} a test case, {untrained:,} of these "
            f"without a training event; {new:,} users begin in the test period and give none; cuts at "
            f"{_moment(valid_cut)} and {_moment(test_cut)}",
        )

    def _cuts(self, times: NDArray[np.int64]) -> tuple[int, int]:
        ordered = np.sort(times)
        last = len(ordered) - 1
        # rounded first: 1 - .1 - .1 is .8 only nearly, and a cut must not depend on that
        first_valid = int(np.floor(round(len(ordered) * (1 - self.valid_fraction - self.test_fraction), 6)))
        first_test = int(np.floor(round(len(ordered) * (1 - self.test_fraction), 6)))
        return int(ordered[min(first_valid, last)]), int(ordered[min(first_test, last)])


SPLITS = Registry(
    "split",
    {
        "leave_one_out": "peftrec.data.split:LeaveOneOut",
        "global_time": "peftrec.data.split:GlobalTime",
    },
)


def _next_cases(sequences: Sequences, users: NDArray[np.int64], history_lengths: NDArray[np.int64]) -> Cases:
    return Cases(users, history_lengths, sequences.items[sequences.offsets[users] + history_lengths])


def _period_cases(sequences: Sequences, before: NDArray[np.int64], until: NDArray[np.int64]) -> Cases:
    users = np.flatnonzero((before > 0) & (until > before)).astype(np.int64)
    return _next_cases(sequences, users, before[users])


def _count_before(sequences: Sequences, cut: int) -> NDArray[np.int64]:
    assert sequences.times is not None
    running = np.zeros(len(sequences.items) + 1, dtype=np.int64)
    np.cumsum(sequences.times < cut, out=running[1:])
    return np.diff(running[sequences.offsets])


def _moment(milliseconds: int) -> str:
    return f"{np.datetime64(milliseconds, 'ms').astype('datetime64[s]')}Z"
