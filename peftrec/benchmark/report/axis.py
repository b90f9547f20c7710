"""Axes of a plot of quality against cost: no cost at all has a place, and outliers do not squeeze the rest."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from peftrec.benchmark.report.drawing import SOFT
from peftrec.benchmark.report.quality import Estimate

# Tukey's bound for what is far out, in distances of the quartiles; these count as at least so many decades of a cost,
# or as such a share of the median of a quality, so that what lies close together has no outliers.
_FAR: Final = 3
_LEAST_DECADES: Final = 0.5
# Unless half of the costs lie within so many decades, some seven percent: then the axis is theirs.
_NARROW_DECADES: Final = 0.03
_NARROW_LEAST: Final = 0.01
LEAST_SHARE: Final = 0.1
# Of the length of an axis, what a character below it takes, and what stays free between two numbers.
_CHARACTER: Final = 0.0115
_GAP: Final = 0.012


# By their first digit, which numbers stay first.
_RANKS: Final = {"1": 0, "5": 1, "2": 2}


@dataclasses.dataclass(frozen=True)
class Spot:
    """Where a value stands on its axis.

    Args:
        place: in the axis' unit.
        beyond: a mark that points to where the value is, if it lies too far from the others to be shown.
    """

    place: float
    beyond: str = ""


def near_ends(values: Sequence[float], least: float) -> tuple[float, float]:
    """Return the least and the greatest of the values that do not lie far from the others.

    Args:
        values: at least one.
        least: what the distance of the quartiles counts as at least.
    """
    first, third = (float(end) for end in np.percentile(values, (25, 75)))
    reach = _FAR * max(third - first, least)
    near = [value for value in values if first - reach <= value <= third + reach]
    return min(near), max(near)


def cost_axis(panel: Any, costs: Sequence[float]) -> list[Spot]:
    """Make the lower axis logarithmic, with a place left of it for what costs nothing.

    Args:
        panel: of matplotlib.
        costs: of the points, from 0.
    Returns:
        Where each stands.
    """
    positive = [cost for cost in costs if cost > 0] or [1.0]
    decades = [math.log10(cost) for cost in positive]
    narrow = _is_narrow(decades)
    ends = near_ends(decades, _NARROW_LEAST if narrow else _LEAST_DECADES)
    low, high = (positive[decades.index(end)] for end in ends)
    nothing = low / max(3.0, (high / low) ** 0.16)
    free = min(costs) <= 0
    panel.set_xscale("log")
    if free:
        panel.axvline(math.sqrt(nothing * low), color=SOFT, linewidth=0.8, linestyle=(0, (1, 3)))
    margin = max(1.02 if narrow else 1.15, (high / low) ** 0.06)
    left = nothing / 1.5 if free else low / margin
    right = high * max(1.02 if narrow else 1.25, (high / left) ** 0.1)
    ticks = [tick for tick in ticks_between(low, high) if left < tick < right and (tick >= low / 1.2 or not free)]
    ticks = with_room(ticks, left, right, [nothing] if free else [])
    label_ticks(panel.xaxis, [nothing, *ticks] if free else ticks, nothing if free else None)
    panel.set_xlim(left, right)
    spots = []
    for cost in costs:
        if 0 < cost < low:
            # Right of the line that parts it from no cost at all.
            spots.append(Spot((nothing * low**3) ** 0.25 if free else left * margin**0.3, "<"))
        elif cost > high:
            spots.append(Spot(right / margin**0.3, ">"))
        else:
            spots.append(Spot(cost if cost > 0 else nothing))
    return spots


def quality_axis(panel: Any, qualities: Sequence[Estimate]) -> list[Spot]:
    """Limit the upright axis to where most values and their intervals lie.

    Args:
        panel: of matplotlib.
        qualities: of the points.
    Returns:
        Where each stands.
    """
    values = [quality.value for quality in qualities]
    low, high = near_ends(values, LEAST_SHARE * abs(float(np.median(values))))
    shown = [quality for quality in qualities if low <= quality.value <= high]
    bottom, top = min(quality.low for quality in shown), max(quality.high for quality in shown)
    margin = 0.07 * ((top - bottom) or abs(top) or 1.0)
    bottom, top = bottom - margin, top + margin
    panel.set_ylim(bottom, top)
    edge = 0.03 * (top - bottom)
    far = {True: Spot(bottom + edge, "v"), False: Spot(top - edge, "^")}
    return [Spot(value) if low <= value <= high else far[value < low] for value in values]


def _is_narrow(decades: Sequence[float]) -> bool:
    first, third = np.percentile(decades, (25, 75))
    return len(decades) > _FAR and bool(third - first < _NARROW_DECADES)


def with_room(ticks: Sequence[float], left: float, right: float, taken: Sequence[float] = ()) -> list[float]:
    """Leave out numbers that would run into others on a logarithmic axis: 2s first, then 5s, powers of ten last.

    Args:
        ticks: where numbers may stand.
        left: where the axis begins.
        right: where it ends.
        taken: where others stand already, of one character.
    Returns:
        Those that stay, in their order.
    """

    def place(tick: float) -> float:
        return math.log(tick / left) / math.log(right / left)

    def width(tick: float) -> float:
        return _CHARACTER * (1 if tick in taken else len(plain(tick)))

    kept = [*taken]
    for tick in sorted(ticks, key=lambda tick: _RANKS.get(f"{tick:e}"[0], len(_RANKS))):
        if all(abs(place(tick) - place(other)) > (width(tick) + width(other)) / 2 + _GAP for other in kept):
            kept.append(tick)
    return [tick for tick in ticks if tick in kept]


def ticks_between(low: float, high: float) -> list[float]:
    """Return 1, 2, 5 of each power of ten from half of `low` to twice `high`, or powers alone where these are many.

    Where `high` is less than twice `low`, these are three or more even steps.
    """
    if high < 2 * low:
        step = _even_step((high - low) or low / 10)
        return [round(step * at, 12) for at in range(math.floor(low / step), math.ceil(high / step) + 1) if at]
    subs = (1, 2, 5) if high / low < 300 else (1,)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    found = [float(f"{sub}e{power}") for power in powers for sub in subs]
    return [tick for tick in found if low / 2 <= tick <= high * 2]


def _even_step(span: float) -> float:
    """Return the largest of 1, 2, 5 of a power of ten of which three are in a span."""
    power = 10.0 ** math.floor(math.log10(span / 3))
    return max(sub * power for sub in (1, 2, 5) if sub * power <= span / 3)


def label_ticks(axis: Any, ticks: Sequence[float], nothing: float | None = None) -> None:
    """Put plain numbers at some places of an axis; one of them stands for 0."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda tick, _: "0" if tick == nothing else plain(tick)))


def plain(value: float) -> str:
    """Return a round number as people write it: 10,000 and not 1e4 or 10k, 45.2, 0.001 and not 1e-3."""
    return f"{value:,.12f}".rstrip("0").rstrip(".")
