from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pytest

from peftrec.benchmark.report.box import Box, around, cross
from peftrec.benchmark.report.label import NEAR, place_labels


def test_lines_and_boxes_by_hand() -> None:
    box = Box(0, 0, 10, 4)
    assert box.length_of(((-5, 2), (15, 2))) == pytest.approx(10)
    assert box.length_of(((-3, -4), (3, 4))) == pytest.approx(5)  # from (0, 0) to (3, 4)
    assert box.length_of(((2, 1), (2, 3))) == pytest.approx(2)
    assert box.length_of(((0, -5), (0, 5))) == 0  # along a side
    assert box.length_of(((11, 0), (20, 4))) == 0
    assert box.length_of(((-5, 2), (-1, 2))) == 0  # ends before it
    assert cross(((0, 0), (2, 2)), ((0, 2), (2, 0)))
    assert not cross(((0, 0), (2, 2)), ((3, 0), (3, 9)))
    assert not cross(((0, 0), (2, 2)), ((1, 1), (5, 0)))  # an end of one


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


def test_no_line_to_a_point_runs_through_a_name() -> None:
    """Where a name must stand away from its point, it is tied to it by a line, and later names keep clear of that."""
    points = [(100.0, 100.0), (104.0, 100.0), (100.0, 104.0), (104.0, 104.0)]
    boxes = place_labels(points, [(80.0, 12.0)] * 4, Box(0, 0, 400, 400))
    for point, box in zip(points, boxes, strict=True):
        end = box.nearest(*point)
        steps = np.linspace(point, end, 200)
        for other in boxes:
            inside = (other.left < steps[:, 0]) & (steps[:, 0] < other.right)
            inside &= (other.bottom < steps[:, 1]) & (steps[:, 1] < other.top)
            assert other is box or not inside.any()


def test_no_line_to_a_point_runs_along_another() -> None:
    """It would be taken for a part of it, and the name for that of what is at its end."""
    front = Box(100, 99, 300, 101)
    points = [(100.0, 100.0), (300.0, 100.0)]
    crowded = [Box(60, 60, 140, 98), Box(60, 102, 140, 140), Box(0, 60, 98, 140)]
    box, _ = place_labels(points, [(40.0, 12.0)] * 2, Box(0, 0, 400, 400), taken=[front, *crowded])
    end = box.nearest(*points[0])
    middle = (points[0][1] + end[1]) / 2
    assert not front.bottom < middle < front.top


def test_a_long_name_moves_in_from_the_edge() -> None:
    """One that would stick out on the left above its point stands there from the edge on, not at the end of a line."""
    area, front = Box(0, 0, 400, 100), [Box(20, 9, 140, 11), Box(139, 10, 141, 90)]
    (box,) = place_labels([(20, 10)], [(130.0, 12.0)], area, taken=front)
    assert (box.left, box.right) == (0, 130)
    assert 11 < box.bottom < 30
    area = Box(0.3, 0.1, 100, 60.7)
    moved = Box(-0.1, 50.3, 10.2, 60.9).moved_into(area)
    assert (moved.left, moved.top) == pytest.approx((0.3, 60.7))
    assert (moved.right - moved.left, moved.top - moved.bottom) == pytest.approx((10.3, 10.6))
    assert area.holds(moved)
    assert not area.holds(Box(0.2, 1, 10, 10))


def test_a_name_without_a_free_place_is_not_dropped() -> None:
    """What little room there is belongs to something else: it goes where it covers least."""
    (box,) = place_labels([(50, 50)], [(30, 10)], Box(0, 0, 100, 100), taken=[Box(0, 0, 100, 62), Box(0, 62, 99, 100)])
    assert Box(0, 0, 100, 100).holds(box)
    (wide,) = place_labels([(50, 50)], [(300, 10)], Box(0, 0, 100, 100))
    assert wide.right - wide.left == pytest.approx(300)


def test_names_make_way_for_each_other() -> None:
    """In crowds some lines run through something; of those of twelve crowds few do, and hardly any two cross.

    Placing each name once, and never moving it, gives 35 such lines and 6 crossings; without a price 12 cross.
    """
    through = crossings = 0
    for seed in range(12):
        spots = np.random.default_rng(seed).normal((300, 200), 20, (12, 2))
        points = [(float(x), float(y)) for x, y in spots]
        boxes = place_labels(points, [(70.0, 12.0)] * 12, Box(0, 0, 600, 400))
        lines = [(point, box.nearest(*point)) for point, box in zip(points, boxes, strict=True)]
        drawn = {at for at, line in enumerate(lines) if math.dist(*line) > NEAR}
        things = [*boxes, *(around(*point, 5) for point in points)]
        through += sum(
            thing.length_of(lines[at]) > 0 for at in drawn for to, thing in enumerate(things) if to % 12 != at
        )
        crossings += sum(cross(lines[one], lines[other]) for one, other in combinations(drawn, 2))
    assert through <= 24
    assert crossings <= 3


def test_a_line_along_a_front_is_dear() -> None:
    """A place further away is better than one behind the end of the front, and the line leaves the front at once."""
    front = Box(100, 99, 200, 101)
    walls = [Box(0, y, 203, y + 1) for y in range(5, 400, 10)]  # no room for a name up to their ends
    (box,) = place_labels([(100, 100)], [(40.0, 12.0)], Box(0, 0, 400, 400), taken=[front, *walls])
    assert box.left >= 203
    assert front.length_of(((100, 100), box.nearest(100, 100))) < 14


def test_no_line_runs_through_another_point() -> None:
    points = [(100.0 + 40 * at, 100.0) for at in range(4)]
    walls = [Box(x - 12, y, x + 12, y + 40) for x, _ in points for y in (55, 105)]
    boxes = place_labels(points, [(60.0, 12.0)] * 4, Box(0, 0, 400, 250), taken=walls)
    marks = [around(*point, 5) for point in points]
    for at, other in permutations(range(4), 2):
        assert marks[other].length_of((points[at], boxes[at].nearest(*points[at]))) == 0


def test_names_in_a_row_keep_apart() -> None:
    """Two names that touch are read as one."""
    points = [(100.0, 50.0), (243.0, 50.0)]
    left, right = place_labels(points, [(60.0, 12.0)] * 2, Box(90, 42, 258, 80), taken=[Box(171, 58, 258, 80)])
    assert not Box(left.left - 8, left.bottom, left.right + 8, left.top).meets(right)


def test_a_name_between_two_points_has_a_line() -> None:
    """Or it would be taken for that of either."""
    points = [(100.0, 100.0), (100.0, 108.0)]
    lower, upper = place_labels(points, [(60.0, 12.0)] * 2, Box(0, 0, 95, 300))
    for point, rival, box in ((points[0], points[1], lower), (points[1], points[0], upper)):
        own, other = (np.hypot(*np.subtract(box.nearest(*place), place)) for place in (point, rival))
        assert own > 14 or other >= 1.3 * own
