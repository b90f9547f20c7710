"""`python -m peftrec.benchmark.scale`: tables of bytes, operations and traffic, printed or written to a document."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from peftrec.benchmark.scale.document import DOCUMENT, rewrite
from peftrec.benchmark.scale.table import TABLES
from peftrec.config import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Print all tables, or renew those of a document, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m peftrec.benchmark.scale", description=__doc__)
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help=f"renew the tables of this document ({DOCUMENT}); print nothing"
    )
    arguments = parser.parse_args(argv)
    if arguments.write is None:
        for name, table in TABLES.items():
            sys.stdout.write(f"{name}\n\n{table()}\n\n")
        return 0
    try:
        rewrite(arguments.write)
    except InputError as error:
        sys.stderr.write(f"scale: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
