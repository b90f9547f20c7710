"""`peftrec encode`: vectors of a table of items."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from peftrec.cli.verb import MOST_SECONDS, add_verb, positive

_DESCRIPTION = """\
Encode a table of items (CSV, TSV, Parquet or JSON Lines) with the language model of a run, in constant memory. The
table has the column of ids that the run's data have (item_id) and those of its template, or a ready column text. Items
that the run was trained with get the run's own vectors; new ones those of their text. The folder holds Parquet shards
(item_id, vector) or vectors.npy and ids.npy, and encoding.json. A command that was stopped goes on where it was, and a
folder of another run or table is refused.

examples:
  peftrec encode runs/first items.parquet vectors/first
  peftrec encode runs/first items.csv vectors/first_npy --format npy
  peftrec encode runs/first items.jsonl vectors/first_text --what text --shard-items 10000
  accelerate launch --config_file recipes/accelerate/multi_gpu.yaml -m peftrec encode runs/first items.csv vectors/first
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "encode", _run, summary="write vectors of a table of items", description=_DESCRIPTION)
    parser.add_argument("run_folder", metavar="RUN", help="run folder, such as runs/first")
    parser.add_argument("items", metavar="ITEMS", help="table of items: .csv, .tsv, .parquet or .jsonl")
    parser.add_argument("folder", metavar="OUT", help="where to write; new, empty, or begun by the same command")
    parser.add_argument(
        "--what",
        choices=("item", "text"),
        default="item",
        help="item: vectors as the run's scorer takes them; text: of the language model alone (default: item)",
    )
    parser.add_argument(
        "--format", choices=("parquet", "npy"), default="parquet", help="shards, or one array (default: parquet)"
    )
    parser.add_argument("--shard-items", type=positive, default=50_000, help="rows a shard (default: 50000)")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.encoding import encode_items
    from peftrec.launch import launched

    ranks = launched(MOST_SECONDS)
    found = encode_items(
        arguments.run_folder,
        arguments.items,
        arguments.folder,
        what=arguments.what,
        form=arguments.format,
        shard_items=arguments.shard_items,
        report=lambda line: print(line, file=sys.stderr, flush=True),
        ranks=ranks,
    )
    if not ranks.is_first:
        return
    if arguments.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print(f"{arguments.folder}: {found['num_items']:,} vectors of {found['dim']} numbers")
    if found["num_without_text"]:
        print(f"{found['num_without_text']:,} rows have no text and no vector")
