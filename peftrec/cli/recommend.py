"""`peftrec recommend`: a list for one history, or for every user of a table."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from peftrec.cli.verb import MOST_SECONDS, add_verb, positive

if TYPE_CHECKING:
    from peftrec.recommender import Recommender

_DESCRIPTION = """\
Print the best items for one history: rank, score, id, title. Scores can be compared within a list, not between lists.

With --histories, write a list for every user of a table (CSV, TSV, Parquet or JSON Lines) in constant memory. The table
has the column of users that the run's data have (user_id) and `history`: item ids, oldest first, as a list or as text
with commas between them; where the run reads them also `events`, `times` (likewise), `attributes` and the columns of
data.user_attributes. The output, .parquet or .jsonl, has one row an entry: user_id, rank, score, item_id, title.

examples:
  peftrec recommend runs/first --history 50,181,172
  peftrec recommend runs/first --history 50,181,172 --k 3 --json
  peftrec recommend runs/first --history 50,181,172 --explain --words
  peftrec recommend runs/first --history ""           # a new user: the most popular items
  peftrec recommend runs/shop --history 50,181 --events view,purchase --attributes "31 years, teacher"
  peftrec recommend runs/timed --history 50,181 --times 881250949,881251200
  peftrec recommend runs/shop --history 50,181 --user-attributes '{"age": 31, "occupation": "teacher"}'
  peftrec recommend runs/first --histories users.parquet --output lists.parquet --k 20
  accelerate launch --config_file recipes/accelerate/multi_gpu.yaml -m peftrec recommend runs/first \\
    --histories users.parquet --output lists.parquet
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "recommend", _run, summary="recommend items for a history", description=_DESCRIPTION)
    parser.add_argument("folder", metavar="RUN", help="run folder, such as runs/first")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument(
        "--history",
        type=_ids,
        metavar="ID,ID,...",
        help="item ids as in the item table, oldest first; '--history=-5,3' where the first begins with a dash",
    )
    asked.add_argument("--histories", metavar="FILE", help="table of users and histories; needs --output")
    parser.add_argument("--output", metavar="FILE", help="where to write the lists of --histories: .parquet or .jsonl")
    parser.add_argument("--overwrite", action="store_true", help="replace --output where it is there")
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
    parser.add_argument("--k", type=positive, default=10, help="length of the list (default: 10)")
    parser.add_argument("--keep-history", action="store_true", help="items of the history may come back in the list")
    parser.add_argument("--explain", action="store_true", help="say why: which events of the history carry each item")
    parser.add_argument("--words", action="store_true", help="with --explain, also which words of its text")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _run(arguments: argparse.Namespace) -> None:
    if arguments.words and not arguments.explain:
        arguments.parser.error("--words goes with --explain")
    if arguments.histories is not None or arguments.output is not None or arguments.overwrite:
        _run_file(arguments)
        return
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
    reasons = _reasons(recommender, arguments, [entry.item_id for entry in found]) if arguments.explain else None
    if arguments.json:
        rows = describe(found)
        for row, reason in zip(rows, reasons or (), strict=reasons is not None):
            row["explanation"] = reason
        print(json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False))
        return
    print_recommendations(found)
    for entry, reason in zip(found, reasons or (), strict=reasons is not None):
        print(f"{entry.rank}. {reason['sentence']}")


def _reasons(recommender: Recommender, arguments: argparse.Namespace, item_ids: list[str]) -> list[dict[str, Any]]:
    """Return the explanation of each item of the list."""
    from peftrec.explaining import describe_explanations

    return describe_explanations(
        recommender.explain(
            arguments.history,
            item_ids,
            words=arguments.words,
            attributes=arguments.attributes,
            events=arguments.events,
            times=arguments.times,
            user_attributes=arguments.user_attributes,
        )
    )


def _run_file(arguments: argparse.Namespace) -> None:
    if arguments.histories is None or arguments.output is None:
        arguments.parser.error("--histories FILE and --output FILE go together; --overwrite with them")
    if arguments.explain:
        arguments.parser.error("--explain is of one history; with --histories there are none")
    for name in ("events", "times", "attributes", "user_attributes"):
        if getattr(arguments, name) is not None:
            columns = f"{name} is a column" if name != "user_attributes" else "attributes of users are columns"
            arguments.parser.error(
                f"--{name.replace('_', '-')} is of one history; with --histories, {columns} of the table"
            )
    from peftrec.launch import launched
    from peftrec.recommending import recommend_file

    ranks = launched(MOST_SECONDS)
    counts = recommend_file(
        arguments.folder,
        arguments.histories,
        arguments.output,
        arguments.k,
        exclude_history=not arguments.keep_history,
        overwrite=arguments.overwrite,
        report=lambda line: print(line, file=sys.stderr, flush=True),
        ranks=ranks,
    )
    if not ranks.is_first:
        return
    if arguments.json:
        print(json.dumps({"output": arguments.output, **counts}, indent=2, ensure_ascii=False))
        return
    print(f"{arguments.output}: {counts['rows']:,} entries for {counts['users']:,} users")
    if counts["without_history"]:
        found = f"{counts['without_history']:,} users without history get the items with the most training events"
        print(f"{found}, unless their attributes are known")


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
