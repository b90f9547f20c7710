"""Places for the names of points, so that no name covers another or a point."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Final

# How far a name may stand from its point, in its own unit (pixels), and in which directions, right and up first.
_DISTANCES: Final = (9, 16, 25, 36, 50, 66, 84, 104, 130)
_ANGLES: Final = (0, 30, -30, 60, -60, 90, -90, 120, -120, 150, -150, 180)


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


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    area: Box,
    *,
    taken: Sequence[Box] = (),
    radius: float = 5,
) -> list[Box | None]:
    """Choose for each name the nearest free place beside its point, one after the other.

    Args:
        points: middle of each.
        sizes: width and height of each name.
        area: where names may stand.
        taken: what they may not cover, beside each other and the points.
        radius: of points.
    Returns:
        The place of each name; None where there is none free.
    """
    blocked = [*taken, *(Box(x - radius, y - radius, x + radius, y + radius) for x, y in points)]
    found: list[Box | None] = []
    for (x, y), size in zip(points, sizes, strict=True):
        free = (box for box in _candidates(x, y, size) if area.holds(box) and not any(map(box.meets, blocked)))
        box = next(free, None)
        found.append(box)
        blocked += [box] if box is not None else []
    return found


def _candidates(x: float, y: float, size: tuple[float, float]) -> Iterator[Box]:
    """Yield boxes around a point, the near ones first; the box begins where its direction leads."""
    width, height = size
    for distance in _DISTANCES:
        for angle in _ANGLES:
            across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            middle_x = x + across * (distance + width / 2)
            middle_y = y + up * (distance + height / 2)
            yield Box(middle_x - width / 2, middle_y - height / 2, middle_x + width / 2, middle_y + height / 2)
