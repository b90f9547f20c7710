"""Where points and their names stand in plots, and what the files hold."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from peftrec.benchmark.report.axis import near_ends, plain, ticks_between
from peftrec.benchmark.report.course import cold_against_warm, curve_of, learning_curves, timed_curve
from peftrec.benchmark.report.label import Box, around, place_labels
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


def test_every_name_has_a_place_of_its_own() -> None:
    """Twenty names around one spot: none covers another, a point, or the line that was taken."""
    generator = np.random.default_rng(0)
    points = [(300 + x, 200 + y) for x, y in generator.normal(0, 12, (20, 2))]
    line = Box(0, 195, 700, 197)
    area = Box(0, 0, 700, 400)
    boxes = place_labels(points, [(60.0, 12.0)] * 20, area, taken=[line])
    assert all(map(area.holds, boxes))
    assert not any(one.meets(other) for one, other in combinations(boxes, 2))
    assert not any(box.meets(around(*point, 5)) for box in boxes for point in points)
    assert not any(box.meets(line) for box in boxes)


def test_a_name_without_a_free_place_is_not_dropped() -> None:
    """What little room there is belongs to something else: it goes where it covers least."""
    (box,) = place_labels([(50, 50)], [(30, 10)], Box(0, 0, 100, 100), taken=[Box(0, 0, 100, 62), Box(0, 62, 99, 100)])
    assert Box(0, 0, 100, 100).holds(box)
    (wide,) = place_labels([(50, 50)], [(300, 10)], Box(0, 0, 100, 100))
    assert wide.right - wide.left == pytest.approx(300)


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
