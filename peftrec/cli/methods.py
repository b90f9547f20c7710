"""`peftrec methods`: what there is, and how large each is on a backbone."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from peftrec.cli.verb import add_verb

if TYPE_CHECKING:
    from peftrec.encoders import MethodRow

_DESCRIPTION = """\
List the methods that method.kind offers: what each changes, and whether it can be merged into the backbone, work with
gradient checkpointing, be limited to the top k layers, or stand on a quantised backbone. With a backbone, count the
parameters that each trains there with its default settings, and say which methods refuse it, and why.

examples:
  peftrec methods
  peftrec methods --backbone sentence-transformers/all-MiniLM-L6-v2
  peftrec methods --backbone Qwen/Qwen3-0.6B --json
"""
_COLUMNS = (
    "method",
    "what it changes",
    "parameters",
    "merge",
    "checkpointing",
    "works on",
    "layers",
    "quantised",
    "source",
)
_LONG = ("what it changes", "source")


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "methods", _run, summary="list the methods there are", description=_DESCRIPTION)
    parser.add_argument("--backbone", metavar="NAME", help="Hub id or folder; count parameters on it")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    form.add_argument("--markdown", action="store_true", help="print a Markdown table and nothing else")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.encoders import method_table

    rows = method_table(arguments.backbone)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2, ensure_ascii=False))
    elif arguments.markdown:
        print(markdown(rows))
    else:
        _print(rows)


def markdown(rows: list[MethodRow]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(row)) + " |" for row in rows]
    return "\n".join(lines)


def _print(rows: list[MethodRow]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # Long cells would leave no room for the others on a terminal: what each changes stands below.
    counted = any(row.parameters is not None for row in rows)
    left_out = _LONG if counted else (*_LONG, "parameters")
    table = Table(box=box.SIMPLE_HEAD)
    for name in _COLUMNS:
        if name not in left_out:
            table.add_column(name, no_wrap=True)
    for row in rows:
        cells = zip(_COLUMNS, _cells(row), strict=True)
        table.add_row(*(cell for name, cell in cells if name not in left_out))
    console = Console()
    console.print(table)
    for row in rows:
        line = f"refused: {row.refusal}" if row.refusal else row.changes
        formula = "" if counted else f" Parameters: {row.formula}."
        source = f" Source: {row.source}." if row.source else ""
        console.print(f"{row.kind}: {line}.{formula}{source}", markup=False, highlight=False, soft_wrap=True)


def _cells(row: MethodRow) -> tuple[str, ...]:
    parameters = "-" if row.parameters is None else f"{row.parameters:,}"
    return (
        row.kind,
        row.changes,
        "refused" if row.refusal else parameters,
        _yes(row.merge),
        _yes(row.checkpointing),
        "both" if len(row.works_on) == 2 else row.works_on[0],
        "top k" if row.layers else "all",
        _yes(row.quantized),
        row.source,
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"
