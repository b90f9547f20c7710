"""Quality against a cost, as a plot with the Pareto front."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from peftrec.benchmark.report.drawing import INK, LINE, SOFT, figure, png_of, svg_of
from peftrec.benchmark.report.label import Box, place_labels
from peftrec.benchmark.report.measured import Line, MeasuredTable
from peftrec.benchmark.report.pareto import pareto_front
from peftrec.benchmark.report.result import METRICS
from peftrec.evaluation.plot import COLOURS

# Names of points further away than so many pixels are tied to them by a line.
_NEAR = 14
# Dashes of the lines of baselines.
_BASELINES: Final = ((0, (6, 3)), (0, (2, 2)), (0, (6, 2, 1.5, 2)), (0, (1, 1)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A plot as files.

    Args:
        name: of the files, without ending.
        told: what it shows, for those who do not see it.
        svg: the text of the SVG.
        png: the content of the PNG.
    """

    name: str
    told: str
    svg: str
    png: bytes


@dataclasses.dataclass(frozen=True)
class _Axis:
    """A cost: what its plot's name ends with, what stands below the axis, where it is found, and in which unit."""

    name: str
    below: str
    cost: Callable[[Line], float | None]


_AXES: Final = (
    _Axis("parameters", "parameters of the language model trained", lambda line: line.expense.trained_lm),
    _Axis("size", "size of the published files, MB", lambda line: line.expense.file_bytes / 1e6),
    _Axis("memory", "peak memory of training, MiB above data and weights", lambda line: line.expense.memory_mib),
    _Axis("seconds", "seconds of an epoch, on an idle machine", lambda line: line.expense.epoch_seconds),
)


def trade_offs(measured: MeasuredTable) -> list[Picture]:
    """Draw test NDCG@10 of the models against each cost that was measured for two of them or more.

    Args:
        measured: the table; models whose cost is not known are not drawn.
    Returns:
        Pictures named after the table and the cost.
    Raises:
        InputError: if matplotlib is not installed.
    """
    pictures = []
    for axis in _AXES:
        lines = [
            line for line in measured.models if axis.cost(line) is not None and measured.table.comparable(line.row)
        ]
        if len(lines) > 1:
            pictures.append(_draw(measured, lines, axis))
    return pictures


def _draw(measured: MeasuredTable, lines: Sequence[Line], axis: _Axis) -> Picture:
    name = f"{measured.table.slug}_{axis.name}"
    costs = [float(axis.cost(line) or 0.0) for line in lines]
    qualities = [line.quality.means[METRICS[0]] for line in lines]
    front = pareto_front([(cost, quality.value) for cost, quality in zip(costs, qualities, strict=True)])
    with figure(name) as (drawn, panel):
        places = _cost_axis(panel, costs)
        for place, quality in zip(places, qualities, strict=True):
            panel.plot([place, place], [quality.low, quality.high], color=LINE, linewidth=2.2, zorder=1.5)
        steps = [(places[at], qualities[at].value) for at in front]
        panel.step(*zip(*steps, strict=True), where="post", color=COLOURS[0], linewidth=1.4, label="Pareto front")
        for at, (place, quality) in enumerate(zip(places, qualities, strict=True)):
            face = COLOURS[0] if at in front else "white"
            panel.plot(place, quality.value, "o", color=COLOURS[0], markerfacecolor=face, markersize=7, zorder=3)
        _baselines(panel, measured)
        panel.set(xlabel=axis.below, ylabel=f"test {METRICS[0].upper()}", title=measured.table.title)
        drawn.legend(loc="outside lower center", ncols=3)
        unnamed = _name_points(drawn, panel, [line.row.label for line in lines], places, qualities)
        told = f"test {METRICS[0].upper()} against {axis.below}: {measured.table.title}; bars are 95% intervals"
        told += f"; not named for want of room: {', '.join(unnamed)}" if unnamed else ""
        return Picture(name=name, told=told, svg=svg_of(drawn), png=png_of(drawn))


