"""`peftrec compare`: runs, tested on the same users."""

from __future__ import annotations

import argparse
import json
from typing import Any

from peftrec.cli.verb import add_verb

_DESCRIPTION = """\
Test whether runs differ, user by user: the first against each of the others. For each metric the mean difference, its
interval, the two-sided p-value of a sign-flip permutation test, and that value after Holm's correction over the whole
table. All runs must have been evaluated on the same users, targets and rules. No data and no language model are opened.

Compared are the metrics of ranks that the recipes ask for (evaluation.metrics); others where --metric names them.

Several seeds of one recipe count as one run: separate their folders with commas, or write a quoted pattern. The
interval is then of users and seeds.

examples:
  peftrec compare runs/ml100k/minilm_lora runs/ml100k/minilm_frozen
  peftrec compare runs/a runs/b runs/c --metric ndcg@10 --metric hr@10
  peftrec compare 'runs/lora_seed_*' runs/frozen_seed_0,runs/frozen_seed_1,runs/frozen_seed_2
  peftrec compare runs/a runs/b --split valid --level 0.99 --json
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "compare", _run, summary="test runs on the same users", description=_DESCRIPTION)
    parser.add_argument("first", metavar="RUN", help="run folder; or folders of several seeds, see above")
    parser.add_argument("others", metavar="OTHER", nargs="+", help="what it is compared with, of the same kind")
    parser.add_argument("--split", choices=("test", "valid"), default="test", help="which cases (default: test)")
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="KEY",
        help="compare this one, such as ndcg@10 or novelty@10; repeatable",
    )
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals (default: 0.95)")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.cli.comparison_table import print_comparison
    from peftrec.comparing import compare

    found = compare(
        arguments.first, *arguments.others, split=arguments.split, metrics=arguments.metric, level=arguments.level
    )
    if arguments.json:
        print(json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_comparison(found)
