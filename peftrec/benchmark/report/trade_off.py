"""Quality against a cost, as a plot with the Pareto front."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

from peftrec.benchmark.report.axis import Spot, cost_axis, quality_axis
from peftrec.benchmark.report.box import Box
from peftrec.benchmark.report.cell import digits
from peftrec.benchmark.report.drawing import INK, LINE, SOFT, figure, png_of, svg_of
from peftrec.benchmark.report.expense import cost_machines
from peftrec.benchmark.report.label import NEAR, place_labels
from peftrec.benchmark.report.measured import Line, MeasuredTable
from peftrec.benchmark.report.pareto import pareto_front
from peftrec.benchmark.report.quality import Estimate
from peftrec.benchmark.report.result import METRICS
from peftrec.evaluation.plot import COLOURS

_LONGEST_NAME = 34
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
    """A cost: end of its plot's name, what stands below the axis, where it is found, whether machines differ in it."""

    name: str
    below: str
    cost: Callable[[Line], float | None]
    of_machine: bool = False


_AXES: Final = (
    _Axis("parameters", "parameters of the language model trained", lambda line: line.expense.trained_lm),
    _Axis("size", "size of the published files, MB", lambda line: line.expense.file_bytes / 1e6),
    _Axis("memory", "peak memory of training, MiB above data and weights", lambda line: line.expense.memory_mib, True),
    _Axis("seconds", "seconds of an epoch, on an idle machine", lambda line: line.expense.epoch_seconds, True),
)


def trade_offs(measured: MeasuredTable) -> list[Picture]:
    """Draw test NDCG@10 of the models against each cost that was measured for two of them or more.

    Args:
        measured: the table; models whose cost is not known are not drawn, nor any by seconds or memory where they were
            measured on several kinds of machines.
    Returns:
        Pictures named after the table and the cost.
    Raises:
        InputError: if matplotlib is not installed.
    """
    pictures, one_machine = [], len(cost_machines(measured.table.rows)) <= 1
    for axis in _AXES:
        if axis.of_machine and not one_machine:
            continue
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
        across, up = cost_axis(panel, costs), quality_axis(panel, qualities)
        _points(panel, across, up, qualities, front)
        _baselines(panel, measured)
        panel.set(xlabel=axis.below, ylabel=f"test {METRICS[0].upper()}", title=measured.table.title)
        drawn.legend(loc="outside lower center", ncols=3)
        names = [_point_name(line, x, y, cost) for line, x, y, cost in zip(lines, across, up, costs, strict=True)]
        _name_points(
            drawn, panel, names, [(x.place, y.place) for x, y in zip(across, up, strict=True)], qualities, front
        )
        told = f"test {METRICS[0].upper()} against {axis.below}: {measured.table.title}; bars are 95% intervals"
        return Picture(name=name, told=told, svg=svg_of(drawn), png=png_of(drawn))


def _points(
    panel: Any, across: Sequence[Spot], up: Sequence[Spot], qualities: Sequence[Estimate], front: Sequence[int]
) -> None:
    """Draw points with their intervals, and the front through those that no other one beats."""
    told = "95% interval"
    for x, y, quality in zip(across, up, qualities, strict=True):
        if not y.beyond:
            panel.plot([x.place] * 2, [quality.low, quality.high], color=LINE, linewidth=2.2, zorder=1.5, label=told)
            told = "_"  # One entry of the legend is enough.
    steps = [(across[at].place, up[at].place) for at in front]
    front_look = {"color": COLOURS[0], "linewidth": 1.4, "marker": "o", "markersize": 7, "markevery": []}
    panel.step(*zip(*steps, strict=True), where="post", **front_look)
    panel.plot([], [], **{**front_look, "markevery": None}, label="Pareto front: none cheaper and as good")
    for at, (x, y) in enumerate(zip(across, up, strict=True)):
        face = COLOURS[0] if at in front else "white"
        mark = y.beyond or x.beyond or "o"
        panel.plot(x.place, y.place, mark, color=COLOURS[0], markerfacecolor=face, markersize=7, zorder=3)


