"""The document whose tables are written here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from peftrec.benchmark.scale.table import TABLES
from peftrec.config import InputError
from peftrec.publishing import replace_text

DOCUMENT: Final = Path("docs/scale.md")
_BLOCK: Final = re.compile(r"<!-- scale:begin (\w+) -->\n.*?<!-- scale:end -->", re.DOTALL)


def rewritten(text: str, name: str) -> str:
    """Return a document with its tables as the formulas give them now; what stands around them stays.

    Args:
        text: of the document; each table stands between `<!-- scale:begin NAME -->` and `<!-- scale:end -->`.
        name: of the file, for messages.
    Raises:
        InputError: if a table is missing, unknown or there twice, or a mark has no partner.
    """
    found = [match.group(1) for match in _BLOCK.finditer(text)]
    if sorted(found) != sorted(TABLES) or text.count("<!-- scale:") != 2 * len(found):
        raise InputError(
            f"{name}: must hold each table once between <!-- scale:begin NAME --> and <!-- scale:end -->: "
            f"{', '.join(TABLES)}; there are {', '.join(found) or 'none'}; nothing was written"
        )
    return _BLOCK.sub(
        lambda match: f"<!-- scale:begin {match.group(1)} -->\n{TABLES[match.group(1)]()}\n<!-- scale:end -->", text
    )


def rewrite(path: Path) -> None:
    """Renew the tables of a document in its place.

    Raises:
        InputError: if it cannot be read, or does not hold each table once.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    replace_text(path, rewritten(text, str(path)))
