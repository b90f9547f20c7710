"""Tables for people."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from peftrec.retrieval import Recommendation

# Rows are not cut where nobody looks at a terminal.
_PIPE_WIDTH = 200


def print_results(results: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Print what an evaluation found, a row for the run and one for each reference.

    Args:
        results: one split, as `peftrec.evaluate` returns it.
        run: `parameters` and `training` of the run, as `metrics.json` holds them.
    """
    rows = _rows(results)
    out = console()
    level = rows["model"]["interval_level"]
    out.print(_results_table(rows, run, f"{results['split']}, whole catalogue, {level:.0%} intervals over users"))
    for line in _notes(results, run):
        out.print(line)
    if "sampled" in results:
        rows = results["sampled"]
        title = (
            f"{results['split']}, target among {rows['model']['protocol']['catalogue']}: only to compare with papers"
        )
        out.print(_results_table(rows, run, f"{title}, never with the table above"))


def _results_table(rows: Mapping[str, Any], run: Mapping[str, Any], title: str) -> Table:
    from peftrec.evaluation.section import value_cell
    from peftrec.metrics import rank_keys

    metrics = rank_keys(rows["model"]["metrics"])
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for metric in metrics:
        table.add_column(metric.upper(), justify="right")
    for name in ("cases", "parameters", "training s"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in rows.items():
        cells = [value_cell(row, metric) for metric in metrics]
        cost = _cost(run) if name == "model" else ("", "")
        table.add_row(name, *cells, f"{row['num_cases']:,}", *cost)
        if "snips" in row:
            cells = [value_cell(row["snips"], metric) for metric in metrics]
            table.add_row(f"{name}, snips", *cells, f"{row['snips']['effective_cases']:,.0f}", "", "")
    return table


def print_lists(results: Mapping[str, Any]) -> None:
    """Print what lists are like: means over users, and values of all lists together.

    Args:
        results: one split, as `peftrec.reporting.report` returns it.
    """
    from peftrec.evaluation.section import number, value_cell
    from peftrec.metrics import rank_keys

    rows = _rows(results)
    model = rows["model"]
    ranks = rank_keys(model["metrics"])
    table = Table(title="lists", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for name in rows:
        table.add_column(name, justify="right", overflow="fold")
    for key in (key for key in model["metrics"] if key not in ranks):
        table.add_row(key, *(value_cell(row, key) for row in rows.values()))
    for key in model.get("overall", {}):
        table.add_row(key, *(number(row["overall"][key]) for row in rows.values()))
    for name, kind in (("GAUC", "gauc"), ("GAUC by clicks", "gauc_by_clicks")):
        if "impressions" in results:
            found = results["impressions"]["rows"]
            cells = [value_cell({"metrics": found[row], "intervals": found[row]["intervals"]}, kind) for row in rows]
            table.add_row(name, *cells)
    console().print(table)


def print_recommendations(recommendations: Sequence[Recommendation]) -> None:
    """Print one list: rank, score, id, title."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("id", no_wrap=True)
    table.add_column("title")
    for entry in recommendations:
        table.add_row(str(entry.rank), f"{entry.score:.3f}", entry.item_id, entry.title)
    console().print(table)


def console() -> Console:
    """Return where tables are printed: as wide as the terminal, or wide enough where there is none."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, markup=False)


def _rows(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: row for name, row in results.items() if isinstance(row, Mapping) and "metrics" in row}


def _cost(run: Mapping[str, Any]) -> tuple[str, str]:
    """Return trained parameters and training seconds of a run."""
    trained = sum(part["trainable"] for part in run["parameters"])
    return f"{trained:,}", f"{run['training']['train_seconds']:.0f}"


def _notes(results: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    parts = [
        f"{part['part']}: {part['trainable']:,} of {part['total']:,} parameters trained, "
        f"{part['stored_bytes']:,} bytes stored"
        for part in run["parameters"]
    ]
    repeats = results["model"]["repeat_target_share"]
    rule = results["model"]["protocol"]["target_in_history"]
    repeated = [f"{repeats:.1%} of the targets lie in the user's history already (counted as: {rule})"] * (repeats > 0)
    return [*parts, *repeated, *_snips_notes(results), *([results["leaks"]] if results["leaks"] else [])]


def _snips_notes(results: Mapping[str, Any]) -> list[str]:
    """Say what the rows of estimates are, and where they rest on few cases."""
    found = results["model"].get("snips")
    if found is None:
        return []
    told = f"snips: cases weighed by 1 / propensity ({found['source']}); their cases are effective ones"
    if not found["few"]:
        return [told]
    return [
        told,
        f"warning: these estimates rest on {found['effective_cases']:,.0f} effective cases of "
        f"{results['model']['num_cases']:,}: a few targets decide them; raise evaluation.propensity.clip",
    ]
