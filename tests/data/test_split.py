from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftrec.config import InputError, RecipeError
from peftrec.data import SPLITS, Cases, Sequences
from peftrec.data.cold_item_split import ColdItems
from peftrec.data.ratio_split import Ratio
from peftrec.data.split import GlobalTime, LeaveOneOut
from peftrec.data.user_split import UserHoldout

MakeSequences = Callable[..., Sequences]


def test_registry_holds_all() -> None:
    assert SPLITS.classes() == {
        "leave_one_out": LeaveOneOut,
        "global_time": GlobalTime,
        "ratio": Ratio,
        "user_holdout": UserHoldout,
        "cold_items": ColdItems,
    }


def test_leave_one_out(make_sequences: MakeSequences) -> None:
    sequences = make_sequences([[0, 1, 2, 3], [4], [1, 2], [3, 1, 3]])
    split = LeaveOneOut().split(sequences)
    assert split.train_lengths.tolist() == [2, 1, 2, 1]
    assert split.valid.users.tolist() == split.test.users.tolist() == [0, 3]
    assert split.valid.history_lengths.tolist() == [2, 1]
    assert split.valid.targets.tolist() == [2, 1]
    assert split.test.history_lengths.tolist() == [3, 2]
    assert split.test.targets.tolist() == [3, 3]
    assert "leaks across users in time" in split.leaks
    assert split.note.startswith("2 users give a case; 2 have fewer than 3 events and only train; 1 have one event")


def test_leave_one_out_without_a_case(make_sequences: MakeSequences) -> None:
    with pytest.raises(
        InputError,
        match=r"^data\.split\.kind: leave_one_out leaves no test case: none of the 2 users has 3 events \(the longest "
        r"history has 2\); use data\.split\.kind: user_holdout, which needs 2$",
    ):
        LeaveOneOut().split(make_sequences([[0, 1], [2]]))
    with pytest.raises(InputError, match="no split can ask for what follows one event"):
        LeaveOneOut().split(make_sequences([[0], [2]]))


def test_global_time(make_sequences: MakeSequences) -> None:
    events = [[0, 1, 2, 3], [4, 5], [6, 7, 8], [9]]
    times = [[0, 1, 8, 9], [2, 3], [4, 5, 6], [7]]
    split = GlobalTime(valid_fraction=0.3, test_fraction=0.2).split(make_sequences(events, times))
    # validation is [5, 8), test from 8 on
    assert split.train_lengths.tolist() == [2, 2, 1, 0]
    assert split.valid.users.tolist() == [2]
    assert split.valid.history_lengths.tolist() == [1]
    assert split.valid.targets.tolist() == [7]
    assert split.test.users.tolist() == [0]
    assert split.test.history_lengths.tolist() == [2]
    assert split.test.targets.tolist() == [2]
    assert split.leaks == "Nothing later than a test event is trained on."
    assert split.note.startswith(
        "1 users give a validation case and 1 a test case, 0 of these without a training event"
    )
    assert "0 users begin in the test period" in split.note


def test_global_time_keeps_equal_times_together(make_sequences: MakeSequences) -> None:
    events = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    times = [[1, 2, 3], [1, 2, 3], [1, 2, 3]]
    split = GlobalTime(valid_fraction=0.4, test_fraction=0.2).split(make_sequences(events, times))
    assert split.train_lengths.tolist() == [1, 1, 1]
    assert split.valid.targets.tolist() == [1, 4, 7]
    assert split.test.targets.tolist() == [2, 5, 8]


def test_global_time_refusals(make_sequences: MakeSequences) -> None:
    events = [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(RecipeError, match=r"data\.timestamps is 'order'.*leave_one_out"):
        GlobalTime().split(make_sequences(events))
    with pytest.raises(InputError, match=r"^data\.split\.kind: global_time leaves no training event.*leave_one_out$"):
        GlobalTime().split(make_sequences(events, [[7, 7, 7], [7, 7, 7]]))
    with pytest.raises(
        InputError,
        match=r"1970-01-01T00:00:00Z, which 4 of 6 events share; data\.split\.valid_fraction \+ "
        r"data\.split\.test_fraction must be at most 0\.33$",
    ):
        GlobalTime(valid_fraction=0.2, test_fraction=0.2).split(make_sequences(events, [[7, 7, 8], [7, 7, 9]]))
    apart = [[0, 1, 2], [7, 8, 9]]  # nobody has events in two periods
    with pytest.raises(
        InputError,
        match=r"^data\.split\.kind: global_time leaves no validation case: .*data\.split\.valid_fraction is 0\.25, "
        r"data\.split\.test_fraction 0\.25, of 6 events\); data\.split\.valid_fraction: 0\.41 would give one$",
    ):
        GlobalTime(valid_fraction=0.25, test_fraction=0.25).split(make_sequences(events, apart))
    with pytest.raises(
        InputError,
        match=r"no test case: .*; data\.split\.test_fraction: 0\.16 would give one, and data\.split\.new_users: keep "
        r"would give 1$",
    ):
        GlobalTime(valid_fraction=0.2, test_fraction=0.5).split(make_sequences(events, [[0, 1, 2], [7, 7, 9]]))
    with pytest.raises(InputError, match=r"no validation case.*no data\.split\.valid_fraction would give one; use"):
        GlobalTime(valid_fraction=0.25, test_fraction=0.25).split(make_sequences([[0], [1], [2]], [[1], [2], [3]]))
    later = make_sequences([[0, 1, 2], [3, 4, 5], [6, 7]], [[0, 1, 5], [2, 3, 4], [6, 7]])
    with pytest.raises(InputError, match=r"no test case.*; data\.split\.test_fraction: 0\.12 would give one, and"):
        GlobalTime(valid_fraction=0.4, test_fraction=0.25).split(later)
    with pytest.raises(ValueError, match="below 1"):
        GlobalTime(valid_fraction=0.5, test_fraction=0.5)


_events = st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=8), min_size=2, max_size=8)


