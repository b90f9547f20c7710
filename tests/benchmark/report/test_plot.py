"""Where points and their names stand in plots, and what the files hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from peftrec.benchmark.report.axis import cost_axis, near_ends, plain, ticks_between, with_room
from peftrec.benchmark.report.course import cold_against_warm, curve_of, far_below, learning_curves, timed_curve
from peftrec.benchmark.report.drawing import figure
from peftrec.benchmark.report.measured import MeasuredTable, measure_table
from peftrec.benchmark.report.pareto import pareto_front
from peftrec.benchmark.report.result import read_results
from peftrec.benchmark.report.row import make_tables
from peftrec.benchmark.report.trade_off import trade_offs

from .conftest import cost, target_slices, training

Make = Callable[..., Path]


def measured(folder: Path) -> MeasuredTable:
    tables, _ = make_tables(read_results(folder))
    return measure_table(tables[0])


def test_the_front_by_hand() -> None:
    points = [(5.0, 0.9), (1.0, 0.5), (2.0, 0.4), (2.0, 0.7), (5.0, 0.9), (9.0, 0.9)]
    assert pareto_front(points) == [1, 3, 0, 4]
    assert pareto_front([]) == []


def test_no_front_over_costs_of_several_machines(make_result: Make, results: Path) -> None:
    make_result("full", [1, 1], cost=cost(machine="one"))
    make_result("lora", [1, 1], cost=cost(machine="one"))
    kinds = [picture.name.rpartition("_")[2] for picture in trade_offs(measured(results))]
    assert kinds == ["parameters", "size", "memory", "seconds"]
    make_result("side", [1, 1], cost=cost(machine="two"))
    kinds = [picture.name.rpartition("_")[2] for picture in trade_offs(measured(results))]
    assert kinds == ["parameters", "size"]


def test_outliers_are_left_out_of_an_axis() -> None:
    assert near_ends([0.05, 0.052, 0.053, 0.055, 0.01], 0.005) == (0.05, 0.055)
    # What lies close together has none.
    assert near_ends([0.05, 0.05, 0.05, 0.05, 0.051], 0.005) == (0.05, 0.051)
    assert near_ends([3.0], 0.0) == (3.0, 3.0)


def test_ticks_are_plain_numbers() -> None:
    assert [plain(tick) for tick in ticks_between(0.4, 30)] == ["0.2", "0.5", "1", "2", "5", "10", "20", "50"]
    assert [plain(tick) for tick in ticks_between(9_984, 22_565_376)] == [
        "10,000", "100,000", "1,000,000", "10,000,000",
    ]  # fmt: skip
    assert plain(0.0001) == "0.0001"
    assert [plain(tick) for tick in ticks_between(45.5, 46.9)] == [
        "45.4", "45.6", "45.8", "46", "46.2", "46.4", "46.6", "46.8", "47",
    ]  # fmt: skip
    assert [plain(tick) for tick in ticks_between(12, 12)] == ["12"]
    assert [plain(tick) for tick in ticks_between(900, 1_700)] == ["800", "1,000", "1,200", "1,400", "1,600", "1,800"]


def test_numbers_do_not_run_into_each_other() -> None:
    """Powers of ten stay first, then fives."""
    ticks = ticks_between(13_824, 3_548_928)
    assert 2_000_000 in ticks
    kept = with_room(ticks, 5_000, 7e6, [7_000])
    assert [plain(tick) for tick in kept] == [
        "20,000", "50,000", "100,000", "200,000", "1,000,000", "5,000,000",
    ]  # fmt: skip
    assert with_room([1, 2, 5, 10], 0.5, 20) == [1, 2, 5, 10]
    # What stands there already keeps its place.
    assert with_room([1, 10], 0.5, 20, [1.0001]) == [10]


def test_costs_that_are_alike_have_the_axis() -> None:
    """A few far larger or smaller ones are marked at its ends, and do not push the others into one spot."""
    pytest.importorskip("matplotlib")
    with figure("alike") as (_, panel):
        spots = cost_axis(panel, [45.4, 45.5, 45.6, 46.0, 46.4, 46.9, 46.9, 29.7, 59.6, 136.0])
        left, right = panel.get_xlim()
        assert [spot.beyond for spot in spots] == ["", "", "", "", "", "", "", "<", ">", ">"]
        assert 44 < left < spots[7].place < 45.4
        assert 46.9 < spots[8].place == spots[9].place < right < 49
    with figure("unlike") as (_, panel):
        assert not any(spot.beyond for spot in cost_axis(panel, [2.0, 3.0, 20.0, 30.0, 40.0, 41.0]))
    # Three of them are no crowd.
    with figure("few") as (_, panel):
        assert not any(spot.beyond for spot in cost_axis(panel, [45.4, 45.5, 136.0]))


def test_curves_by_hand() -> None:
    curve = curve_of(training([0.1, 0.2, 0.3]))
    assert curve == [(0, 0.1), (1, 0.2), (2, 0.3)]
    # 3 s prepared once, and 40 steps of half a second an epoch.
    assert timed_curve(curve, cost(step=0.5)) == [(23, 0.2), (43, 0.3)]
    assert timed_curve(curve, None) == []
    assert curve_of({"epochs": []}) == curve_of(None) == []


@pytest.fixture
def suite(make_result: Make, results: Path) -> Path:
    pytest.importorskip("matplotlib")
    generator = np.random.default_rng(0)
    ranks = generator.geometric(0.2, 40)
    for at, (method, label) in enumerate([("full", "full"), ("lora", "LoRA, $\\frac$ <2>"), ("frozen", "frozen")]):
        make_result(
            method,
            [*map(int, np.roll(ranks, at) + at)],
            label=label,
            lm=(10**at * 1000 if method != "frozen" else 0, 10**6),
            cost=cost(step=0.5 + at),
            training=training([0.1, 0.2, 0.15]),
            slices=target_slices(0.01, 0.02, 0.03, 0.04),
        )
    make_result("ease", [*map(int, ranks + 20)], kind="baseline", parameters=[])
    return results


def test_pictures_are_whole_and_name_nothing_outside(suite: Path) -> None:
    table = measured(suite)
    curves, cold = learning_curves(table), cold_against_warm(table)
    assert curves is not None
    assert cold is not None
    pictures = [*trade_offs(table), curves, cold]
    assert [picture.name.removeprefix("beauty_all_minilm_l6_v2_") for picture in pictures] == [
        "parameters", "size", "memory", "seconds", "curves", "cold",
    ]  # fmt: skip
    for picture in pictures:
        root = ElementTree.fromstring(picture.svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        links = [value for part in root.iter() for name, value in part.attrib.items() if name.endswith("href")]
        assert all(link.startswith("#") for link in links)
        assert "<metadata" not in picture.svg
        assert picture.png.startswith(b"\x89PNG")
    assert "by epoch and by seconds" in curves.told


def test_a_model_far_below_does_not_squeeze_the_others(make_result: Make, results: Path) -> None:
    """Its best value is told in its place."""
    pytest.importorskip("matplotlib")
    for method, best in (("full", 0.06), ("lora", 0.061), ("side", 0.055), ("frozen", 0.052)):
        make_result(method, [1, 3], training=training([0.036, 0.05, best]))
    alone = learning_curves(measured(results))
    make_result("ids", [1, 3], training=training([0.001, 0.01, 0.02, 0.019]))
    table = measured(results)
    curves = learning_curves(table)
    assert alone is not None
    assert curves is not None
    assert far_below({line.row.label: curve_of(line.row.first.content["training"]) for line in table.models}) == {
        "ids": 0.02
    }
    assert "ids 0.0200 (below)" in curves.svg
    assert "(below)" not in alone.svg


def test_without_costs_there_is_nothing_by_seconds(make_result: Make, results: Path) -> None:
    pytest.importorskip("matplotlib")
    for method in ("full", "lora"):
        make_result(method, [1, 3], training=training([0.1, 0.2]))
    table = measured(results)
    assert [picture.name.rpartition("_")[2] for picture in trade_offs(table)] == ["parameters", "size"]
    curves = learning_curves(table)
    assert curves is not None
    assert "seconds" not in curves.told
    assert cold_against_warm(table) is None
