"""`peftrec report`: the results of a benchmark suite, as tables, plots and text."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from peftrec.cli.verb import add_verb

_DESCRIPTION = """\
Read the results of a benchmark suite, a JSON file a run with the ranks of its test cases beside it, and write
REPORT.md, report.html (one page that needs nothing beside it) and plots. Everything in them comes from these files.

Files that are broken, foreign, or claim the same run as another are named and left out; the rest is reported, and the
exit code is 1. Runs that are recorded as failed are named too, and are no error.

examples:
  peftrec report benchmarks/results/smoke
  peftrec report benchmarks/results/cpu --output reports/cpu
  peftrec report benchmarks/results/cpu --readme README.md    # rewrites the block between its two marks
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "report", _run, summary="tables and plots of a benchmark suite", description=_DESCRIPTION)
    parser.add_argument("folder", metavar="FOLDER", help="with the results of one suite")
    parser.add_argument("--output", metavar="FOLDER", help="write there, and not into the folder of the results")
    parser.add_argument(
        "--readme", metavar="FILE", help="rewrite its block between <!-- benchmark:begin --> and <!-- benchmark:end -->"
    )


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.benchmark.report.writing import write_report
    from peftrec.config import InputError

    written = write_report(arguments.folder, output=arguments.output, readme=arguments.readme)
    for entry in written.left_out:
        print(f"left out: {entry.name}: {entry.reason}", file=sys.stderr)
    print(f"{written.num_runs} runs reported, {len(written.left_out)} left out")
    print(f"written: {', '.join(map(str, written.files))}")
    if written.refused:
        raise InputError(f"{len(written.refused)} of the files in {arguments.folder} were refused, see above")
