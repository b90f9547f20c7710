"""Which events train, which validate, which test: one class a split, behind one registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError, Range, RecipeError, Registry
from peftrec.data.case import Cases
from peftrec.data.case_choice import (
    Targets,
    check_fractions,
    choose_cases,
    floored,
    last_two_places,
    next_cases,
    num_people,
    of_people,
    share_with_a_case,
    told,
    told_leaks,
)
from peftrec.data.sequence import Sequences


@dataclass(frozen=True, eq=False)
class Split:
    """What a split decided.

    Args:
        train_lengths: int64, shape (U,): the first so many events of each user are for training.
        valid: the validation cases.
        test: the test cases.
        leaks: what the training events know of the test period, in a sentence; "" only in splits made by hand.
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
            raise InputError(_no_three(sequences))
        few, single = len(lengths) - len(users), int((lengths == 1).sum())
        enough = "3 events" if sequences.weights is None else "2 targets after their first event"
        return Split(
            train_lengths=np.where(valid > 0, valid, lengths),
            valid=next_cases(sequences, users, valid[users]),
            test=next_cases(sequences, users, test[users]),
            leaks=told_leaks(
                sequences,
                f"Leave-one-out leaks across {sequences.unit}s in time: it trains on events later than other "
                f"{sequences.unit}s' test events.",
                "other sessions of the same person train too, earlier and later ones",
            ),
            note=f"{len(users):,} {sequences.unit}s{of_people(sequences, users)} give a case; {few:,} have fewer than "
            f"{enough} and only train; {single:,} have one event and are no target at all",
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
            raise InputError(_no_training(sequences.times))
        valid = self._period(sequences, "validation", (before_valid, before_test), test_cut)
        test = self._period(sequences, "test", (before_test, sequences.lengths), None)
        untrained, new = self._told_new(sequences, test, before_valid, before_test)
        return Split(
            train_lengths=before_valid,
            valid=valid,
            test=test,
            leaks=told_leaks(
                sequences,
                "Nothing later than a test event is trained on.",
                "earlier sessions of the same person may train, later ones never do",
            ),
            note=f"{told(sequences, valid, test)}, {untrained} without a training event; {new}; cuts "
            f"at {_moment(valid_cut)} and {_moment(test_cut)}",
        )

    def _period(
        self, sequences: Sequences, name: str, places: tuple[NDArray[np.int64], NDArray[np.int64]], end: int | None
    ) -> Cases:
        """The cases of a period: of the places from the first up to the second, before the moment `end`."""
        starts, stops = places
        kept_stops = np.where(starts > 0, stops, 0) if self.new_users == "drop" else stops
        cases = choose_cases(sequences, starts, kept_stops, self.targets)
        if len(cases):
            return cases
        key, rest = ("test", 0.0) if end is None else ("valid", self.test_fraction)
        share = share_with_a_case(sequences, end, rest)
        remedy = f"no data.split.{key}_fraction would give one; use data.split.kind: leave_one_out or user_holdout"
        if share is not None:
            remedy = f"data.split.{key}_fraction: {share} would give one"
            if key == "test" and float(share) + self.valid_fraction >= 1:
                remedy += ", with a smaller data.split.valid_fraction"
        num_new = len(choose_cases(sequences, starts, stops, self.targets))
        if num_new:
            remedy += f", and data.split.new_users: keep would give {num_new:,}"
        raise InputError(
            f"data.split.kind: global_time leaves no {name} case: no {sequences.unit} has an event in that period and "
            f"one before it (data.split.valid_fraction is {self.valid_fraction:g}, data.split.test_fraction "
            f"{self.test_fraction:g}, of {len(sequences.items):,} events); {remedy}"
        )

    def _told_new(
        self, sequences: Sequences, test: Cases, before_valid: NDArray[np.int64], before_test: NDArray[np.int64]
    ) -> tuple[str, str]:
        """How many of those who test have no training event; how many begin in the test period."""
        untrained, people = _without(sequences, np.unique(test.users), before_valid)
        new, new_people = _without(sequences, np.flatnonzero(sequences.lengths), before_test)
        fate = "give none" if self.new_users == "drop" else "are kept, their first event as history"
        if sequences.owners is None:
            return f"{untrained:,} of these", f"{new:,} users begin in the test period and {fate}"
        begin = f"{new:,} sessions (the first ones of {new_people:,} people among them) begin"
        return (
            f"{untrained:,} of these sessions and {people:,} of these people",
            f"{begin} in the test period and {fate}",
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


def _no_three(sequences: Sequences) -> str:
    """Why leave-one-out finds nothing to ask for, and what would."""
    longest = int(sequences.lengths.max(initial=0))
    light = sequences.weights is not None and bool((sequences.weights <= 0).any())
    targets = ", two of them targets after the first (data.min_target_weight)" if light else ""
    remedies = ["lower data.min_target_weight"] * light
    remedies += ["raise data.sessions.gap_minutes"] * (sequences.owners is not None)
    remedies += ["use data.split.kind: user_holdout, which needs 2"] * (longest >= 2 and not light)
    remedy = ", or ".join(remedies) or "no split can ask for what follows one event"
    return (
        f"data.split.kind: leave_one_out leaves no test case: none of the {len(sequences):,} {sequences.unit}s has 3 "
        f"events{targets} (the longest history has {longest}); {remedy}"
    )


def _no_training(times: NDArray[np.int64]) -> str:
    """Why a cut in time leaves nothing to train, and what would."""
    first = times.min()
    num_first = int((times == first).sum())
    remedy = "use data.split.kind: leave_one_out"
    if num_first < len(times):
        most = floored(1 - num_first / len(times), len(times))
        remedy = f"data.split.valid_fraction + data.split.test_fraction must be at most {most}"
    return (
        f"data.split.kind: global_time leaves no training event: the validation period begins at the earliest time, "
        f"{_moment(int(first))}, which {num_first:,} of {len(times):,} events share; {remedy}"
    )


def _without(sequences: Sequences, users: NDArray[np.int64], before: NDArray[np.int64]) -> tuple[int, int]:
    """Of some users, how many have no event before a moment; and how many people, in none of their sessions."""
    earlier = np.isin(sequences.people[users], sequences.people[before > 0])
    return int((before[users] == 0).sum()), num_people(sequences, users[~earlier])


def _moment(milliseconds: int) -> str:
    return f"{np.datetime64(milliseconds, 'ms').astype('datetime64[s]')}Z"
