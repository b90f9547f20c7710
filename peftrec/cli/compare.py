"""`peftrec compare`: two runs, tested on the same users."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from peftrec.cli.verb import add_verb

_DESCRIPTION = """\
Test whether two runs differ, user by user: mean difference of every metric, its 95 % bootstrap interval, and the
two-sided p-value of a sign-flip permutation test. Both runs must have been evaluated on the same users, targets and
rules. No data and no language model are opened.

examples:
  peftrec compare runs/ml100k/minilm_lora runs/ml100k/minilm_frozen
  peftrec compare runs/a runs/b --split valid --json
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "compare", _run, summary="test two runs on the same users", description=_DESCRIPTION)
    parser.add_argument("first", metavar="RUN", help="run folder")
    parser.add_argument("second", metavar="OTHER", help="run folder that it is compared with")
    parser.add_argument("--split", choices=("test", "valid"), default="test", help="which cases (default: test)")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.cli.table import print_comparison
    from peftrec.run import compare

    tests = compare(arguments.first, arguments.second, split=arguments.split)
    if arguments.json:
        document = {
            "first": arguments.first,
            "second": arguments.second,
            "split": arguments.split,
            "tests": [dataclasses.asdict(test) for test in tests],
        }
        print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_comparison(tests, arguments.first, arguments.second, arguments.split)
