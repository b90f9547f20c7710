"""Texts, code and tables in Markdown, whatever characters they hold."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from peftrec.publishing.card.place import shown_name

# What Markdown, its tables, HTML and the Hub's formulas give a meaning to.
_SIGNS = re.compile(r"([\\`*_{}\[\]<>#~$|])")


def plain(text: str) -> str:
    """Return a text as Markdown shows it unchanged, on one line."""
    return _SIGNS.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;")


def code(text: str) -> str:
    """Return a text as code in a line, on one line, with as many backticks around it as it needs."""
    line = " ".join(text.split())
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{ticks}{space}{line}{space}{ticks}"


def block(language: str, text: str) -> str:
    """Return a text as a block of code."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{ticks}{language}\n{text}\n{ticks}"


def table(names: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return a table.

    Args:
        names: of the columns, in Markdown, as the cells are.
        rows: of cells.
        numbers: columns that are set to the right.
    """
    line = [" --: " if place in numbers else "---" for place in range(len(names))]
    return "\n".join([_row(names), "|" + "|".join(part.strip() for part in line) + "|", *(_row(row) for row in rows)])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", " ".join(cell.split())) for cell in cells) + " |"


def settings(section: Mapping[str, Any]) -> str:
    """Return the settings of a section of the recipe as code; of a path no more than its last part is shown."""
    told = ", ".join(f"{key}: {_value(value)}" for key, value in section.items())
    return code(told) if told else "-"


def _value(value: Any) -> str:
    if isinstance(value, str) and ("/" in value or "\\" in value):
        value = shown_name(value) or "..."
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
