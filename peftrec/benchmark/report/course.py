"""How training went, and what items nobody had in training get: two more plots of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from peftrec.benchmark.report.drawing import WIDTH, figure, look, png_of, svg_of
from peftrec.benchmark.report.measured import Line, MeasuredTable
from peftrec.benchmark.report.quality import Estimate
from peftrec.benchmark.report.result import METRICS, mean
from peftrec.benchmark.report.trade_off import Picture
from peftrec.evaluation.plot import COLOURS
from peftrec.evaluation.slice import POPULARITY

COLD, *WARM = POPULARITY
_MARKS: Final = dict(zip(WARM, ("o", "s", "^"), strict=True))
Curve = list[tuple[float, float, float]]


def learning_curves(measured: MeasuredTable) -> Picture | None:
    """Draw validation NDCG@10 of each model's first seed by epoch and by seconds of training; None without curves."""
    curves = {line.row.label: curve_of(line.row.first.content.get("training")) for line in measured.models}
    curves = {label: curve for label, curve in curves.items() if len(curve) > 1}
    if not curves:
        return None
    name = f"{measured.table.slug}_curves"
    seconds = [point[1] for curve in curves.values() for point in curve if point[1] > 0]
    wide = max(seconds, default=1.0) > 30 * min(seconds, default=1.0)
    with figure(name, ncols=2, sharey=True, figsize=(WIDTH, 4.4 + 0.22 * len(curves) / 3)) as (drawn, panels):
        for at, (label, curve) in enumerate(curves.items()):
            epochs, times, values = zip(*curve, strict=True)
            best = max(range(len(values)), key=lambda place, values=values: values[place])  # type: ignore[misc]
            # A logarithmic axis has no place for the start.
            first = 1 if wide and times[0] == 0 else 0
            shown = ((panels[0], epochs, 0), (panels[1], times, first))
            for panel, across, start in shown:
                text = label if panel is panels[0] else None
                panel.plot(across[start:], values[start:], linewidth=1.6, label=text, **look(at))
                panel.plot(across[best], values[best], "o", markersize=5, color=look(at)["color"])
        panels[0].set(xlabel="epoch", ylabel=f"validation {METRICS[0].upper()}", title=measured.table.title)
        panels[0].xaxis.get_major_locator().set_params(integer=True)
        panels[1].set(xlabel="seconds of training, validation left out; machine shared")
        if wide:
            panels[1].set_xscale("log")
        drawn.legend(loc="outside lower center", ncols=3)
        told = (
            f"validation {METRICS[0].upper()} by epoch and by seconds: {measured.table.title}; dots mark the best epoch"
        )
        return Picture(name=name, told=told, svg=svg_of(drawn), png=png_of(drawn))


def curve_of(training: Mapping[str, Any] | None) -> Curve:
    """Return epoch, seconds of training until then, and validation NDCG@10 of each epoch that was validated.

    Args:
        training: of a result; the start counts as epoch 0.
    """
    if training is None:
        return []
    rows = [training.get("start") or {}, *training["epochs"]]
    seconds = accumulate(float(row.get("train_seconds", 0.0)) for row in rows)
    return [
        (float(row.get("epoch", number)), until, float(row[METRICS[0]]))
        for number, (row, until) in enumerate(zip(rows, seconds, strict=True))
        if row.get(METRICS[0]) is not None
    ]


def cold_against_warm(measured: MeasuredTable) -> Picture | None:
    """Draw test NDCG@10 of targets that nobody had in training beside that of the others; None without such targets."""
    found = [(line, target_slices(line)) for line in measured.lines]
    found = [(line, slices) for line, slices in found if COLD in slices]
    if not found:
        return None
    found.reverse()  # The first row of the table on top.
    name = f"{measured.table.slug}_cold"
    size = (WIDTH, 1.9 + 0.3 * len(found))
    with figure(name, ncols=2, sharey=True, figsize=size) as (drawn, (cold, warm)):
        _points(cold, [slices.get(COLD) for _, slices in found], 0.0, COLOURS[1], "D", COLD)
        for at, kind in enumerate(WARM):
            entries = [slices.get(kind) for _, slices in found]
            if any(entries):
                _points(warm, entries, 0.22 * (1 - at), COLOURS[(0, 2, 3)[at]], _MARKS[kind], kind)
        cold.set_yticks(range(len(found)), [line.row.label for line, _ in found])
        cold.set_title("cold: no training event")
        warm.set_title("warm")
        for panel in (cold, warm):
            panel.set_xlim(left=0)
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
