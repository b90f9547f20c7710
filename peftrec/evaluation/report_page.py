"""A report as one HTML page that needs nothing beside it, and as Markdown with its plots as files."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from peftrec.data.html import card, document, table, told
from peftrec.evaluation.plot import STYLE as PLOT_STYLE
from peftrec.evaluation.plot import joined, standalone
from peftrec.evaluation.section import Plot, Section, Table, plots_of

# Where a screen is narrow, plots and tables are scrolled, and the names of rows stay. Long names of models are broken,
# so that they do not widen their columns.
_STYLE: Final = """
.part { margin-top: 14px; } .plot { min-width: 420px; max-width: 760px; }
.scroll td:first-child, .scroll th:first-child { position: sticky; left: 0; background: var(--card); z-index: 1;
  min-width: 100px; }
th { vertical-align: bottom; } th.n { white-space: normal; overflow-wrap: break-word; max-width: 160px; }
"""


def report_page(found: Sequence[Section], title: str) -> str:
    """Return a whole HTML document; every text of the data in it is escaped.

    Args:
        found: the sections.
        title: of the page.
    """
    shown = [f"<style>{PLOT_STYLE}{_STYLE}</style><h1>{told(title)}</h1>"]
    for section in found:
        notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in section.notes)
        parts = "".join(_part(part) for part in section.parts)
        shown.append(f"<h2>{escape(section.title)}</h2>{notes}{parts}")
    return document(title, shown)


def _part(part: Table | Plot) -> str:
    if isinstance(part, Plot):
        drawn = f'<div class="plot">{part.legend}{part.svg}</div>'
        return f'<div class="part">{card(part.told, f"""<div class="scroll">{drawn}</div>""")}</div>'
    numbers = tuple(place for place in range(len(part.names)) if place not in part.texts)
    rows = [[told(cell) for cell in row] for row in part.rows]
    return f'<div class="card scroll part">{table(part.names, rows, numbers=numbers)}</div>'


def report_markdown(found: Sequence[Section], title: str, folder: str) -> str:
    """Return Markdown.

    Args:
        found: the sections.
        title: the headline.
        folder: where the plots of `plot_files` lie, seen from the file.
    """
    lines = [f"# {_cell(title)}", ""]
    for section in found:
        lines += [f"## {section.title}", ""]
        lines += [line for note in section.notes for line in (_cell(note), "")]
        for part in section.parts:
            if isinstance(part, Plot):
                lines += [f"![{part.told}]({folder}/{part.name}.svg)", ""]
                continue
            lines.append(f"| {' | '.join(_cell(name) for name in part.names)} |")
            marks = ("---" if place in part.texts else "---:" for place in range(len(part.names)))
            lines.append(f"| {' | '.join(marks)} |")
            lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in part.rows]
            lines.append("")
    return "\n".join(lines)


def plot_files(found: Sequence[Section]) -> dict[str, str]:
    """Return the plots as files, by name; the legend is part of each."""
    return {f"{plot.name}.svg": standalone(joined(plot.legend, plot.svg)) for plot in plots_of(found)}


def _cell(text: str) -> str:
    """Keep a text of the data from being read as Markdown or HTML."""
    safe = escape(text, quote=False).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("\r", " ")
    return "".join(f"\\{letter}" if letter in "`*_[]#!" else letter for letter in safe)
