"""`peftrec runs`: what lies in a folder of runs."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from peftrec.cli.verb import add_verb

if TYPE_CHECKING:
    from peftrec.listing import Listing, RunRow

_DESCRIPTION = """\
List the run folders in a folder and below it: those that are done, those that train (how far they are, how long it
still takes), those that stopped or failed (where, and whether --resume goes on). Shown is the metric that picks the
best weights, on the validation cases and, of what is done, on the test cases. Weights are not opened.

Folders that cannot be read are named below, and the rest is listed.

examples:
  peftrec runs
  peftrec runs runs/beauty --sort ndcg@10
  watch -n 5 peftrec runs
  peftrec runs --json
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs, "runs", _run, summary="list runs, and how far those are that train", description=_DESCRIPTION
    )
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default="runs", help="of the runs (default: runs)")
    parser.add_argument(
        "--sort", metavar="METRIC", help="show this metric, such as hr@10, and sort by it on the validation cases"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.listing import list_runs

    found = list_runs(arguments.folder, sort=arguments.sort)
    if arguments.json:
        document = {
            "runs": [run.to_json() for run in found.runs],
            "left_out": [{"name": name, "reason": reason} for name, reason in found.left_out],
        }
        print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
        return
    if found.runs:
        _print(found, arguments.sort)
    elif not found.left_out:
        print(f"{arguments.folder}: there are no runs in it")
    for run in found.runs:
        if run.note is not None:
            print(f"{run.name}: {run.note}")
    sys.stdout.flush()
    for name, reason in found.left_out:
        print(f"left out: {name}: {reason}", file=sys.stderr)


def _print(found: Listing, metric: str | None) -> None:
    from rich import box
    from rich.table import Table

    from peftrec.cli.table import console

    metrics = sorted({name for run in found.runs if (name := metric or run.metric)})
    title = metrics[0] if len(metrics) == 1 else ""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("run", "what", "state"):
        table.add_column(name, overflow="fold")
    for split in ("valid", "test"):
        table.add_column(f"{title.upper()} {split}".strip(), justify="right")
    for name in ("parameters", "training s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("when", no_wrap=True)
    for run in found.runs:
        table.add_row(*_cells(run, metric or run.metric, named=not title))
    console().print(table)


def _cells(run: RunRow, metric: str | None, *, named: bool) -> list[str]:
    from peftrec.evaluation.section import number

    values = []
    for measured in (run.valid, run.test):
        value = None if metric is None else measured.get(metric)
        values.append("-" if value is None else f"{metric} {number(value)}" if named else number(value))
    return [
        run.name,
        run.what,
        run.told,
        *values,
        "-" if run.parameters is None else f"{run.parameters:,}",
        "-" if run.seconds is None else f"{run.seconds:,.0f}",
        f"{run.when.astimezone():%Y-%m-%d %H:%M}",
    ]