@settings(max_examples=60, deadline=None)
@given(times=_events, fractions=st.tuples(st.floats(0.05, 0.4), st.floats(0.05, 0.4)))
def test_global_time_never_looks_ahead(times: list[list[int]], fractions: tuple[float, float]) -> None:
    times = [sorted(user) for user in times]
    flat = np.array([time for user in times for time in user], dtype=np.int64)
    offsets = np.cumsum([0, *(len(user) for user in times)]).astype(np.int64)
    sequences = Sequences(tuple(map(str, range(len(times)))), offsets, np.arange(len(flat), dtype=np.int64), flat)
    try:
        split = GlobalTime(valid_fraction=fractions[0], test_fraction=fractions[1]).split(sequences)
    except InputError:
        return
    trained = np.concatenate(
        [flat[o : o + n] for o, n in zip(offsets[:-1], split.train_lengths, strict=True)] or [flat[:0]]
    )
    for cases, earlier in ((split.valid, trained), (split.test, flat[split.valid.targets])):
        assert len(set(cases.users.tolist())) == len(cases)
        assert earlier.max() < flat[cases.targets].min()
        assert (cases.history_lengths > 0).all()
        assert (flat[cases.targets - 1] < flat[cases.targets].min()).all()  # targets are places here, as items are


def refusal(sequences: Sequences, **values: float) -> str:
    """What a split in time says where it refuses, else ""."""
    try:
        GlobalTime(**values).split(sequences)  # type: ignore[arg-type]
    except InputError as error:
        return str(error)
    return ""


@settings(max_examples=200, deadline=None)
@given(times=_events, fractions=st.tuples(st.floats(0.05, 0.4), st.floats(0.05, 0.4)))
def test_the_share_that_an_error_of_global_time_names_gives_a_case(
    times: list[list[int]], fractions: tuple[float, float]
) -> None:
    times = [sorted(user) for user in times]
    flat = np.array([time for user in times for time in user], dtype=np.int64)
    offsets = np.cumsum([0, *(len(user) for user in times)]).astype(np.int64)
    sequences = Sequences(tuple(map(str, range(len(times)))), offsets, np.arange(len(flat), dtype=np.int64), flat)
    values = dict(zip(("valid_fraction", "test_fraction"), fractions, strict=True))
    said = refusal(sequences, **values)
    named = re.search(r"no (validation|test) case.*data\.split\.(valid|test)_fraction: ([0-9.]+) would", said)
    if named is None:
        return
    values[f"{named[2]}_fraction"] = float(named[3])
    if sum(values.values()) >= 1:
        assert "with a smaller data.split.valid_fraction" in said
        return
    again = refusal(sequences, **values)
    assert f"no {named[1]} case" not in again
    # A longer test period takes from validation and from training.
    assert not again or named[1] == "test" or "no test case" in again


def test_histories(make_sequences: MakeSequences) -> None:
    sequences = make_sequences([[5, 6, 7, 8], [9], [1, 2, 3]])
    cases = Cases(np.array([0, 1, 2]), np.array([3, 0, 2]), np.array([8, 9, 3]))
    assert cases.histories(sequences, 0, 3).tolist() == [[5, 6, 7], [-1, -1, -1], [-1, 1, 2]]
    assert cases.histories(sequences, 0, 3, 2).tolist() == [[6, 7], [-1, -1], [1, 2]]
    assert cases.histories(sequences, 2, 99).tolist() == [[1, 2]]
    assert cases.histories(sequences, 1, 2).tolist() == [[-1]]
    assert cases.histories(sequences, 0, 1).dtype == np.int64
    with pytest.raises(ValueError, match="at least 1"):
        cases.histories(sequences, 0, 1, 0)
