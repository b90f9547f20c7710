"""Rectangles and lines of a plot, and what they cover of each other."""

from __future__ import annotations

import dataclasses
import math
from typing import Final

_ROUNDING: Final = 1e-6

Line = tuple[tuple[float, float], tuple[float, float]]
"""Its two ends."""


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle with sides along the axes."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def middle(self) -> tuple[float, float]:
        """Return its middle."""
        return (self.left + self.right) / 2, (self.bottom + self.top) / 2

    def meets(self, other: Box) -> bool:
        """Tell whether two have an inner point in common."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def holds(self, other: Box) -> bool:
        """Tell whether another one lies inside, up to rounding."""
        return (
            self.left - _ROUNDING <= other.left
            and other.right <= self.right + _ROUNDING
            and self.bottom - _ROUNDING <= other.bottom
            and other.top <= self.top + _ROUNDING
        )

    def covers(self, other: Box) -> float:
        """Return the area that two have in common."""
        across = min(self.right, other.right) - max(self.left, other.left)
        up = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, across) * max(0.0, up)

    def moved_into(self, other: Box) -> Box:
        """Return the box of its size, as near to it as can be, that lies inside another one if that is large enough."""
        across = max(other.left - self.left, 0.0) or min(other.right - self.right, 0.0)
        up = max(other.bottom - self.bottom, 0.0) or min(other.top - self.top, 0.0)
        return Box(self.left + across, self.bottom + up, self.right + across, self.top + up)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """Return the point of it that is nearest to another one."""
        return min(max(x, self.left), self.right), min(max(y, self.bottom), self.top)

    def length_of(self, line: Line) -> float:
        """Return how much of a line lies inside; of lines along a side nothing does."""
        (start_x, start_y), (end_x, end_y) = line
        first, last = 0.0, 1.0
        for start, end, low, high in ((start_x, end_x, self.left, self.right), (start_y, end_y, self.bottom, self.top)):
            if start == end:
                if not low < start < high:
                    return 0.0
                continue
            one, other = (low - start) / (end - start), (high - start) / (end - start)
            first, last = max(first, min(one, other)), min(last, max(one, other))
        return max(0.0, last - first) * math.dist(*line)


def around(x: float, y: float, radius: float) -> Box:
    """Return the square around a point."""
    return Box(x - radius, y - radius, x + radius, y + radius)


def cross(one: Line, other: Line) -> bool:
    """Tell whether two lines have one point in common that is an end of neither."""
    sides = (_side(one, other[0]) * _side(one, other[1]), _side(other, one[0]) * _side(other, one[1]))
    return max(sides) < 0


def _side(line: Line, point: tuple[float, float]) -> float:
    """Return on which side of a line a point lies, by its sign."""
    (start_x, start_y), (end_x, end_y) = line
    return (end_x - start_x) * (point[1] - start_y) - (end_y - start_y) * (point[0] - start_x)
