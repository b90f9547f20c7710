"""Plots of an evaluation as SVG; lines and texts take the colours of the page's style sheet where there is one.

Every series has a colour and a mark of its own. There are as many colours as stay legible on light and dark pages, and
one mark more: in grey the marks tell up to seven series apart, and colour and mark together up to 42.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import accumulate, pairwise, takewhile
from math import ceil, floor, log10, sqrt
from typing import Final
from unicodedata import east_asian_width

COLOURS: Final = ("#3b6fd4", "#e0893b", "#3a9a6b", "#a656b8", "#c0484e", "#6b7684")
STYLE: Final = """
svg .grid { stroke: var(--line, #dfe3e8); } svg text { fill: var(--soft, #5d6773); font: 11.5px system-ui, sans-serif; }
svg .even { stroke: var(--soft, #5d6773); stroke-dasharray: 5 4; fill: none; }
svg .series { stroke: var(--card, #fff); stroke-width: .8; } svg .kind { font-weight: 600; }
"""
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 58, 20, 12, 40
# Where names of rows end, and what a kind, a row and a series in it take.
_NAMES, _KIND, _ROW, _LINE = 200, 24, 6, 9
# Estimates: fonts differ. Of one letter, and of one that East Asian scripts write as wide as it is high.
_LETTER, _WIDE_LETTER = 6.8, 11.5
_PLUS: Final = (
    (-1.4, -4.4), (1.4, -4.4), (1.4, -1.4), (4.4, -1.4), (4.4, 1.4), (1.4, 1.4),
    (1.4, 4.4), (-1.4, 4.4), (-1.4, 1.4), (-4.4, 1.4), (-4.4, -1.4), (-1.4, -1.4),
)  # fmt: skip
# Corners of each mark but the first, which is round: square, triangle, diamond, triangle downwards, plus, cross.
_MARKS: Final = (
    (),
    ((-3.2, -3.2), (3.2, -3.2), (3.2, 3.2), (-3.2, 3.2)),
    ((0, -4.2), (4, 3), (-4, 3)),
    ((0, -4.4), (4.4, 0), (0, 4.4), (-4.4, 0)),
    ((-4, -3), (4, -3), (0, 4.2)),
    _PLUS,
    tuple(((x - y) / sqrt(2), (x + y) / sqrt(2)) for x, y in _PLUS),
)


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
        series: for each model a value a bin, from 0; None draws nothing there.
        below: what the bins are of.
        beside: what the values are.
    """
    height, ticks = 250, _ticks(series)
    slot = (_WIDTH - _LEFT - _RIGHT) / max(1, len(bins))

    def up(value: float) -> float:
        return _TOP + (1 - value / ticks[-1]) * (height - _TOP - _BOTTOM)

    drawn = [_grid_line(_LEFT, up(tick), _WIDTH - _RIGHT, up(tick)) for tick in ticks]
    drawn += [_text(_LEFT - 6, up(tick) + 4, f"{tick:g}", anchor="end") for tick in ticks]
    step = max(1, ceil((max(map(_width, bins), default=0) + 6) / slot))
    shown = range(0, len(bins), step)
    drawn += [_text(_LEFT + (number + 0.5) * slot, height - _BOTTOM + 16, bins[number]) for number in shown]
    for index, (name, entries) in enumerate(series.items()):
        # Beside each other, so that whiskers do not cover one another.
        offset = (index - (len(series) - 1) / 2) * min(0.12, 0.6 / len(series))
        places = [_LEFT + (number + 0.5 + offset) * slot for number in range(len(bins))]
        known = [(x, bin_, entry) for x, bin_, entry in zip(places, bins, entries, strict=True) if entry is not None]
        drawn += [
            _line(index, x, up(entry.value), next_x, up(next_entry.value))
            for (x, _, entry), (next_x, _, next_entry) in pairwise(known)
        ]
        for x, bin_, entry in known:
            if entry.low is not None and entry.high is not None:
                drawn.append(_line(index, x, up(entry.low), x, up(entry.high), opacity=0.55))
            drawn.append(_point(index, x, up(entry.value), f"{name}, {bin_}: {_told(entry)}"))
    return _svg(f"{beside} by {below}", drawn, height, below)


def intervals_by_row(
    rows: Sequence[tuple[str, str]], series: Mapping[str, Sequence[Interval | None]], *, below: str
) -> str:
    """Draw values with whiskers, a group of lines for each row.

    Args:
        rows: kind and name of each; the kind is written above the first row of it.
        series: for each model a value a row, from 0; None draws nothing there.
        below: what the values are.
    """
    tops, base = _row_tops([kind for kind, _ in rows], _ROW + _LINE * len(series))
    ticks = _ticks(series)

    def across(value: float) -> float:
        return _NAMES + value / ticks[-1] * (_WIDTH - _NAMES - _RIGHT)

    drawn = [_grid_line(across(tick), _TOP, across(tick), base) for tick in ticks]
    # Above, too: with many rows the lower end is far away.
    drawn += [_text(across(tick), y, f"{tick:g}") for tick in ticks for y in (_TOP - 2, base + 16)]
    for number, ((kind, name), top) in enumerate(zip(rows, tops, strict=True)):
        if not number or rows[number - 1][0] != kind:
            drawn.append(_text(8, top - 6, _cut(kind, _WIDTH - 16), anchor="start", kind="kind"))
        middle = top + (_ROW + _LINE * len(series)) / 2
        drawn.append(_text(_NAMES - 8, middle + 1, _cut(name, _NAMES - 16), anchor="end"))
        for index, (model, entries) in enumerate(series.items()):
            entry, y = entries[number], top + _ROW + _LINE * index
            if entry is None:
                continue
            if entry.low is not None and entry.high is not None:
                drawn.append(_line(index, across(entry.low), y, across(entry.high), y))
            drawn.append(_point(index, across(entry.value), y, f"{model}, {kind} {name}: {_told(entry)}"))
    return _svg(f"{below} by slice", drawn, base + _BOTTOM, below)


def _row_tops(kinds: Sequence[str], block: int) -> tuple[list[int], int]:
    """Return where each row begins, with room for a new kind above it, and where the last one ends."""
    tops, y = [], _TOP
    for number, kind in enumerate(kinds):
        if not number or kinds[number - 1] != kind:
            y += _KIND
        tops.append(y)
        y += block
    return tops, y


def share_curves(curves: Mapping[str, Sequence[tuple[float, float]]], *, below: str, beside: str) -> str:
    """Draw curves of shares against shares; the diagonal is where all have equally much.

    Args:
        curves: for each model points of two shares, 0 to 1, ascending.
        below: what the first share is of.
        beside: what the second share is of.
    """
    height = 300

    def place(share: float, other: float) -> tuple[float, float]:
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT), _TOP + (1 - other) * (height - _TOP - _BOTTOM)

    (left, bottom), (right, top) = place(0, 0), place(1, 1)
    drawn = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        x, y = place(share, share)
        drawn += [_grid_line(left, y, right, y), _text(left - 6, y + 4, f"{share:.0%}", anchor="end")]
        drawn.append(_text(x, bottom + 16, f"{share:.0%}"))
    drawn.append(f'<path class="even" d="M{left:.1f} {bottom:.1f} L{right:.1f} {top:.1f}"/>')
    for index, (name, points) in enumerate(curves.items()):
        places = [place(*point) for point in points]
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        drawn.append(
            f'<g><title>{_clean(name)}</title><path d="M{path}" style="stroke:{_colour(index)};fill:none" '
            f'stroke-width="2"/>{"".join(_mark(index, *places[number]) for number in _marked(index, len(places)))}</g>'
        )
    return _svg(f"{beside} by {below}", drawn, height, below)


def _marked(index: int, num_points: int) -> Iterator[int]:
    """Yield the points of a curve that carry its mark, beside those of the others where curves lie on each other."""
    for share in (0.45, 0.65):
        yield round((share + 0.02 * (index % len(_MARKS))) * (num_points - 1))


def legend(names: Sequence[str]) -> str:
    """Draw colour and mark of each series beside its name, as SVG as wide as a plot, of as many lines as it takes."""
    drawn, x, y = [], 8.0, 10
    for index, name in enumerate(names):
        shown = _cut(name, _WIDTH - 28)
        if x > 8 and x + 10 + _width(shown) > _WIDTH:
            x, y = 8.0, y + 18
        drawn += [_mark(index, x, y), _text(x + 10, y + 4, shown, anchor="start")]
        x += 34 + _width(shown)
    return f'<svg viewBox="0 0 {_WIDTH} {y + 10}" role="img" aria-label="legend">{"".join(drawn)}</svg>'


def joined(above: str, below: str) -> str:
    """Return two pictures as one, such as a legend and its plot."""
    (upper, upper_height), (lower, lower_height) = _opened(above), _opened(below)
    label = below.split('aria-label="', 1)[1].split('"', 1)[0]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {upper_height + 4 + lower_height}" role="img" aria-label="{label}">'
        f'<g>{upper}</g><g transform="translate(0 {upper_height + 4})">{lower}</g></svg>'
    )


def standalone(svg: str) -> str:
    """Return a plot as a file of its own."""
    head, rest = svg.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{STYLE}</style>{rest}\n'


def _opened(svg: str) -> tuple[str, int]:
    """Return the content of a picture and its height."""
    head, content = svg.split(">", 1)
    return content.removesuffix("</svg>"), int(head.split('viewBox="', 1)[1].split('"', 1)[0].split()[3])


def _svg(title: str, content: Sequence[str], height: int, below: str) -> str:
    drawn = "".join((*content, _text(_WIDTH / 2, height - 6, below)))
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{_clean(title)}">{drawn}</svg>'


def _clean(text: str) -> str:
    """Escape a text, and put spaces for what XML may not hold or what would turn the letters around it."""
    return escape("".join(letter if letter.isprintable() else " " for letter in text))


def _text(x: float, y: float, text: str, *, anchor: str = "middle", kind: str = "") -> str:
    of_kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{of_kind}>{_clean(text)}</text>'


def _grid_line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _line(index: int, x1: float, y1: float, x2: float, y2: float, *, opacity: float = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" style="stroke:{_colour(index)}" '
        f'stroke-width="1.5" opacity="{opacity}"/>'
    )


def _point(index: int, x: float, y: float, told: str) -> str:
    """Draw a mark that tells its value where one points at it."""
    return f"<g><title>{_clean(told)}</title>{_mark(index, x, y)}</g>"


def _mark(index: int, x: float, y: float) -> str:
    look = f'class="series" style="fill:{_colour(index)}"'
    corners = _MARKS[index % len(_MARKS)]
    if not corners:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6" {look}/>'
    path = " L".join(f"{x + across:.1f} {y + down:.1f}" for across, down in corners)
    return f'<path d="M{path} Z" {look}/>'


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


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


def _width(text: str) -> float:
    """Estimate how wide a text is drawn."""
    return sum(map(_letter_width, text))


def _letter_width(letter: str) -> float:
    return _WIDE_LETTER if east_asian_width(letter) in "WF" else _LETTER


def _cut(name: str, most: float) -> str:
    """Keep the end of a name that is wider: paths of categories differ there."""
    if _width(name) <= most:
        return name
    widths = accumulate(map(_letter_width, reversed(name)), initial=_LETTER)
    num_kept = sum(1 for _ in takewhile(lambda width: width <= most, widths)) - 1
    return f"…{name[len(name) - num_kept :]}"
