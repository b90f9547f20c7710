"""`peftrec evaluate`: a run, measured again."""

from __future__ import annotations

import argparse
import json
from typing import Any

from peftrec.cli.verb import MOST_SECONDS, add_overrides, add_verb

_DESCRIPTION = """\
Rank the whole catalogue for every user of a split and print HR, NDCG and MRR with 95 % intervals over users, and what
the lists are like (novelty, diversity, coverage, ...), for the run and for popularity and content_knn. Items of a
user's history are left out; a target among them is a miss; ties count against the model.

Into the run folder go metrics.json (with slices, gaps between groups and curves), a report as one HTML page and as
Markdown, and into its private/ the results of single users. With other data or rules than the run's own, --output names
the folder to write to.

examples:
  peftrec evaluate runs/first
  peftrec evaluate runs/first --split valid evaluation.ks=[10,50] --output reports/first
  peftrec evaluate runs/first data.root=/path/to/data --json
  accelerate launch --config_file recipes/accelerate/multi_gpu.yaml -m peftrec evaluate runs/first

Only data.* and evaluation.* can be overridden: the rest is what was trained.
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "evaluate", _run, summary="measure a run on its test cases", description=_DESCRIPTION)
    parser.add_argument("folder", metavar="RUN", help="run folder, such as runs/first")
    add_overrides(parser, "data.root=../data")
    parser.add_argument("--split", choices=("test", "valid"), default="test", help="which cases (default: test)")
    parser.add_argument("--output", metavar="FOLDER", help="write there, and not into the run folder")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.cli.table import console, print_lists, print_results
    from peftrec.launch import launched
    from peftrec.reporting import report

    ranks = launched(MOST_SECONDS)
    results = report(
        arguments.folder, split=arguments.split, overrides=arguments.overrides, output=arguments.output, ranks=ranks
    )
    if not ranks.is_first:
        return
    if arguments.json:
        print(json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False))
        return
    print_results(results, results)
    print_lists(results)
    pages = [name for name in results["written"] if name.endswith((".html", ".md", ".json"))]
    told = f"written: {', '.join(pages)}" if pages else "nothing was written (see --output)"
    console().print(told, soft_wrap=True)
