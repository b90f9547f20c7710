"""What all verbs share: a parser with examples, `--debug`, and overrides."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final

MOST_SECONDS: Final = 86_400.0
"""Processes that share a table wait so long for each other's parts of it."""
Run = Callable[[argparse.Namespace], None]


def add_verb(verbs: Any, name: str, run: Run, *, summary: str, description: str) -> argparse.ArgumentParser:
    """Add the parser of a verb.

    Args:
        verbs: what `add_subparsers` returned.
        name: as typed.
        run: is handed the parsed arguments.
        summary: one line for the list of verbs.
        description: shown by `--help`, line breaks kept; ends with examples.
    """
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback when something goes wrong")
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_overrides(parser: argparse.ArgumentParser, example: str) -> None:
    """Add `a.b=c` arguments, any number of them."""
    parser.add_argument(
        "overrides", nargs="*", metavar="a.b=c", help=f"set a value of the recipe by its dotted path, such as {example}"
    )


def positive(text: str) -> int:
    """Return a whole number from 1, as the type of an argument."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is too small; it must be at least 1")
    return value
