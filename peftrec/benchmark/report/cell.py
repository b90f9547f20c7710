"""The tables of a report, as text: quality and costs of each row, costs in detail, and every run with its command."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from peftrec.benchmark.report.measured import Line, MeasuredTable
from peftrec.benchmark.report.quality import Estimate
from peftrec.benchmark.report.result import METRICS
from peftrec.evaluation.section import Table

ONE_SEED: Final = "†"
"""Marks rows that have one run alone."""
NOTHING: Final = "-"
"""Stands for what was not measured, or does not exist."""

Column = Callable[[Line], str]


def main_table(measured: MeasuredTable, *, short: bool = False) -> Table:
    """Return quality and costs, a line a row.

    Args:
        measured: the table.
        short: the columns that a first page has room for, but for those that are empty.
    """
    cells = {name: [column(line) for line in measured.lines] for name, column in _COLUMNS.items()}
    shown = [name for name in cells if not short or (name in _SHORT and set(cells[name]) != {NOTHING})]
    names = map(row_name, measured.lines)
    return Table(("method", *shown), tuple(zip(names, *(cells[name] for name in shown), strict=True)))


def row_name(line: Line) -> str:
    """Return what the line is called, marked as a baseline and as a single run."""
    of_kind = " (baseline)" if line.row.is_baseline else ""
    return f"{line.row.label}{of_kind}{f' {ONE_SEED}' if len(line.row.runs) == 1 else ''}"


def cost_table(measured: MeasuredTable) -> Table | None:
    """Return what was measured on an idle machine, a line for each row that has it; None where none has."""
    costs = [(row_name(line), line.row.cost) for line in measured.lines]
    rows = tuple(
        (name, *(column(cost) for column in _COST_COLUMNS.values())) for name, cost in costs if cost is not None
    )
    return Table(("method", *_COST_COLUMNS), rows) if rows else None


def run_table(measured: MeasuredTable) -> Table:
    """Return the runs of each row, with what reproduces them."""
    rows = tuple(
        (line.row.label, str(run.run["seed"]), f"{run.valid:.4f}", _metric(run.content, METRICS[0]), run.run["command"])
        for line in measured.lines
        for run in line.row.runs
    )
    return Table(("method", "seed", f"validation {METRICS[0].upper()}", "test", "command"), rows, texts=(0, 4))


def digits(value: float | None, scale: float = 1.0) -> str:
    """Return a number with three significant digits, or a dash where there is none."""
    if value is None:
        return NOTHING
    scaled = value * scale
    if scaled == 0 or not math.isfinite(scaled):
        return f"{scaled:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(scaled))))
    return f"{scaled:,.{decimals}f}"


def estimate(found: Estimate | None, scale: float = 1.0, decimals: int = 4) -> str:
    """Return a value and its interval, or a dash."""
    if found is None:
        return NOTHING
    value, low, high = (f"{scale * number:.{decimals}f}" for number in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def _whole(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def _difference(line: Line) -> str:
    test = line.quality.test
    return NOTHING if test is None else f"{test.difference:+.4f} [{test.low:+.4f}, {test.high:+.4f}]"


def _p_value(line: Line) -> str:
    p_value = line.quality.adjusted_p_value
    if p_value is None:
        return NOTHING
    return f"{p_value:.3f}" if p_value >= 0.001 else "< 0.001"


_COLUMNS: Final[Mapping[str, Column]] = {
    "NDCG@10": lambda line: estimate(line.quality.means[METRICS[0]]),
    "HR@10": lambda line: estimate(line.quality.means[METRICS[1]]),
    "% of full": lambda line: estimate(line.quality.kept, 100, 1),
    "minus full": _difference,
    "p (Holm)": _p_value,
    "LM parameters trained": lambda line: _whole(line.expense.trained_lm),
    "% of LM": lambda line: digits(line.expense.share_lm, 100),
    "all trained": lambda line: _whole(line.expense.trained),
    "files, MB": lambda line: digits(line.expense.file_bytes, 1e-6),
    "memory, MiB": lambda line: digits(line.expense.memory_mib),
    "step, s": lambda line: digits(line.expense.step_seconds),
    "epoch, s": lambda line: digits(line.expense.epoch_seconds),
    "TPME": lambda line: NOTHING if line.tpme is None else f"{line.tpme:.3f}",
    "trials": lambda line: str(line.row.num_trials),
    "seeds": lambda line: str(len(line.row.runs)),
}
_SHORT: Final = ("NDCG@10", "% of full", "p (Holm)", "% of LM", "files, MB", "memory, MiB", "step, s", "seeds")


def _range(spread: Mapping[str, Any] | None, scale: float = 1.0) -> str:
    if spread is None:
        return NOTHING
    return f"{digits(spread['median'], scale)} ({digits(spread['min'], scale)} to {digits(spread['max'], scale)})"


def _rate(name: str) -> Callable[[Mapping[str, Any]], str]:
    """Return what a step takes of something, as a rate."""

    def column(cost: Mapping[str, Any]) -> str:
        seconds = cost["step_seconds"]["median"]
        return digits(cost[name] / seconds if seconds > 0 else None)

    return column


def _of(place: str, name: str, scale: float = 1.0) -> Callable[[Mapping[str, Any]], str]:
    return lambda cost: _range(cost[place].get(name), scale)


_COST_COLUMNS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "step, s": lambda cost: _range(cost["step_seconds"]),
    "steps timed": lambda cost: str(cost["num_steps"]),
    "steps an epoch": lambda cost: f"{cost['steps_per_epoch']:,}",
    "tokens a second": _rate("tokens_a_step"),
    "positions a second": _rate("positions_a_step"),
    "GFLOP a step": lambda cost: digits(cost["flops_a_step"], 1e-9),
    "weights, MiB": lambda cost: digits(cost["memory_mib"]["weights"]),
    "baseline, MiB": lambda cost: digits(cost["memory_mib"]["baseline"]),
    "training above it, MiB": lambda cost: digits(cost["memory_mib"]["training"]),
    "prepared once, s": lambda cost: digits(cost.get("prepare_seconds")),
    "catalogue, s": _of("catalogue_seconds", "unmerged"),
    "catalogue merged, s": _of("catalogue_seconds", "merged"),
    "a user's list, ms": _of("query_seconds", "list", 1e3),
    "a new item, ms": _of("query_seconds", "new_item_unmerged", 1e3),
    "a new item merged, ms": _of("query_seconds", "new_item_merged", 1e3),
    "others' work": lambda cost: NOTHING if cost["other_work"] is None else f"{cost['other_work']:.0%}",
}


def _metric(content: Mapping[str, Any], metric: str) -> str:
    return f"{content['test']['metrics'][metric]:.4f}"
