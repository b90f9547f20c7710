"""Which points no other one beats."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the points for which none is as cheap and better, or as good and cheaper.

    Args:
        points: cost, the less the better, and quality, the more the better, of each.
    Returns:
        Their places, the cheapest first; points that are equal in both are all on it, or none is.
    """
    front: list[int] = []
    best = float("-inf")
    for place in sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1], place)):
        if points[place][1] > best or (front and points[place] == points[front[-1]]):
            front.append(place)
            best = points[place][1]
    return front
