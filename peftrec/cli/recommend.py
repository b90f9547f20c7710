"""`peftrec recommend`: a list for one history."""

from __future__ import annotations

import argparse
import json
from typing import Any

from peftrec.cli.verb import add_verb

_DESCRIPTION = """\
Print the best items for one history: rank, score, id, title. Scores can be compared within a list, not between lists.

examples:
  peftrec recommend runs/first --history 50,181,172
  peftrec recommend runs/first --history 50,181,172 --k 3 --json
  peftrec recommend runs/first --history ""           # a new user: the most popular items
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "recommend", _run, summary="recommend items for a history", description=_DESCRIPTION)
    parser.add_argument("folder", metavar="RUN", help="run folder, such as runs/first")
    parser.add_argument(
        "--history", required=True, metavar="ID,ID,...", help="item ids as in the item table, oldest first"
    )
    parser.add_argument("--k", type=_positive, default=10, help="length of the list (default: 10)")
    parser.add_argument("--keep-history", action="store_true", help="items of the history may come back in the list")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.cli.table import print_recommendations
    from peftrec.recommender import Recommender, describe

    history = [item.strip() for item in arguments.history.split(",") if item.strip()]
    recommender = Recommender.from_pretrained(arguments.folder)
    found = recommender.recommend(history, arguments.k, exclude_history=not arguments.keep_history)
    if arguments.json:
        print(json.dumps(describe(found), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_recommendations(found)


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is too small; a list has at least 1 item")
    return value
