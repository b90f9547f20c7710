"""Plots of an evaluation as SVG; colours come from the page's style sheet where there is one.

Every series has a colour and a mark of its own, so that they are told apart without colours too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from math import ceil, floor, log10
from typing import Final

COLOURS: Final = ("#3b6fd4", "#e0893b", "#3a9a6b", "#a656b8", "#c0484e", "#6b7684")
STYLE: Final = """
svg .grid { stroke: var(--line, #dfe3e8); } svg text { fill: var(--soft, #5d6773); font: 11.5px system-ui, sans-serif; }
svg .even { stroke: var(--soft, #5d6773); stroke-dasharray: 5 4; fill: none; }
"""
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 58, 20, 12, 40
_ROW = 14


@dataclasses.dataclass(frozen=True)
class Interval:
    """A value with the ends of its interval; None where it has none."""

    value: float
    low: float | None = None
    high: float | None = None


def intervals_by_bin(
    bins: Sequence[str], series: Mapping[str, Sequence[Interval | None]], *, below: str, beside: str
) -> str:
    """Draw lines over bins, with whiskers for intervals.

    Args:
        bins: what each is called.
        series: for each model a value a bin; None draws nothing there.
        below: what the bins are of.
        beside: what the values are.
    """
    height = 250
    ticks = _ticks(series)
    top = ticks[-1]
    inner, tall = _WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    slot = inner / max(1, len(bins))

    def place(number: int, offset: float, value: float) -> tuple[float, float]:
        return _LEFT + (number + 0.5 + offset) * slot, _TOP + (1 - value / top) * tall

    drawn = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_TOP + (1 - tick / top) * tall:.1f}" '
        f'y2="{_TOP + (1 - tick / top) * tall:.1f}"/><text x="{_LEFT - 6}" '
        f'y="{_TOP + (1 - tick / top) * tall + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in ticks
    )
    step = max(1, -(-len(bins) // 9))
    drawn += "".join(
        f'<text x="{_LEFT + (number + 0.5) * slot:.1f}" y="{height - _BOTTOM + 16}" text-anchor="middle">'
        f"{_text(bins[number])}</text>"
        for number in range(0, len(bins), step)
    )
    for index, (name, values) in enumerate(series.items()):
        # Beside each other, so that whiskers do not cover one another.
        offset = (index - (len(series) - 1) / 2) * min(0.12, 0.6 / max(1, len(series)))
        points = [(*place(n, offset, entry.value), entry) for n, entry in enumerate(values) if entry is not None]
        colour = _colour(index)
        path = " ".join(
            f'<line x1="{one[0]:.1f}" y1="{one[1]:.1f}" x2="{two[0]:.1f}" y2="{two[1]:.1f}" style="stroke:{colour}" '
            f'stroke-width="1.5"/>'
            for one, two in pairwise(points)
        )
        drawn += path
        for number, entry in enumerate(values):
            if entry is None:
                continue
            x, y = place(number, offset, entry.value)
            if entry.low is not None and entry.high is not None:
                low, high = place(number, offset, entry.low)[1], place(number, offset, entry.high)[1]
                drawn += (
                    f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" style="stroke:{colour}" '
                    f'opacity=".55"/>'
                )
            told = f"{name}, {bins[number]}: {_told(entry)}"
            drawn += f"<g><title>{_text(told)}</title>{_mark(index, x, y)}</g>"
    return _svg(f"{beside} by {below}", drawn, height, below)


def intervals_by_row(
    rows: Sequence[tuple[str, str]], series: Mapping[str, Sequence[Interval | None]], *, below: str
) -> str:
    """Draw values with whiskers, a group of lines for each row.

    Args:
        rows: kind and name of each; the kind is written above the first row of it.
        series: for each model a value a row; None draws nothing there.
        below: what the values are.
    """
    left = 200
    kinds = [kind for number, (kind, _) in enumerate(rows) if not number or rows[number - 1][0] != kind]
    block = 6 + 9 * len(series)
    height = int(_TOP + len(kinds) * (_ROW + 10) + len(rows) * block + _BOTTOM)
    ticks = _ticks(series)
    top = ticks[-1]
    inner = _WIDTH - left - _RIGHT

    def across(value: float) -> float:
        return left + value / top * inner

    base = height - _BOTTOM
    drawn = "".join(
        f'<line class="grid" x1="{across(tick):.1f}" x2="{across(tick):.1f}" y1="{_TOP}" y2="{base}"/>'
        f'<text x="{across(tick):.1f}" y="{base + 16}" text-anchor="middle">{tick:g}</text>'
        for tick in ticks
    )
    y = float(_TOP)
    for number, (kind, name) in enumerate(rows):
        if not number or rows[number - 1][0] != kind:
            y += _ROW + 10
            drawn += f'<text x="8" y="{y - 6:.1f}" style="font-weight:600">{_text(kind)}</text>'
        drawn += f'<text x="{left - 8}" y="{y + block / 2 + 1:.1f}" text-anchor="end">{_text(_cut(name))}</text>'
        for index, (model, values) in enumerate(series.items()):
            entry = values[number]
            if entry is None:
                continue
            line = y + 6 + 9 * index
            x = across(entry.value)
            if entry.low is not None and entry.high is not None:
                drawn += (
                    f'<line x1="{across(entry.low):.1f}" x2="{across(entry.high):.1f}" y1="{line:.1f}" '
                    f'y2="{line:.1f}" style="stroke:{_colour(index)}" stroke-width="1.5"/>'
                )
            told = f"{model}, {kind} {name}: {_told(entry)}"
            drawn += f"<g><title>{_text(told)}</title>{_mark(index, x, line)}</g>"
        y += block
    return _svg(f"{below} by slice", drawn, height, below)


def share_curves(curves: Mapping[str, Sequence[tuple[float, float]]], *, below: str, beside: str) -> str:
    """Draw curves of shares against shares; the diagonal is where all have equally much.

    Args:
        curves: for each model points of two shares, 0 to 1, ascending.
        below: what the first share is of.
        beside: what the second share is of.
    """
    height = 300
    inner, tall = _WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    drawn = ""
    for share in (0, 0.25, 0.5, 0.75, 1):
        x, y = _LEFT + share * inner, _TOP + (1 - share) * tall
        drawn += (
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>'
            f'<text x="{x:.1f}" y="{height - _BOTTOM + 16}" text-anchor="middle">{share:.0%}</text>'
        )
    drawn += f'<path class="even" d="M{_LEFT} {_TOP + tall} L{_LEFT + inner} {_TOP}"/>'
    for index, (name, points) in enumerate(curves.items()):
        places = [(_LEFT + x * inner, _TOP + (1 - y) * tall) for x, y in points]
        path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        drawn += (
            f'<g><title>{_text(name)}</title><path d="{path}" style="stroke:{_colour(index)};fill:none" '
            f'stroke-width="2"/>{_mark(index, *places[len(places) // 2])}</g>'
        )
    return _svg(f"{beside} by {below}", drawn, height, below)


def legend(names: Sequence[str]) -> str:
    """Draw colour and mark of each series beside its name, as SVG of one line."""
    drawn, x = "", 8.0
    for index, name in enumerate(names):
        drawn += f'{_mark(index, x, 10)}<text x="{x + 10:.0f}" y="14">{_text(name)}</text>'
        x += 34 + 6.6 * len(name)
    return f'<svg viewBox="0 0 {max(_WIDTH, x):.0f} 20" role="img" aria-label="legend">{drawn}</svg>'


def standalone(svg: str) -> str:
    """Return a plot as a file of its own."""
    head, rest = svg.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{STYLE}</style>{rest}\n'


def _svg(title: str, content: str, height: int, below: str) -> str:
    caption = f'<text x="{_WIDTH / 2:.0f}" y="{height - 6}" text-anchor="middle">{_text(below)}</text>'
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{_text(title)}">{content}{caption}</svg>'


def _text(text: str) -> str:
    """Escape a text, without what XML may not hold."""
    return escape("".join(letter if letter.isprintable() else " " for letter in text))


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


# Corners of each mark but the first, which is round: square, triangle, diamond, triangle downwards, plus.
_MARKS: Final = (
    (),
    ((-3.2, -3.2), (3.2, -3.2), (3.2, 3.2), (-3.2, 3.2)),
    ((0, -4.2), (4, 3), (-4, 3)),
    ((0, -4.4), (4.4, 0), (0, 4.4), (-4.4, 0)),
    ((-4, -3), (4, -3), (0, 4.2)),
    ((-1.4, -4.4), (1.4, -4.4), (1.4, -1.4), (4.4, -1.4), (4.4, 1.4), (1.4, 1.4), (1.4, 4.4), (-1.4, 4.4), (-1.4, 1.4),
     (-4.4, 1.4), (-4.4, -1.4), (-1.4, -1.4)),
)  # fmt: skip


def _mark(index: int, x: float, y: float) -> str:
    """Draw the mark of a series: as many different ones as colours."""
    colour = f'style="fill:{_colour(index)}"'
    corners = _MARKS[index % len(_MARKS)]
    if not corners:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6" {colour}/>'
    path = " L".join(f"{x + across:.1f} {y + down:.1f}" for across, down in corners)
    return f'<path d="M{path} Z" {colour}/>'


def _told(entry: Interval) -> str:
    ends = "" if entry.low is None or entry.high is None else f" [{entry.low:.4f}, {entry.high:.4f}]"
    return f"{entry.value:.4f}{ends}"


def _ticks(series: Mapping[str, Sequence[Interval | None]]) -> list[float]:
    """Return round numbers from 0 to beyond all ends of intervals, six at most."""
    shown = [entry for values in series.values() for entry in values if entry is not None]
    top = max((entry.value if entry.high is None else entry.high for entry in shown), default=0.0) or 1.0
    power = 10.0 ** floor(log10(top / 5))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * 5 >= top)
    return [round(step * number, 12) for number in range(ceil(top / step - 1e-9) + 1)]


def _cut(name: str, most: int = 27) -> str:
    """Keep the end of a long name: paths of categories differ there."""
    return name if len(name) <= most else "…" + name[1 - most :]
