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
    from rich.console import Console
    from rich.table import Table

    # The source is for documents; on a terminal it would leave no room for the rest.
    table = Table(*_COLUMNS[:-1])
    for row in rows:
        table.add_row(*_cells(row)[:-1])
    console = Console()
    console.print(table)
    for row in rows:
        if row.refusal:
            console.print(f"{row.kind}: {row.refusal}", markup=False, highlight=False)


def _cells(row: MethodRow) -> tuple[str, ...]:
    parameters = row.formula if row.parameters is None else f"{row.parameters:,}"
    return (
        row.kind,
        row.changes,
        "refused" if row.refusal else parameters,
        _yes(row.merge),
        _yes(row.checkpointing),
        ", ".join(row.works_on),
        "top k" if row.layers else "all",
        _yes(row.quantized),
        row.source,
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"
