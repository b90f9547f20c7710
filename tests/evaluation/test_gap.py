"""Gaps between groups and shares of exposure, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from peftrec.data.group_table import groups_of
from peftrec.evaluation import Evaluation
from peftrec.evaluation.gap import exposure_rows, gap_rows
from peftrec.evaluation.slice import column_slices


def evaluation(per_user: dict[str, NDArray[np.float64]], users: NDArray[np.int64] | None = None) -> Evaluation:
    number = len(next(iter(per_user.values())))
    return Evaluation(
        users=np.arange(number) if users is None else users,
        targets=np.zeros(number, dtype=np.int64),
        ranks=np.ones(number, dtype=np.int64),
        per_user=per_user,
        repeat_target_share=0.0,
        num_items=10,
        exclude_history=True,
    )


def test_best_and_worst_of_every_metric() -> None:
    slices = column_slices("town", groups_of("town", ["a"] * 4 + ["b"] * 4 + ["c"] * 2))
    found = evaluation(
        {
            "hr@10": np.array([1.0, 1, 1, 0, 0, 0, 0, 1, 1, 1]),
            "calibration@10": np.array([0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 0.5, 0.5, 0.9, 0.9]),
            "diversity@10": np.array([0.5, np.nan, np.nan, np.nan, 0.1, 0.1, 0.3, 0.3, 0, 0]),
        }
    )
    rows = {row["metric"]: row for row in gap_rows({"model": found}, slices, fewest=4)}
    hit = rows["hr@10"]
    assert (hit["best"], hit["best_mean"], hit["worst"], hit["worst_mean"]) == ("a", 0.75, "b", 0.25)
    assert hit["difference"] == pytest.approx(0.5)
    assert hit["kind"] == "town"
    lower = rows["calibration@10"]
    assert (lower["best"], lower["worst"]) == ("a", "b")
    assert lower["interval"] == pytest.approx([0.4, 0.4])
    # Of a one user has a value, of c there are two: only b could be compared.
    assert "diversity@10" not in rows


def test_the_interval_holds_what_independent_groups_give() -> None:
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(1.0, 1.0, 400), random.normal(0.0, 2.0, 100)])
    slices = column_slices("town", groups_of("town", ["a"] * 400 + ["b"] * 100))
    (row,) = gap_rows({"model": evaluation({"ndcg@10": values})}, slices)
    error = np.sqrt(values[:400].var() / 400 + values[400:].var() / 100)
    low, high = row["interval"]
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    assert (high + low) / 2 == pytest.approx(row["difference"], abs=0.05)


def test_people_of_both_groups_are_drawn_once() -> None:
    # The groups are the same people: whoever is drawn, there is no difference.
    slices = column_slices("town", groups_of("town", ["ab"] * 30))
    values = np.random.default_rng(0).random(30)
    (row,) = gap_rows({"model": evaluation({"ndcg@10": values})}, slices)
    assert row["interval"] == pytest.approx([0.0, 0.0])


def test_a_user_counts_with_the_mean_of_the_cases_in_a_group() -> None:
    # User 0 has two cases of a and one of b.
    users = np.array([0, 0, 0, 1, 2])
    slices = column_slices("target", groups_of("target", ["a", "a", "b", "a", "b"]))
    found = evaluation({"ndcg@10": np.array([1.0, 0.0, 1.0, 0.0, 0.5])}, users)
    (row,) = gap_rows({"model": found}, slices, fewest=2)
    assert (row["best"], row["best_mean"], row["worst_mean"]) == ("b", 0.75, 0.25)


def test_exposure_of_groups_over_their_due() -> None:
    groups = groups_of("kind", ["x", "x", "xy", ""])
    lists = {"model": np.array([[0, 2], [2, 3], [2, -1]])}
    rows = {row["name"]: row for row in exposure_rows(lists, {"kind": groups}, np.array([2, 2, 4, 0]))}
    # Five places: item 0 one, item 2 three, item 3 one. Eight events: x has all, y half.
    assert rows["x"]["part"] == 1.0
    assert rows["y"]["part"] == 0.5
    assert rows["x"]["shares"] == {"model": pytest.approx(0.8)}
    assert rows["y"]["ratios"] == {"model": pytest.approx(0.6 / 0.5)}
    cold = exposure_rows(lists, {"kind": groups}, np.array([2, 2, 0, 0]))
    assert {row["name"]: row["ratios"]["model"] for row in cold}["y"] is None


def test_only_the_groups_with_most_events_are_told_of() -> None:
    groups = groups_of("kind", [*"abc"])
    rows = exposure_rows({"model": np.array([[0, 1]])}, {"kind": groups}, np.array([1, 3, 2]), most=2)
    assert [row["name"] for row in rows] == ["b", "c"]
