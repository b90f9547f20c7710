"""Parts of HTML pages that need nothing beside them: style, cards, tables, escaped text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1d232b; --soft: #5d6773; --line: #e2e6eb;
  --bar: #3b6fd4; --held: #e0893b; --area: #3b6fd426; --warn: #fff4e3; --edge: #e0893b; }
@media (prefers-color-scheme: dark) { :root { --page: #14171c; --card: #1d2229; --ink: #e6eaf0; --soft: #98a3b0;
  --line: #313944; --bar: #6f9bf0; --held: #eba660; --area: #6f9bf033; --warn: #2c241a; --edge: #eba660; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 24px; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 18px; margin: 34px 0 12px; }
h3 { font-size: 14px; margin: 0 0 6px; } p { margin: 4px 0; } .soft { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(136px, 1fr)); gap: 12px; margin: 20px 0; }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.tile b { display: block; font-size: 21px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; }
.leaks { background: var(--warn); border-left: 4px solid var(--edge); border-radius: 6px; padding: 10px 14px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 470px), 1fr)); gap: 14px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { color: var(--soft); font-weight: 600; text-align: left; }
th, td { padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } .wide { min-width: 240px; }
.meter { background: var(--line); border-radius: 4px; height: 10px; min-width: 120px; margin-top: 6px; }
.meter i { display: block; height: 10px; border-radius: 4px; background: var(--bar); }
.key i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin: 0 5px 0 12px; }
.train { background: var(--bar); } .rest { background: var(--held); }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 11.5px; }
.bar { fill: var(--bar); } .held { fill: var(--held); } .grid { stroke: var(--line); }
.area { fill: var(--area); } .line { fill: none; stroke: var(--bar); stroke-width: 2.5; }
.mark { fill: none; stroke: var(--held); stroke-width: 1.5; stroke-dasharray: 5 4; } svg .marked { fill: var(--held); }
"""


def document(title: str, sections: Iterable[str]) -> str:
    """Return a whole HTML document.

    Args:
        title: of the page.
        sections: its content, HTML already.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f"{''.join(sections)}</main></body></html>\n"
    )


def card(title: str, content: str) -> str:
    """Return a card; the title is text, the content HTML."""
    return f'<div class="card"><h3>{escape(title)}</h3>{content}</div>'


def told(text: str) -> str:
    """Return a text of the data: escaped, and kept from turning around what stands beside it."""
    return f"<bdi>{escape(text)}</bdi>"


def table(names: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int]) -> str:
    """Return a table.

    Args:
        names: of the columns.
        rows: cells that are HTML already.
        numbers: places of the columns that hold numbers.
    """

    def row(cells: Sequence[str], tag: str) -> str:
        shown = (f"<{tag}{' class=n' if place in numbers else ''}>{cell}</{tag}>" for place, cell in enumerate(cells))
        return f"<tr>{''.join(shown)}</tr>"

    head = row([escape(name) for name in names], "th") if any(names) else ""
    return f"<table>{head}{''.join(row(cells, 'td') for cells in rows)}</table>"