def _point_name(line: Line, x: Spot, y: Spot, cost: float) -> str:
    """Return what stands beside a point: its name, and below it the values that its place does not show."""
    label = line.row.label
    name = label if len(label) <= _LONGEST_NAME else f"{label[: _LONGEST_NAME - 1]}…"
    values = [f"{line.quality.means[METRICS[0]].value:.4f}"] if y.beyond else []
    values += [f"at {digits(cost)}"] if x.beyond else []
    return "\n".join((name, " ".join(values))) if values else name


def _baselines(panel: Any, measured: MeasuredTable) -> None:
    """Draw baselines as lines where the plot reaches them, and name the others in the legend."""
    bottom, top = panel.get_ylim()
    dashes = iter(_BASELINES)
    for line in measured.lines:
        if not line.row.is_baseline:
            continue
        value = line.quality.means[METRICS[0]].value
        told = f"{line.row.label} {value:.4f}"
        dash = next(dashes, None) if bottom <= value <= top else None
        if dash is not None:
            panel.axhline(value, color=SOFT, linewidth=1.2, linestyle=dash, label=told)
        else:
            where = "below" if value < bottom else "above" if value > top else "not drawn"
            panel.plot([], [], " ", label=f"{told} ({where})")


def _name_points(
    drawn: Any,
    panel: Any,
    names: Sequence[str],
    places: Sequence[tuple[float, float]],
    qualities: Sequence[Estimate],
    front: Sequence[int],
) -> None:
    """Write the name of each point where nothing else stands."""
    drawn.draw_without_rendering()
    drawn.set_layout_engine("none")
    renderer = drawn.canvas.get_renderer()
    to_pixels, to_axes = panel.transData, panel.transAxes.inverted()
    points = [tuple(to_pixels.transform(place)) for place in places]
    texts = [panel.text(0, 0, name, fontsize=9.5, transform=panel.transAxes, va="bottom", zorder=4) for name in names]
    extents = [text.get_window_extent(renderer) for text in texts]
    inside = panel.get_window_extent()
    bars = (
        Box(x - 1.5, to_pixels.transform((1, quality.low))[1], x + 1.5, to_pixels.transform((1, quality.high))[1])
        for (x, _), quality in zip(points, qualities, strict=True)
    )
    boxes = place_labels(
        points,
        [(extent.width + 2, extent.height) for extent in extents],
        Box(inside.x0 + 2, inside.y0 + 2, inside.x1, inside.y1),
        taken=[*bars, *_steps([points[at] for at in front]), *_straight_lines(panel, inside)],
    )
    for text, point, box in zip(texts, points, boxes, strict=True):
        text.set_position(to_axes.transform((box.left + 1, box.bottom)))
        near = box.nearest(*point)
        if math.dist(near, point) > NEAR:
            ends = to_axes.transform([point, near])
            panel.plot(*ends.T, color=INK, linewidth=0.5, alpha=0.6, transform=panel.transAxes, zorder=2)


def _steps(points: Sequence[tuple[float, float]]) -> Iterator[Box]:
    """Yield what the steps of a front cover."""
    for (x, y), (next_x, next_y) in pairwise(points):
        yield Box(x, y - 1.5, next_x, y + 1.5)
        yield Box(next_x - 1.5, min(y, next_y), next_x + 1.5, max(y, next_y))


def _straight_lines(panel: Any, inside: Any) -> Iterator[Box]:
    """Yield what lines from side to side, or from top to bottom, cover."""
    for line in panel.get_lines():
        if line.get_transform() == panel.get_yaxis_transform():
            _, y = line.get_transform().transform((0, line.get_ydata()[0]))
            yield Box(inside.x0, y - 2, inside.x1, y + 2)
        elif line.get_transform() == panel.get_xaxis_transform():
            x, _ = line.get_transform().transform((line.get_xdata()[0], 0))
            yield Box(x - 2, inside.y0, x + 2, inside.y1)
