"""How training went, and what items nobody had in training get: two more plots of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from peftrec.benchmark.report.axis import LEAST_SHARE, label_ticks, near_ends, ticks_between
from peftrec.benchmark.report.drawing import WIDTH, figure, look, png_of, svg_of
from peftrec.benchmark.report.measured import Line, MeasuredTable
from peftrec.benchmark.report.quality import Estimate
from peftrec.benchmark.report.result import METRICS, mean
from peftrec.benchmark.report.trade_off import Picture
from peftrec.evaluation.plot import COLOURS
from peftrec.evaluation.slice import POPULARITY

COLD, *WARM = POPULARITY
_MARKS: Final = dict(zip(WARM, ("o", "s", "^"), strict=True))
Curve = list[tuple[float, float]]


def learning_curves(measured: MeasuredTable) -> Picture | None:
    """Draw validation NDCG@10 of each model's first seed by epoch, and by seconds where costs were measured.

    Runs share their machine, so seconds are those that steps took when they had it to themselves. Of a model that is
    far below the others, only the best value is told, so that the others are told apart.

    Args:
        measured: the table.
    Returns:
        None where no model has a curve.
    """
    curves = {line.row.label: curve_of(line.row.first.content.get("training")) for line in measured.models}
    curves = {label: curve for label, curve in curves.items() if len(curve) > 1}
    if not curves:
        return None
    timed = {line.row.label: timed_curve(curves[line.row.label], line.row.cost) for line in measured.models
             if line.row.label in curves}  # fmt: skip
    far = far_below(curves)
    panels_of = [curves, timed] if any(timed.values()) else [curves]
    name = f"{measured.table.slug}_curves"
    size = (WIDTH, 4.4 + 0.22 * math.ceil(len(curves) / 3))
    with figure(name, ncols=len(panels_of), sharey=True, squeeze=False, figsize=size) as (drawn, rows):
        for panel, shown in zip(rows[0], panels_of, strict=True):
            for at, label in enumerate(curves):
                if label not in far:
                    _curve(panel, shown[label], look(at), label if shown is curves else None)
                elif shown is curves:
                    panel.plot([], [], " ", label=f"{label} {far[label]:.4f} (below)")
        first, *second = rows[0]
        first.set(xlabel="epoch", ylabel=f"validation {METRICS[0].upper()}", title=measured.table.title)
        first.xaxis.get_major_locator().set_params(integer=True)
        for panel in second:
            _seconds_axis(
                panel, [seconds for label, curve in timed.items() if label not in far for seconds, _ in curve]
            )
        drawn.legend(loc="outside lower center", ncols=3)
        told = f"validation {METRICS[0].upper()} by epoch{' and by seconds' if second else ''}: {measured.table.title}"
        told += "; dots mark the best epoch"
        return Picture(name=name, told=told, svg=svg_of(drawn), png=png_of(drawn))


def far_below(curves: Mapping[str, Curve]) -> dict[str, float]:
    """Return the best value of each model that is far below the others."""
    best = {label: max(value for _, value in curve) for label, curve in curves.items()}
    values = [*best.values()]
    low, _ = near_ends(values, LEAST_SHARE * float(np.median(values)))
    return {label: value for label, value in best.items() if value < low}


def curve_of(training: Mapping[str, Any] | None) -> Curve:
    """Return epoch and validation NDCG@10 of each epoch that was validated.

    Args:
        training: of a result; the start counts as epoch 0.
    """
    rows = [] if training is None else [{"epoch": 0} | training.get("start", {}), *training["epochs"]]
    return [
        (float(row.get("epoch", number)), float(row[METRICS[0]]))
        for number, row in enumerate(rows)
        if row.get(METRICS[0]) is not None
    ]


def timed_curve(curve: Curve, cost: Mapping[str, Any] | None) -> Curve:
    """Return a curve by seconds in place of epochs.

    Args:
        curve: by epochs.
        cost: of a result; without it there is nothing to draw.
    Returns:
        Seconds, what is prepared once among them, and the values; the start, which takes none, is left out.
    """
    if cost is None:
        return []
    epoch_seconds = cost["step_seconds"]["median"] * cost["steps_per_epoch"]
    prepared = cost.get("prepare_seconds", 0.0)
    return [(prepared + epoch * epoch_seconds, value) for epoch, value in curve if epoch > 0]


def _curve(panel: Any, curve: Curve, drawn_as: Mapping[str, Any], label: str | None) -> None:
    if not curve:
        return
    across, values = zip(*curve, strict=True)
    best = max(range(len(values)), key=values.__getitem__)
    panel.plot(across, values, linewidth=1.6, label=label, **drawn_as)
    panel.plot(across[best], values[best], "o", markersize=5, color=drawn_as["color"])


def _seconds_axis(panel: Any, seconds: Sequence[float]) -> None:
    low, high = min(seconds), max(seconds)
    panel.set_xlabel("seconds of training, validation left out")
    if low > 0:
        panel.set_xscale("log")
        label_ticks(panel.xaxis, [tick for tick in ticks_between(low, high) if low / 1.2 <= tick <= high * 1.2])


def cold_against_warm(measured: MeasuredTable) -> Picture | None:
    """Draw test NDCG@10 of targets that nobody had in training beside that of the others; None without such targets."""
    found = [(line, target_slices(line)) for line in measured.lines if measured.table.comparable(line.row)]
    found = [(line, slices) for line, slices in found if COLD in slices]
    if not found:
        return None
    found.reverse()  # The first row of the table on top.
    name = f"{measured.table.slug}_cold"
    size = (WIDTH, 2.2 + 0.3 * len(found))
    with figure(name, ncols=2, sharey=True, figsize=size) as (drawn, (cold, warm)):
        _points(cold, [slices.get(COLD) for _, slices in found], 0.0, COLOURS[1], "D", COLD)
        for at, kind in enumerate(WARM):
            entries = [slices.get(kind) for _, slices in found]
            if any(entries):
                _points(warm, entries, 0.22 * (1 - at), COLOURS[(0, 2, 3)[at]], _MARKS[kind], kind)
        cold.set_yticks(range(len(found)), [line.row.label for line, _ in found])
        drawn.suptitle(f"{measured.table.title}: by training events of the target", x=0.01, ha="left", fontsize=11.5)
        cold.set_title("cold targets: none", fontsize=10.5)
        warm.set_title("warm targets: at least one", fontsize=10.5)
        for panel in (cold, warm):
            # A little left of 0, where marks are whole.
            panel.set_xlim(left=-0.025 * panel.get_xlim()[1])
            panel.set_ylim(-0.6, len(found) - 0.4)
            panel.set_xlabel(f"test {METRICS[0].upper()}")
        drawn.legend(loc="outside lower center", ncols=4)
        told = f"test {METRICS[0].upper()} by popularity of the target: {measured.table.title}; bars are 95% intervals"
        return Picture(name=name, told=told, svg=svg_of(drawn), png=png_of(drawn))


def target_slices(line: Line) -> dict[str, Estimate]:
    """Return NDCG@10 by popularity of the target, mean over the seeds; ends are means of theirs, over users alone."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for run in line.row.runs:
        for part in run.content.get("slices", ()):
            if part["kind"] == "target" and part["metrics"].get(METRICS[0]) is not None:
                by_name.setdefault(part["name"], []).append(part)
    found = {}
    for name, parts in by_name.items():
        values = [part["metrics"][METRICS[0]] for part in parts]
        ends = [part["intervals"].get(METRICS[0], (value, value)) for part, value in zip(parts, values, strict=True)]
        low, high = (mean(end[at] for end in ends) for at in (0, 1))
        found[name] = Estimate(value=mean(values), low=low, high=high)
    return found


def _points(panel: Any, entries: Sequence[Estimate | None], shift: float, colour: str, mark: str, label: str) -> None:
    for place, entry in enumerate(entries):
        if entry is None:
            continue
        y = place + shift
        panel.plot([entry.low, entry.high], [y, y], color=colour, linewidth=1.3, alpha=0.55)
        panel.plot(entry.value, y, mark, color=colour, markersize=5.5, label=label)
        label = "_"  # one entry of the legend is enough
