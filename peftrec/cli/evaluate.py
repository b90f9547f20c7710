"""`peftrec evaluate`: a run, measured again."""

from __future__ import annotations

import argparse
import json
from typing import Any

from peftrec.cli.verb import add_overrides, add_verb

_DESCRIPTION = """\
Rank the whole catalogue for every user of a split and print HR, NDCG and MRR with 95 % intervals over users, for the
run and for popularity and content_knn. Items of a user's history are left out; a target among them is a miss; ties
count against the model.

examples:
  peftrec evaluate runs/first
  peftrec evaluate runs/first --split valid evaluation.ks=[10,50]
  peftrec evaluate runs/first data.root=/path/to/data --json

Only data.* and evaluation.* can be overridden: the rest is what was trained.
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "evaluate", _run, summary="measure a run on its test cases", description=_DESCRIPTION)
    parser.add_argument("folder", metavar="RUN", help="run folder, such as runs/first")
    add_overrides(parser, "data.root=../data")
    parser.add_argument("--split", choices=("test", "valid"), default="test", help="which cases (default: test)")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.cli.table import print_results
    from peftrec.run import evaluate

    results = evaluate(arguments.folder, split=arguments.split, overrides=arguments.overrides)
    if arguments.json:
        print(json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_results(results, results)
