"""Which events train, which validate, which test: one class a split, behind one registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError, Range, RecipeError, Registry
from peftrec.data.case import Cases
from peftrec.data.case_choice import Targets, check_fractions, choose_cases, last_two_places, next_cases, told
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
        sequences: the events with those taken out that nobody may see; None where all events stay.
    """

    train_lengths: NDArray[np.int64]
    valid: Cases
    test: Cases
    leaks: str = ""
    note: str = ""
    sequences: Sequences | None = None


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
        valid, test = last_two_places(sequences)
        users = np.flatnonzero(valid > 0).astype(np.int64)
        if not len(users):
            weight = (
                "" if sequences.weights is None else ", two of them targets after the first (data.min_target_weight)"
            )
            raise InputError(
                f"leave_one_out leaves no test case: none of the {len(lengths):,} users has 3 events{weight} "
                f"(the longest history has {int(lengths.max(initial=0))})"
            )
        few, single = len(lengths) - len(users), int((lengths == 1).sum())
        enough = "3 events" if sequences.weights is None else "2 targets after their first event"
        return Split(
            train_lengths=np.where(valid > 0, valid, lengths),
            valid=next_cases(sequences, users, valid[users]),
            test=next_cases(sequences, users, test[users]),
            leaks="Leave-one-out leaks across users in time: it trains on events later than other users' test events.",
            note=f"{len(users):,} users give a case; {few:,} have fewer than {enough} and only train; "
            f"{single:,} have one event and are no target at all",
        )


@dataclass(frozen=True, kw_only=True)
class GlobalTime(SplitConfig):
    """Two moments cut all events: before the first trains, up to the second validates, after it tests.

    Each user with an event in a period and at least one before it gives a case: the first event in the period, with
    all events before the period as history. Equal times fall on one side of a cut.

    Args:
        valid_fraction: share of all events in the validation period.
        test_fraction: share of all events in the test period (more where many events share the cut's time).
        new_users: `drop` takes no case of users who begin in the period; `keep` does: their first event is history, and
            targets begin with their second.
        targets: which events of the period are targets: a user's `first`, `last`, or `all`; the history of each is all
            that the user did before it, in the period too.
    """

    kind: ClassVar[str] = "global_time"
    needs_times: ClassVar[bool] = True
    valid_fraction: Annotated[float, Range(gt=0, lt=1)] = 0.1
    test_fraction: Annotated[float, Range(gt=0, lt=1)] = 0.1
    new_users: Literal["drop", "keep"] = "drop"
    targets: Targets = "first"

    def __post_init__(self) -> None:
        check_fractions(self.valid_fraction, self.test_fraction)

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
        valid = self._period(sequences, "validation", before_valid, before_test)
        test = self._period(sequences, "test", before_test, sequences.lengths)
        untrained = int((before_valid[np.unique(test.users)] == 0).sum())
        new = int(((before_test == 0) & (sequences.lengths > 0)).sum())
        fate = "give none" if self.new_users == "drop" else "are kept, their first event as history"
        return Split(
            train_lengths=before_valid,
            valid=valid,
            test=test,
            note=f"{told(valid, test)}, {untrained:,} of these without a training event; {new:,} users begin in the "
            f"test period and {fate}; cuts at {_moment(valid_cut)} and {_moment(test_cut)}",
        )

    def _period(self, sequences: Sequences, name: str, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Cases:
        stops = np.where(starts > 0, stops, 0) if self.new_users == "drop" else stops
        cases = choose_cases(sequences, starts, stops, self.targets)
        if not len(cases):
            raise InputError(
                f"global_time leaves no {name} case: no user has an event in that period and one before it "
                f"(valid_fraction {self.valid_fraction:g}, test_fraction {self.test_fraction:g} of "
                f"{len(sequences.items):,} events)"
            )
        return cases

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
        "ratio": "peftrec.data.ratio_split:Ratio",
        "user_holdout": "peftrec.data.user_split:UserHoldout",
        "cold_items": "peftrec.data.cold_item_split:ColdItems",
    },
)


def _count_before(sequences: Sequences, cut: int) -> NDArray[np.int64]:
    assert sequences.times is not None
    running = np.zeros(len(sequences.items) + 1, dtype=np.int64)
    np.cumsum(sequences.times < cut, out=running[1:])
    return np.diff(running[sequences.offsets])


def _moment(milliseconds: int) -> str:
    return f"{np.datetime64(milliseconds, 'ms').astype('datetime64[s]')}Z"
