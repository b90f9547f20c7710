"""`peftrec recommend`: a list for one history."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from peftrec.cli.verb import add_verb

_DESCRIPTION = """\
Print the best items for one history: rank, score, id, title. Scores can be compared within a list, not between lists.

examples:
  peftrec recommend runs/first --history 50,181,172
  peftrec recommend runs/first --history 50,181,172 --k 3 --json
  peftrec recommend runs/first --history ""           # a new user: the most popular items
  peftrec recommend runs/shop --history 50,181 --events view,purchase --attributes "31 years, teacher"
  peftrec recommend runs/timed --history 50,181 --times 881250949,881251200
  peftrec recommend runs/shop --history 50,181 --user-attributes '{"age": 31, "occupation": "teacher"}'
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "recommend", _run, summary="recommend items for a history", description=_DESCRIPTION)
    parser.add_argument("folder", metavar="RUN", help="run folder, such as runs/first")
    parser.add_argument(
        "--history",
        required=True,
        type=_ids,
        metavar="ID,ID,...",
        help="item ids as in the item table, oldest first; '--history=-5,3' where the first begins with a dash",
    )
    parser.add_argument(
        "--events", type=_ids, metavar="KIND,KIND,...", help="kind of each event, where the run reads them"
    )
    parser.add_argument(
        "--times", type=_ids, metavar="TIME,TIME,...", help="when each event happened, where the run reads it"
    )
    parser.add_argument(
        "--attributes", metavar="TEXT", help="the user's text as data.user_template writes it, where the run reads it"
    )
    parser.add_argument(
        "--user-attributes",
        type=_columns,
        metavar="JSON",
        help="columns of data.user_attributes to the user's values, where the run reads them",
    )
    parser.add_argument("--k", type=_positive, default=10, help="length of the list (default: 10)")
    parser.add_argument("--keep-history", action="store_true", help="items of the history may come back in the list")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.cli.table import print_recommendations
    from peftrec.recommender import Recommender
    from peftrec.retrieval import describe

    recommender = Recommender.from_pretrained(arguments.folder)
    if not arguments.history and not arguments.attributes and not arguments.user_attributes:
        print("no history: these are the items with the most training events", file=sys.stderr)
    found = recommender.recommend(
        arguments.history,
        arguments.k,
        exclude_history=not arguments.keep_history,
        attributes=arguments.attributes,
        events=arguments.events,
        times=arguments.times,
        user_attributes=arguments.user_attributes,
    )
    if arguments.json:
        print(json.dumps(describe(found), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_recommendations(found)


def _ids(text: str) -> list[str]:
    if not text.strip():
        return []
    ids = [item.strip() for item in text.split(",")]
    if "" in ids:
        raise argparse.ArgumentTypeError(f"'{text}' has an empty place; write ids with one comma between them")
    return ids


def _columns(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise argparse.ArgumentTypeError(f"'{text}' is no JSON object such as {{\"age\": 31}}")
    return values


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is too small; a list has at least 1 item")
    return value
