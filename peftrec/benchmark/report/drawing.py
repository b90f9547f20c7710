"""How plots of a report look, and how they become files whose bytes depend on nothing but what is drawn."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from peftrec.config import InputError
from peftrec.evaluation.plot import COLOURS

WIDTH, HEIGHT = 8.4, 5.0
INK, SOFT, LINE = "#1d232b", "#5d6773", "#dfe3e8"
DASHES: Final = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
_STYLE: Final = {
    "font.size": 10.5,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "svg.fonttype": "path",
    # A label may have dollars in it.
    "text.parse_math": False,
}


@contextmanager
def figure(name: str, **shape: Any) -> Iterator[tuple[Any, Any]]:
    """Give a figure and its panels, drawn in the style of reports, and close it afterwards.

    Args:
        name: of the plot; identifiers inside of its SVG are made from it.
        shape: of `matplotlib.pyplot.subplots`.
    Raises:
        InputError: if matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise InputError("a report draws its plots with matplotlib; pip install 'peftrec[benchmark]'") from None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        size = shape.pop("figsize", (WIDTH, HEIGHT))
        drawn = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn, drawn.subplots(**shape)


def look(place: int) -> dict[str, Any]:
    """Return colour and dashes of the series at a place: told apart without colours too, up to 24 of them."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place // len(COLOURS) % len(DASHES)]}


def svg_of(drawn: Any) -> str:
    """Return a figure as an SVG that names nothing outside itself, neither a date nor a version."""
    text = io.StringIO()
    drawn.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    whole = text.getvalue()
    return re.sub(r"<metadata>.*?</metadata>\s*", "", whole[whole.index("<svg") :], flags=re.DOTALL)


def png_of(drawn: Any) -> bytes:
    """Return a figure as a PNG of twice the width of a README's column."""
    content = io.BytesIO()
    drawn.savefig(content, format="png", dpi=200, metadata={"Software": None})
    return content.getvalue()


def embedded(svg: str, name: str) -> str:
    """Return an SVG that can stand in a page beside others: its identifiers are its own.

    Args:
        svg: the file.
        name: of the plot, put before each identifier.
    """
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    # Its size is the page's matter, but for what letters need, and so is the style of everything else on it.
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    head, rest = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f'{head} role="img" style="stroke-linejoin:round;background:#fff;min-width:600px">{rest}'
