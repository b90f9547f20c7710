"""Slices: which cases they hold, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from peftrec.data.group_table import Groups, groups_of
from peftrec.evaluation import Evaluation
from peftrec.evaluation.curve import exposure_curve, popularity_curve
from peftrec.evaluation.slice import (
    Slice,
    column_slices,
    popularity_group,
    slice_rows,
    standard_slices,
    told_slices,
)


def evaluation(values: list[float], users: list[int] | None = None, targets: list[int] | None = None) -> Evaluation:
    number = len(values)
    return Evaluation(
        users=np.arange(number) if users is None else np.array(users),
        targets=np.zeros(number, dtype=np.int64) if targets is None else np.array(targets),
        ranks=np.ones(number, dtype=np.int64),
        per_user={"ndcg@10": np.array(values)},
        repeat_target_share=0.0,
        num_items=10,
        exclude_history=True,
    )


def test_head_torso_and_tail_hold_a_third_of_the_events_each() -> None:
    # 30 events: the first item has a third alone; 5 and 5 are the second; seven items share the last.
    counts = np.array([0, 10, 5, 5, 2, 2, 2, 1, 1, 1, 1, 0])
    assert popularity_group(counts).tolist() == [0, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1, 0]


def test_items_with_equally_many_events_are_in_one_group() -> None:
    assert popularity_group(np.array([1, 1, 1, 1])).tolist() == [3, 3, 3, 3]
    assert popularity_group(np.zeros(3, dtype=np.int64)).tolist() == [0, 0, 0]


def test_standard_slices_by_hand() -> None:
    found = standard_slices(
        targets_C=np.array([0, 1, 2, 2]),
        item_counts_N=np.array([9, 3, 0]),
        history_lengths_C=np.array([1, 5, 9, 0]),
        trained_C=np.array([True, True, True, False]),
        repeated_C=np.array([False, True, False, False]),
    )
    rows = {(part.kind, part.name): part.rows_C.tolist() for part in found}
    assert rows["target", "head"] == [True, False, False, False]
    assert rows["target", "cold"] == [False, False, True, True]
    assert rows["history", "no event"] == [False, False, False, True]
    assert rows["user", "new"] == [False, False, False, True]
    assert rows["target before", "in the history"] == [False, True, False, False]
    spans = np.array([of for (kind, _), of in rows.items() if kind == "history"])
    assert (spans.sum(axis=0) == 1).all(), "every case has one length of history"


def test_a_kind_that_tells_nothing_apart_is_left_out() -> None:
    same = np.ones(3, dtype=np.int64)
    found = standard_slices(same, np.array([1, 1]), same * 4, same > 0, same > 1)
    assert found == []


def test_columns_keep_their_largest_values_and_join_the_rest() -> None:
    groups = groups_of("shop", ["a", "a", "b", "bc", ""])
    parts = column_slices("shop", groups, most=2)
    assert {part.name: part.rows_C.tolist() for part in parts} == {
        "a": [True, True, False, False, False],
        "b": [False, False, True, True, False],
        "others (1)": [False, False, False, True, False],
        "unknown": [False, False, False, False, True],
    }


def told(groups: Groups, users: list[int] | None = None, fewest: int = 10, most: int = 12) -> dict[str, int]:
    """Give the number of users of each slice that is told."""
    users_C = np.arange(len(groups.known)) if users is None else np.array(users)
    parts = told_slices(column_slices("town", groups, most=most), users_C, fewest=fewest)
    return {part.name: len(np.unique(users_C[part.rows_C])) for part in parts}


def test_all_is_told_where_all_groups_are_large() -> None:
    assert told(groups_of("town", ["a"] * 30 + ["b"] * 10)) == {"a": 30, "b": 10}


def test_a_small_group_takes_the_smallest_large_one_with_it() -> None:
    # c would follow from all less a and b; so b goes too.
    assert told(groups_of("town", ["a"] * 30 + ["b"] * 12 + ["c"] * 3)) == {"a": 30, "b or c": 15}
    assert told(groups_of("town", ["a"] * 30 + ["b"] * 12 + [""] * 3)) == {"a": 30, "b or unknown": 15}


def test_small_groups_are_told_together_where_they_are_many_enough() -> None:
    small = [name for name in "cdefg" for _ in range(3)]
    assert told(groups_of("town", ["a"] * 30 + small)) == {"a": 30, "others (5)": 15}


def test_nothing_is_told_of_a_column_that_parts_off_a_few_alone() -> None:
    assert told(groups_of("town", ["a"] * 30 + ["b"] * 3)) == {"a or b": 33}
    assert told(groups_of("town", ["a", "b"] * 4)) == {}


def test_groups_that_overlap_are_told_only_where_their_differences_are_large() -> None:
    # Who is of a but not of b are 2 people: one of the two means must stay untold.
    nearly = groups_of("town", ["ab"] * 20 + ["a"] * 2 + ["c"] * 20)
    assert "a" in told(nearly)
    assert "b" not in told(nearly)
    apart = groups_of("town", ["ab"] * 20 + ["a"] * 12 + ["c"] * 20)
    assert told(apart) == {"a": 32, "b": 20, "c": 20}


def test_no_sum_or_difference_of_what_is_told_is_of_fewer_people() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        values = ["".join(random.choice([*"abcdef"], size=random.integers(0, 3))) for _ in range(80)]
        parts = told_slices(column_slices("town", groups_of("town", values)), np.arange(80), fewest=10)
        members = np.array([[True] * 80, *(part.rows_C for part in parts)]).T
        _, sizes = np.unique(members, axis=0, return_counts=True)
        assert sizes.min() >= 10


def test_people_are_counted_and_not_their_cases() -> None:
    # Forty cases, but only four people in b.
    users = [*range(20), *([20, 21, 22, 23] * 10)]
    assert told(groups_of("town", ["a"] * 20 + ["b"] * 40), users) == {"b or a": 24}


def test_rows_count_cases_and_users_and_keep_each_models_mean() -> None:
    found = {
        "model": evaluation([1.0, 0.0, 0.5], users=[4, 4, 5]),
        "other": evaluation([0.0, 0.0, 1.0], users=[4, 4, 5]),
    }
    part = Slice("kind", "first two", np.array([True, True, False]))
    (row,) = slice_rows(found, [part], ["ndcg@10"])
    assert (row["num_cases"], row["num_users"]) == (2, 1)
    assert row["rows"]["model"]["metrics"] == {"ndcg@10": 0.5}
    assert row["rows"]["other"]["metrics"] == {"ndcg@10": 0.0}


def test_nothing_cannot_be_taken() -> None:
    with pytest.raises(ValueError, match="no case"):
        evaluation([1.0]).take(np.array([False]))


def test_the_popularity_curve_doubles_its_bins() -> None:
    found = {"model": evaluation([1.0, 0.0, 0.5, 1.0], targets=[0, 1, 2, 3])}
    bins = popularity_curve(found, np.array([0, 1, 3, 2]), "ndcg@10")
    assert [(entry["low"], entry["high"], entry["num_cases"]) for entry in bins] == [(0, 0, 1), (1, 1, 1), (2, 3, 2)]
    assert [entry["rows"]["model"]["value"] for entry in bins] == [1.0, 0.0, 0.75]


def test_the_exposure_curve_by_hand() -> None:
    # Item 1 has two of three places, item 0 one, items 2 and 3 none; a place is empty.
    curve = dict(exposure_curve(np.array([[1, 0], [1, -1]]), num_items=4))
    assert curve == {0.0: 0.0, 0.25: pytest.approx(2 / 3), 0.5: 1.0, 0.75: 1.0, 1.0: 1.0}
    assert set(dict(exposure_curve(np.full((2, 2), -1), num_items=4)).values()) == {0.0}


def test_values_that_are_not_defined_count_in_no_mean() -> None:
    found = evaluation([1.0, np.nan, 0.0, np.nan], users=[0, 0, 1, 2])
    assert found.summary() == {"ndcg@10": 0.5}
    told = found.to_json()
    assert told["num_defined"] == {"ndcg@10": 2}
    assert told["num_users"] == 3
    nobody = evaluation([np.nan, np.nan]).to_json()
    assert nobody["metrics"] == {"ndcg@10": None}
    assert nobody["intervals"] == {}
