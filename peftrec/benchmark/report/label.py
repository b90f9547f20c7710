"""Places for the names of points, so that no name covers another, a point or a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from peftrec.benchmark.report.box import Box, Line, around, cross

# How far a name may stand from its point, in its own unit (pixels), and in which directions, right and up first.
_DISTANCES: Final = (9, 16, 25, 36, 50, 66, 84, 104, 130, 160, 200, 250, 310, 380, 460)
_ANGLES: Final = (0, 30, -30, 60, -60, 90, -90, 120, -120, 150, -150, 180)
NEAR: Final = 14
"""Names that are further away from their points than so many pixels are tied to them by a line."""
_CROWD: Final = 120
"""Points that are nearer to each other than so many pixels compete for the places around them."""
# What is as bad as so many pixels of distance: to cover something (and for each square pixel of it one more), a line
# through a name or a point, a pixel of one along something that is drawn, two lines that cross, a name without a line
# that is about as near to another point, a direction further on.
_COVERED: Final = 1e5
_THROUGH: Final = 4000.0
_ALONG: Final = 10.0
_CROSSED: Final = 100.0
_ASTRAY: Final = 50.0
_NEXT_ANGLE: Final = 0.25
# A line shares no more pixels with a thin thing that it crosses; one that does runs along it.
_LONGEST_CROSSING: Final = 14.0
# How many times the distance to its own point is still too near to another one.
_AS_NEAR: Final = 1.3
# Between two names in a row.
_GAP: Final = 8
_MOST_ROUNDS: Final = 10


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    area: Box,
    *,
    taken: Sequence[Box] = (),
    radius: float = 5,
) -> list[Box]:
    """Choose for each name a place near its point, so that all together are read best.

    Names are placed one after the other, those of crowded points first, each where it costs least: by its distance,
    by what it covers, and by what its line to the point runs through, runs along or crosses. Then each is moved to
    where it costs least among all the others, until none is better off elsewhere: descent over discrete places, as in
    Christensen, Marks and Shieber, "An empirical study of algorithms for point-feature label placement" (1995),
    section 3.2. None is left out.

    Args:
        points: middle of each.
        sizes: width and height of each name.
        area: where names may stand.
        taken: what they may not cover, beside each other and the points.
        radius: of points.
    Returns:
        The place of each name.
    """
    marks = [around(x, y, radius) for x, y in points]
    places = [_places(point, size, area) for point, size in zip(points, sizes, strict=True)]
    crowds = [sum(math.dist(point, other) < _CROWD for other in points) for point in points]
    order = sorted(range(len(points)), key=lambda at: -crowds[at])
    names: dict[int, Box] = {}
    for _ in range(_MOST_ROUNDS):
        before = dict(names)
        for at in order:
            others = {place: box for place, box in names.items() if place != at}
            lines = [_line(points[place], box) for place, box in others.items()]
            rivals = [mark for place, mark in enumerate(marks) if place != at]
            kept_clear = [Box(box.left - _GAP, box.bottom, box.right + _GAP, box.top) for box in others.values()]
            names[at] = _best(points[at], places[at], rivals, kept_clear, [*taken, marks[at]], lines)
        if names == before:
            break
    return [names[at] for at in range(len(points))]


def _best(
    point: tuple[float, float],
    places: Sequence[tuple[Box, float]],
    rivals: Sequence[Box],
    names: Sequence[Box],
    taken: Sequence[Box],
    lines: Sequence[Line],
) -> Box:
    """Choose the place that costs least; of several the first."""
    best, least = places[0][0], math.inf
    for box, cost in places:
        if cost < least:  # no place costs less than by itself
            cost += _cost(box, _line(point, box), rivals, names, taken, lines)
        if cost < least:
            best, least = box, cost
    return best


def _cost(
    box: Box, line: Line, rivals: Sequence[Box], names: Sequence[Box], taken: Sequence[Box], lines: Sequence[Line]
) -> float:
    """Add up what a name hides and what its line meets, and what the lines of others do to the name.

    Args:
        box: of the name.
        line: to its point.
        rivals: around the other points.
        names: the other ones.
        taken: what else is drawn.
        lines: of the other names.
    """
    things = (*rivals, *names)
    cost = sum(_COVERED + box.covers(other) for other in (*things, *taken) if box.meets(other))
    cost += sum(_THROUGH for other in lines if _is_drawn(other) and box.length_of(other) > 0)
    if _is_drawn(line):
        cost += sum(_THROUGH for other in things if other.length_of(line) > 0)
        shared = (other.length_of(line) for other in taken)
        cost += sum(_ALONG * length for length in shared if length > _LONGEST_CROSSING)
        cost += sum(_CROSSED for other in lines if _is_drawn(other) and cross(line, other))
    elif any(math.dist(*_line(rival.middle, box)) < _AS_NEAR * math.dist(*line) for rival in rivals):
        cost += _ASTRAY
    return cost


def _line(point: tuple[float, float], box: Box) -> Line:
    """Return the line that ties a name to its point."""
    return point, box.nearest(*point)


def _is_drawn(line: Line) -> bool:
    return math.dist(*line) > NEAR


def _places(point: tuple[float, float], size: tuple[float, float], area: Box) -> list[tuple[Box, float]]:
    """Return where a name may stand and what each place costs by itself: its distance, and a little for its direction.

    Where the name is too large for the area, that is all around its point.
    """
    (x, y), (width, height) = point, size
    places = []
    for distance in _DISTANCES:
        for rank, angle in enumerate(_ANGLES):
            across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            # The box begins where its direction leads.
            middle_x, middle_y = x + across * (distance + width / 2), y + up * (distance + height / 2)
            box = Box(middle_x - width / 2, middle_y - height / 2, middle_x + width / 2, middle_y + height / 2)
            moved = box.moved_into(area)
            places.append((moved, max(distance, math.dist(*_line(point, moved))) + _NEXT_ANGLE * rank))
    return [(box, cost) for box, cost in places if area.holds(box)] or places
