"""`peftrec update`: a finished run goes on with what happened since."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from peftrec.cli.verb import add_overrides, add_verb

_DESCRIPTION = """\
Go on training a finished run with the events of a later table, and write a run folder of its own; RUN stays as it is.
Adapter, head and ids start from those of RUN. Histories go on from its data, targets are the new events alone. The last
parts of the new period validate and test; what the update gains there, and what it loses on the test cases of RUN, is
printed with 95 % intervals over users and stored in metrics.json.

EVENTS and ITEMS have the columns that the recipe of RUN reads, under the same names. No event may be earlier than the
last one of the data of RUN. If no epoch is better than RUN as it is, nothing is written (exit code 1).

examples:
  peftrec update runs/may june.csv --output runs/june
  peftrec update runs/may june.parquet --items new_items.csv --replay 0.2 --output runs/june
  peftrec update runs/june july.csv --output runs/july training.num_epochs=3 optimizer.head_learning_rate=5e-4

Only training.*, optimizer.*, evaluation.* and data.* can be overridden: the rest is what was trained.
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "update", _run, summary="go on with a run on later events", description=_DESCRIPTION)
    parser.add_argument("folder", metavar="RUN", help="run folder, such as runs/first")
    parser.add_argument("events", metavar="EVENTS", help="table of later events: CSV, TSV, Parquet or JSON Lines")
    add_overrides(parser, "training.num_epochs=3")
    parser.add_argument("--items", metavar="ITEMS", help="table of new items with their texts")
    parser.add_argument("--output", required=True, metavar="DIR", help="run folder of the updated run")
    parser.add_argument(
        "--replay",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="chance with which an earlier training event is a target once more in an epoch, 0 to 1 (default: 0)",
    )
    parser.add_argument(
        "--valid", type=float, default=0.1, metavar="SHARE", help="share of the new events that validates (0.1)"
    )
    parser.add_argument(
        "--test", type=float, default=0.1, metavar="SHARE", help="share of the new events, the last, that tests (0.1)"
    )
    parser.add_argument("--force", action="store_true", help="write it even if no epoch is better than RUN as it is")
    parser.add_argument("--overwrite", action="store_true", help="replace a run that DIR already holds")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.config import RecipeError
    from peftrec.data import LaterPeriod
    from peftrec.training import TrainingStopped
    from peftrec.updating import update

    try:
        period = LaterPeriod(valid_fraction=arguments.valid, test_fraction=arguments.test, replay=arguments.replay)
    except ValueError as error:
        raise RecipeError(f"--valid, --test, --replay: {error}") from None
    try:
        metrics = update(
            arguments.folder,
            arguments.events,
            output=arguments.output,
            items=arguments.items,
            period=period,
            overrides=arguments.overrides,
            force=arguments.force,
            overwrite=arguments.overwrite,
            report=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except TrainingStopped:
        print("stopped by SIGTERM; nothing was written, and RUN is as it was", file=sys.stderr)
        raise
    if arguments.json:
        print(json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False))
        return

    from peftrec.cli.table import print_results

    print_results(metrics["test"], metrics)
    _print_change(metrics["update"])


def _print_change(update: Mapping[str, Any]) -> None:
    """Print what the update has changed in the new period and in the old one."""
    from rich import box
    from rich.table import Table

    from peftrec.cli.table import console

    title = "before and after the update, on the same test cases; 95 % intervals of the change over users"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("period", "metric"):
        table.add_column(column, no_wrap=True)
    for column in ("cases", "before", "after", "change", "interval"):
        table.add_column(column, justify="right", no_wrap=True)
    for key, name in (("new_period", "new"), ("old_period", "old")):
        for metric, row in update[key]["changes"].items():
            low, high = row["interval"]
            cells = (f"{row['before']:.4f}", f"{row['after']:.4f}", f"{row['change']:+.4f}")
            table.add_row(
                name,
                metric.upper(),
                f"{update[key]['num_cases']:,}",
                *cells,
                f"[{low:+.4f}, {high:+.4f}]".replace("[", r"\["),
            )
    console().print(table)
