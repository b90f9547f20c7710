"""Groups of rows by a column with several values in a cell."""

from __future__ import annotations

import tracemalloc

import numpy as np

from peftrec.data.group_table import groups_of


def test_members_sums_and_rows_by_hand() -> None:
    groups = groups_of("kind", [["b", "a", "b"], [], ["c"], ["a"]])
    assert groups.names == ("a", "b", "c")
    assert groups.known.tolist() == [True, False, True, True]
    assert groups.members([0]).tolist() == [True, False, False, True]
    assert groups.members([1, 2]).tolist() == [True, False, True, False]
    assert groups.sums(np.array([1, 10, 100, 1000])).tolist() == [1001.0, 1.0, 100.0]


def test_rows_are_taken_in_any_order_and_several_times() -> None:
    groups = groups_of("kind", [["a", "b"], [], ["c"]])
    taken = groups.take(np.array([2, 0, 1, 0]))
    assert taken.offsets.tolist() == [0, 1, 3, 3, 5]
    assert taken.places.tolist() == [2, 0, 1, 0, 1]
    assert taken.members([1]).tolist() == [False, True, False, True]
    assert groups.take(np.array([], dtype=np.int64)).known.tolist() == []


def test_memory_is_that_of_the_values() -> None:
    values = [[f"v{row % 20_000}"] for row in range(50_000)]
    tracemalloc.start()
    groups = groups_of("kind", values)
    groups.take(np.arange(50_000)).sums(np.ones(50_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 * 2**20  # a table of all rows and groups has 950 MiB
