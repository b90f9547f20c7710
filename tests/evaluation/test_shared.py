"""Cases dealt out over processes; two real ones do it in tests/launch/test_shards.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data import Cases, Sequences
from peftrec.evaluation.shared import shared_rows
from peftrec.launch import Ranks

Rows = NDArray[np.int64]


class First(Ranks):
    """The first of two processes; the rows of the other are made here."""

    def __init__(self, other: Callable[[Rows], Rows], num_failed: int = 0) -> None:
        super().__init__(0, 2)
        self._other, self._num_failed = other, num_failed

    def total(self, values: Any) -> list[float]:
        return [value + self._num_failed for value in values]

    def joined(self, rows: NDArray[Any]) -> NDArray[Any]:
        return self._other(rows)


@pytest.fixture
def cases() -> Cases:
    """Five cases of three users; user 1 has the same target twice."""
    as_rows = np.array([[0, 2, 4], [1, 2, 7], [1, 3, 7], [2, 1, 0], [2, 2, 5]], dtype=np.int64)
    return Cases(*np.ascontiguousarray(as_rows.T))


@pytest.fixture
def sequences() -> Sequences:
    offsets = np.array([0, 4, 8, 12], dtype=np.int64)
    return Sequences(user_ids=("ann", "ben", "cy"), offsets=offsets, items=np.zeros(12, dtype=np.int64))


def doubled(cases: Cases) -> Rows:
    return np.stack([2 * cases.targets, cases.users], axis=1)


def rows_of(cases: Cases, found: Rows) -> Rows:
    return np.concatenate([np.stack([cases.users, cases.history_lengths, cases.targets], axis=1), found], axis=1)


def test_rows_of_all_come_back(cases: Cases, sequences: Sequences) -> None:
    whole = rows_of(cases, doubled(cases))

    def join(own: Rows) -> Rows:
        np.testing.assert_array_equal(own, whole[:2])
        return whole

    found = shared_rows(doubled, cases, sequences, First(join))
    np.testing.assert_array_equal(found, shared_rows(doubled, cases, sequences, None))
    np.testing.assert_array_equal(found, doubled(cases))


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 1, 3, 4], "for 4 cases, and the split has 5: case 2, of user 'ben' with target 7, is not where"),
        ([0, 1, 2, 3], "for 4 cases, and the split has 5: case 4, of user 'cy' with target 5, is not where"),
        ([0, 1, 0, 1], "for 4 cases, and the split has 5: case 2, of user 'ben'"),
        ([0, 1, 2, 4, 3], "for 5 cases, and the split has 5: case 3, of user 'cy' with target 0"),
        ([0, 1, 2, 3, 4, 4], "for 6 cases, and the split has 5: there are more than that"),
    ],
    ids=["one is missing", "the last is missing", "a share twice", "out of order", "one twice"],
)
def test_what_is_not_of_the_cases_is_refused(
    order: list[int], message: str, cases: Cases, sequences: Sequences
) -> None:
    whole = rows_of(cases, doubled(cases))
    with pytest.raises(InputError, match=message):
        shared_rows(doubled, cases, sequences, First(lambda _: whole[order]))


@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_process_with_other_data_is_found(column: int, cases: Cases, sequences: Sequences) -> None:
    whole = rows_of(cases, doubled(cases))
    whole[3, column] += 1
    with pytest.raises(InputError, match=r"case 3, of user 'cy' .* all processes must read the same data"):
        shared_rows(doubled, cases, sequences, First(lambda _: whole))


def test_where_another_process_has_failed_nothing_is_waited_for(cases: Cases, sequences: Sequences) -> None:
    def join(_: Rows) -> Rows:
        raise AssertionError("the other process does not come")

    with pytest.raises(InputError, match="1 of 2 processes failed"):
        shared_rows(doubled, cases, sequences, First(join, num_failed=1))

    def fail(_: Cases) -> Rows:
        raise InputError("a score is NaN")

    with pytest.raises(InputError, match="a score is NaN"):
        shared_rows(fail, cases, sequences, First(join))