def _cost_axis(panel: Any, costs: Sequence[float]) -> list[float]:
    """Make the axis logarithmic, with a place left of it for what costs nothing, and return where each point stands."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    positive = [cost for cost in costs if cost > 0] or [1.0]
    low, high = min(positive), max(positive)
    nothing = low / max(3.0, (high / low) ** 0.16)
    panel.set_xscale("log")
    ticks = _ticks(low, high)
    if min(costs) <= 0:
        panel.axvline(math.sqrt(nothing * low), color=SOFT, linewidth=0.8, linestyle=(0, (1, 3)))
        ticks = [nothing, *(tick for tick in ticks if tick >= low / 1.2)]
    panel.xaxis.set_major_locator(FixedLocator(ticks))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: "0" if tick == nothing else _short(tick)))
    left = nothing / 1.5 if min(costs) <= 0 else low / (high / low) ** 0.06 / 1.1
    panel.set_xlim(left, high * (high / left) ** 0.12)
    return [cost if cost > 0 else nothing for cost in costs]


def _ticks(low: float, high: float) -> list[float]:
    """Return 1, 2, 5 of each power of ten, or powers alone where these are many."""
    subs = (1, 2, 5) if high / low < 300 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [sub * 10.0**power for power in powers for sub in subs if low / 2 <= sub * 10.0**power <= high * 2]


def _short(value: float) -> str:
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{sign}"
    return f"{value:g}"


def _baselines(panel: Any, measured: MeasuredTable) -> None:
    """Draw baselines as lines where they lie near the models, and name the others in the legend."""
    low, high = panel.get_ylim()
    reach = (high - low) * 0.6
    num_drawn = 0
    for line in measured.lines:
        if not line.row.is_baseline:
            continue
        value = line.quality.means[METRICS[0]].value
        told = f"{line.row.label} {value:.4f}"
        if low - reach <= value <= high + reach and num_drawn < len(_BASELINES):
            panel.axhline(value, color=SOFT, linewidth=1.2, linestyle=_BASELINES[num_drawn], label=told)
            num_drawn += 1
        else:
            panel.plot([], [], " ", label=f"{told} (not drawn)")


def _name_points(
    drawn: Any, panel: Any, names: Sequence[str], places: Sequence[float], qualities: Sequence[Any]
) -> list[str]:
    """Write the name of each point where nothing else stands, and return those that found no place."""
    drawn.draw_without_rendering()
    drawn.set_layout_engine("none")
    renderer = drawn.canvas.get_renderer()
    to_pixels, to_axes = panel.transData, panel.transAxes.inverted()
    points = [
        tuple(to_pixels.transform((place, quality.value))) for place, quality in zip(places, qualities, strict=True)
    ]
    texts = [panel.text(0, 0, name, fontsize=9.5, transform=panel.transAxes, va="bottom", zorder=4) for name in names]
    extents = [text.get_window_extent(renderer) for text in texts]
    bars = []
    for place, quality in zip(places, qualities, strict=True):
        (x, bottom), (_, top) = to_pixels.transform((place, quality.low)), to_pixels.transform((place, quality.high))
        bars.append(Box(x - 1.5, bottom, x + 1.5, top))
    inside = panel.get_window_extent()
    area = Box(inside.x0, inside.y0, inside.x1, inside.y1)
    sizes = [(extent.width + 2, extent.height) for extent in extents]
    boxes = place_labels(points, sizes, area, taken=bars)
    unnamed = []
    for name, text, point, box in zip(names, texts, points, boxes, strict=True):
        if box is None:
            unnamed.append(name)
            text.remove()
            continue
        text.set_position(to_axes.transform((box.left + 1, box.bottom)))
        near = (min(max(point[0], box.left), box.right), min(max(point[1], box.bottom), box.top))
        if math.dist(near, point) > _NEAR:
            ends = to_axes.transform([point, near])
            panel.plot(*ends.T, color=INK, linewidth=0.5, alpha=0.6, transform=panel.transAxes, zorder=2)
    return unnamed
