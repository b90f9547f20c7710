"""Places for the names of points, so that no name covers another, a point or a line."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Final

# How far a name may stand from its point, in its own unit (pixels), and in which directions, right and up first.
_DISTANCES: Final = (9, 16, 25, 36, 50, 66, 84, 104, 130, 160, 200, 250, 310, 380, 460)
_ANGLES: Final = (0, 30, -30, 60, -60, 90, -90, 120, -120, 150, -150, 180)
NEAR: Final = 14
"""Names that are further away from their points than so many pixels are tied to them by a line."""
_CROWD: Final = 120
"""Points that are nearer to each other than so many pixels compete for the places around them."""


_Line = tuple[tuple[float, float], tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle with sides along the axes."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: Box) -> bool:
        """Tell whether two have an inner point in common."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def holds(self, other: Box) -> bool:
        """Tell whether another one lies inside."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.bottom <= other.bottom
            and other.top <= self.top
        )

    def covers(self, other: Box) -> float:
        """Return the area that two have in common."""
        across = min(self.right, other.right) - max(self.left, other.left)
        up = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, across) * max(0.0, up)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """Return the point of it that is nearest to another one."""
        return min(max(x, self.left), self.right), min(max(y, self.bottom), self.top)


def around(x: float, y: float, radius: float) -> Box:
    """Return the square around a point."""
    return Box(x - radius, y - radius, x + radius, y + radius)


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    area: Box,
    *,
    taken: Sequence[Box] = (),
    radius: float = 5,
) -> list[Box]:
    """Choose for each name the nearest free place beside its point, those of crowded points first.

    A place is taken only if there is no other where its line to the point would run through another name or point, or
    through which the line of another name runs, or where it would run along something else. Where nothing at all is
    free, a name goes where it covers least: none is left out.

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
    names: dict[int, Box] = {}
    lines: list[_Line] = []
    crowds = [sum(math.dist(point, other) < _CROWD for other in points) for point in points]
    for at in sorted(range(len(points)), key=lambda at: -crowds[at]):
        others = [mark for place, mark in enumerate(marks) if place != at] + list(names.values())
        names[at] = _place(points[at], sizes[at], area, others, [*taken, marks[at]], lines)
        lines.append((points[at], names[at].nearest(*points[at])))
    return [names[at] for at in range(len(points))]


def _place(
    point: tuple[float, float],
    size: tuple[float, float],
    area: Box,
    others: Sequence[Box],
    taken: Sequence[Box],
    lines: Sequence[_Line],
) -> Box:
    """Choose a place that meets neither other names and points nor what is taken."""
    boxes = list(_candidates(*point, size))
    inside = [box for box in boxes if area.holds(box)] or boxes
    free = [box for box in inside if not any(map(box.meets, (*others, *taken)))]
    clear = (
        box
        for box in free
        if not any(_runs_through(point, box.nearest(*point), other) for other in others)
        and not any(_runs_through(*line, box) for line in lines)
        and not any(_runs_along(point, box.nearest(*point), other) for other in taken)
    )
    chosen = next(clear, None) or next(iter(free), None)
    return chosen or min(inside, key=lambda box: sum(map(box.covers, (*others, *taken))))


def _runs_through(start: tuple[float, float], end: tuple[float, float], box: Box, num_steps: int = 24) -> bool:
    """Tell whether a line has a point in a box, looking at some of its points."""
    shares = (step / num_steps for step in range(num_steps + 1))
    places = ((start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])) for share in shares)
    return any(box.left < x < box.right and box.bottom < y < box.top for x, y in places)


def _runs_along(start: tuple[float, float], end: tuple[float, float], box: Box) -> bool:
    """Tell whether most of a line lies in a box, so that it would be taken for a part of what is drawn there."""
    if math.dist(start, end) <= NEAR:
        return False  # it is not drawn
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    halves = ((start, middle), (middle, end))
    return all(_runs_through(*half, box) for half in halves) and _runs_through(middle, middle, box)


def _candidates(x: float, y: float, size: tuple[float, float]) -> Iterator[Box]:
    """Yield boxes around a point, the near ones first; the box begins where its direction leads."""
    width, height = size
    for distance in _DISTANCES:
        for angle in _ANGLES:
            across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            middle_x = x + across * (distance + width / 2)
            middle_y = y + up * (distance + height / 2)
            yield Box(middle_x - width / 2, middle_y - height / 2, middle_x + width / 2, middle_y + height / 2)
