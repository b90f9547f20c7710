"""Charts as inline SVG; colours come from the page's style sheet, so that they fit light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

import numpy as np

from peftrec.data.distribution import Distribution

_WIDTH, _HEIGHT = 560, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 16, 38
_INNER_WIDTH, _INNER_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_MOST_LABELS = 7


def histogram(found: Distribution, *, things: str, mark: tuple[float, str] | None = None) -> str:
    """Bars over a quantity, each as wide as the others, whatever its bin spans.

    Args:
        found: what to draw.
        things: what is counted, such as `users`.
        mark: a value to draw a line at, and what to write beside it; left out where it lies beyond the bins.
    """
    edges = found.edges
    labels = [*(_compact(edge) for edge in edges[:-1]), _compact(edges[-1] - 1)]  # the largest value that there is
    titles = [_span(low, high) for low, high in pairwise(edges)]
    bars = _columns([found.counts], ["bar"], titles, things)
    single = edges[1] - edges[0] == 1 and edges[-1] - edges[-2] == 1
    axis = _labels(labels[:-1] if single else labels, centred=single, slots=len(found.counts))
    line = "" if mark is None else _mark(edges, *mark, single=single)
    widens = edges[-1] - edges[-2] > 2 * (edges[1] - edges[0])
    below = f"{found.name}{'; bins widen to the right' if widens else ''}"
    return _svg(f"{found.name}, {found.number:,} {things}", _grid(max(found.counts)) + bars + axis + line, below)


def timeline(edges: Sequence[int], train: Sequence[int], other: Sequence[int]) -> str:
    """Events over time, those for training below the others.

    Args:
        edges: of the bins, milliseconds since 1970.
        train: training events in each bin.
        other: the others.
    """
    form = "D" if edges[-1] - edges[0] > 40 * 86_400_000 else "m"
    moments = [str(np.datetime64(edge, "ms").astype(f"datetime64[{form}]")) for edge in edges]
    labels = [moment.replace("T", " ") for moment in moments]
    bars = _columns([train, other], ["bar", "held"], labels[:-1], "events")
    highest = max(low + high for low, high in zip(train, other, strict=True))
    axis = _labels(labels, centred=False, slots=len(train), most=4)
    return _svg("events over time", _grid(highest) + bars + axis, "")


def share_curve(points: Sequence[tuple[float, float]]) -> str:
    """The share of events that the most popular share of items has; the diagonal is where all are equally popular.

    Args:
        points: both shares, from 0 to 1, ascending.
    """
    place = [(_LEFT + x * _INNER_WIDTH, _TOP + (1 - y) * _INNER_HEIGHT) for x, y in points]
    path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in place)
    base = _TOP + _INNER_HEIGHT
    area = f'<path class="area" d="{path} L{_LEFT + _INNER_WIDTH} {base} L{_LEFT} {base} Z"/>'
    line = f'<path class="line" d="{path}"/>'
    equal = f'<path class="mark" d="M{_LEFT} {base} L{_LEFT + _INNER_WIDTH} {_TOP}"/>'
    labels = _labels([f"{share}%" for share in range(0, 101, 20)], centred=False, slots=5)
    grid = "".join(_gridline(share / 100, f"{share}%") for share in (0, 25, 50, 75, 100))
    return _svg("share of events by share of items", grid + area + equal + line + labels, "most popular items")


def _columns(stacks: Sequence[Sequence[int]], styles: Sequence[str], titles: Sequence[str], things: str) -> str:
    """Bars on top of each other; the hover text of each column tells what it counts."""
    highest = max(1, *(sum(column) for column in zip(*stacks, strict=True)))
    slot = _INNER_WIDTH / len(titles)
    gap = min(2.0, slot * 0.15)
    shown = []
    for number, (title, *heights) in enumerate(zip(titles, *stacks, strict=True)):
        base, rects = float(_TOP + _INNER_HEIGHT), ""
        for height, style in zip(heights, styles, strict=True):
            # What is there is seen, however little it is.
            size = max(1.0, height / highest * _INNER_HEIGHT) if height else 0.0
            base -= size
            x, width = _LEFT + number * slot + gap / 2, slot - gap
            rects += f'<rect class="{style}" x="{x:.1f}" y="{base:.1f}" width="{width:.1f}" height="{size:.1f}"/>'
        told = " + ".join(f"{height:,}" for height in heights)
        shown.append(f"<g><title>{escape(title)}: {told} {escape(things)}</title>{rects}</g>")
    return "".join(shown)


def _labels(labels: Sequence[str], *, centred: bool, slots: int, most: int = _MOST_LABELS) -> str:
    """Some of the labels below the axis: of bars in their middle, of edges where they lie."""
    step = max(1, -(-len(labels) // most))
    slot = _INNER_WIDTH / slots
    y = _TOP + _INNER_HEIGHT + 16
    shown = []
    for number in range(0, len(labels), step):
        x = _LEFT + (number + (0.5 if centred else 0.0)) * slot
        anchor = "middle" if number or centred else "start"
        anchor = "end" if number == len(labels) - 1 and not centred else anchor
        shown.append(f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(labels[number])}</text>')
    return "".join(shown)


def _grid(highest: int) -> str:
    return "".join(_gridline(count / highest, _compact(count)) for count in sorted({0, highest // 2, highest}))


def _gridline(share: float, label: str) -> str:
    y = _TOP + (1 - share) * _INNER_HEIGHT
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>'
    )


def _mark(edges: Sequence[float], value: float, text: str, *, single: bool) -> str:
    """A line at a value, which lies within its bin as far as the value does between the bin's edges."""
    value += single  # of whole numbers, behind the bar of the value itself
    if not edges[0] <= value <= edges[-1]:
        return ""
    slot = _INNER_WIDTH / (len(edges) - 1)
    x = _LEFT + float(np.interp(value, edges, np.arange(len(edges)))) * slot
    anchor, shift = ("end", -5) if x > _LEFT + _INNER_WIDTH * 0.7 else ("start", 5)
    return (
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{_TOP + _INNER_HEIGHT}"/>'
        f'<text class="marked" x="{x + shift:.1f}" y="{_TOP + 2}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _svg(title: str, content: str, below: str) -> str:
    caption = f'<text class="axis" x="{_LEFT + _INNER_WIDTH / 2:.0f}" y="{_HEIGHT - 5}" text-anchor="middle">'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{content}'
        f"{caption}{escape(below)}</text></svg>"
    )


def _span(low: float, high: float) -> str:
    """The whole numbers of a bin."""
    return f"{low:,.0f}" if high - low <= 1 else f"{low:,.0f} to {high - 1:,.0f}"


def _compact(value: float) -> str:
    """A number in few characters: 950, 1.2k, 35k, 4M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
