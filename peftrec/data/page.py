"""An inspection as one HTML page, which needs nothing beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from peftrec.data.chart import histogram, share_curve, timeline
from peftrec.data.distribution import PERCENTILES, Distribution
from peftrec.data.event_kind import EventKind
from peftrec.data.inspection import Inspection
from peftrec.data.split_part import Part

_STYLE = """
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


_KEY = '<p class="key soft"><i class="train"></i>training<i class="rest"></i>held out</p>'


def inspection_page(found: Inspection, title: str) -> str:
    """Draws an inspection.

    Args:
        found: the numbers.
        title: of the page, such as the recipe's path.
    Returns:
        A whole HTML document; every text of the data in it is escaped.
    """
    sections = (_head(found, title), _events(found), _texts(found), _split(found), _cleaning(found))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}: data</title><style>{_STYLE}</style></head><body><main>"
        f"{''.join(sections)}</main></body></html>\n"
    )


def _head(found: Inspection, title: str) -> str:
    tiles = (
        (f"{found.users:,}", f"{found.unit}s" if found.people is None else f"sessions of {found.people:,} people"),
        (f"{found.items:,}", "items"),
        (f"{found.events:,}", "events"),
        (f"{found.density:.3%}", f"dense; {1 - found.density:.2%} sparse"),
        (f"{found.items_without_events / found.items:.1%}", f"of items untouched ({found.items_without_events:,})"),
        (f"{1 - found.pairs / max(1, found.events):.1%}", "of events repeat an item"),
    )
    shown = "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for value, name in tiles)
    return (
        f'<h1>{_told(title)}</h1><p class="soft">The data as the recipe reads, cleans and splits them</p>'
        f'<div class="tiles">{shown}</div>'
        f'<div class="leaks"><b>What leaks ({escape(found.split)}):</b> {escape(found.leaks)}</div>'
    )


def _events(found: Inspection) -> str:
    things = {"history of a test case": "cases"}
    cards = [
        _card(_headed(each), histogram(each, things=things.get(each.name, f"{found.unit}s")))
        for each in found.sequences
    ]
    cards.append(_card(_headed(found.popularity), histogram(found.popularity, things="items")))
    tops = ", ".join(f"the top {share} have {part:.0%}" for share, part in found.top_shares.items())
    cards.append(_card(f"Popularity: {tops} of the events", share_curve(found.curve)))
    if found.times is not None:
        drawn = timeline(found.times.edges, found.times.train, found.times.other)
        cards.append(_card(f"Events over time, {found.times.first_day} to {found.times.last_day}", _KEY + drawn))
    if found.event_kinds:
        cards.append(_card("Kinds of events, before the split", _kinds(found.event_kinds)))
    told = [f"{found.taken_out:,} events of held-out items are taken out, and not counted here"] * bool(found.taken_out)
    told += [f"{found.context_events:,} events are context alone and never targets"] * bool(found.context_events)
    notes = "".join(f'<p class="soft">{line}.</p>' for line in told)
    return f'<h2>Events</h2>{notes}<div class="cards">{"".join(cards)}</div>{_percentiles(found)}'


def _kinds(kinds: Sequence[EventKind]) -> str:
    total = max(1, sum(kind.kept for kind in kinds))
    rows = [
        (
            _told(kind.value),
            _told(kind.word or ""),
            "" if kind.weight is None else f"{kind.weight:g}",
            f"{kind.read:,}",
            f"{kind.kept:,}",
            _meter(kind.kept / total),
        )
        for kind in kinds
    ]
    return _table(("kind", "word", "weight", "read", "after cleaning", ""), rows, numbers=(2, 3, 4))


def _texts(found: Inspection) -> str:
    texts = found.texts
    cut = "" if texts.num_cut is None else f"; {texts.num_cut / found.items:.1%} are longer than {texts.max_tokens}"
    mark = None if texts.num_cut is None else (float(texts.max_tokens or 0), f"cut at {texts.max_tokens}")
    unknown = "; no tokenizer at hand, so that nothing is known of truncation" if texts.unit == "words" else ""
    title, count = texts.frequent_title
    rows = [
        ("items that share their title", f"{texts.same_title:,}", f"{texts.same_title / found.items:.1%}"),
        ("items that share their text", f"{texts.same_text:,}", f"{texts.same_text / found.items:.1%}"),
        ("duplicate item ids dropped", f"{found.duplicate_item_ids:,}", ""),
        ("duplicate interactions dropped", f"{found.duplicate_rows:,}", ""),
    ]
    most = f'<p class="soft">The most frequent title, {count:,} times: {_told(title[:200])}</p>' if count > 1 else ""
    looked_at = f"Language, a guess by script and stop words, {texts.looked_at:,} texts"
    cards = (
        _card(_headed(texts.lengths) + cut + unknown, histogram(texts.lengths, things="items", mark=mark)),
        _card(_headed(texts.characters), histogram(texts.characters, things="items")),
        _card(looked_at, _meters(texts.languages, texts.looked_at)),
        _card("Duplicates", _table(("", "", ""), rows, numbers=(1, 2)) + most),
    )
    return f'<h2>Texts</h2><div class="cards">{"".join(cards)}</div>'


def _split(found: Inspection) -> str:
    units = f"{found.unit}s"
    names = ["part", units, "targets", "items", "cold targets", "", "cold items", "repeats", f"{units} not trained on"]
    names += ["people not trained on"] * (found.people is not None)
    rows = [_part_row(part) for part in found.parts]
    note = found.cleaning.rows[-1].note
    cold = found.parts[0].cold_items
    return (
        f"<h2>Split: {escape(found.split)}</h2><p>{found.parts[0].targets:,} events {escape(note)}.</p>"
        f'<p class="soft">Cold: without a training event; {cold:,} of {found.items:,} items of the catalogue '
        f"({cold / found.items:.1%}) are. Repeats: targets in the history that they are asked with.</p>"
        f'<div class="card scroll">{_table(names, rows, numbers=(1, 2, 3, 4, 6, 7, 8, 9))}</div>'
    )


def _part_row(part: Part) -> tuple[str, ...]:
    share = part.cold_targets / max(1, part.targets)
    counts = (part.users, part.targets, part.items)
    cold = (f"{part.cold_targets:,} ({share:.1%})", _meter(share)) if part.name != "train" else ("", "")
    more = [part.cold_items, part.repeats, part.untrained_users]
    more += [] if part.untrained_people is None else [part.untrained_people]
    return (part.name, *(f"{count:,}" for count in counts), *cold, *(f"{count:,}" for count in more))


def _cleaning(found: Inspection) -> str:
    rows = [
        (_told(row.step), row.subject, f"{row.removed:,}", f"{row.remaining:,}", _told(row.note))
        for row in found.cleaning.rows
    ]
    names = ("step", "of", "removed", "remaining", "note")
    return f'<h2>Cleaning, step by step</h2><div class="card scroll">{_table(names, rows, numbers=(2, 3))}</div>'


def _percentiles(found: Inspection) -> str:
    rows = [
        (each.name, *(f"{each.percentiles[percent]:,}" for percent in PERCENTILES), f"{each.mean:,.1f}")
        for each in (*found.sequences, found.popularity, found.texts.lengths, found.texts.characters)
    ]
    names = ("percentile", *(f"{percent} %" for percent in PERCENTILES), "mean")
    table = _table(names, rows, numbers=tuple(range(1, len(names))))
    return f'<div class="card scroll" style="margin-top:14px">{table}</div>'


def _headed(each: Distribution) -> str:
    return (
        f"{each.name[0].upper()}{each.name[1:]}: median {each.percentiles[50]:,}, 95 % up to {each.percentiles[95]:,}"
    )


def _card(title: str, content: str) -> str:
    return f'<div class="card"><h3>{escape(title)}</h3>{content}</div>'


def _meters(counts: dict[str, int], total: int) -> str:
    rows = [
        (_told(name), f"{count:,}", f"{count / max(1, total):.1%}", _meter(count / max(1, total)))
        for name, count in counts.items()
    ]
    return _table(("", "", "", ""), rows, numbers=(1, 2))


def _meter(share: float) -> str:
    return f'<div class="meter"><i style="width:{min(1.0, share):.1%}"></i></div>'


def _told(text: str) -> str:
    """A text of the data: escaped, and kept from turning around what stands beside it."""
    return f"<bdi>{escape(text)}</bdi>"


def _table(names: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int]) -> str:
    """A table of cells that are HTML already."""

    def row(cells: Sequence[str], tag: str) -> str:
        shown = (f"<{tag}{' class=n' if place in numbers else ''}>{cell}</{tag}>" for place, cell in enumerate(cells))
        return f"<tr>{''.join(shown)}</tr>"

    head = row([escape(name) for name in names], "th") if any(names) else ""
    return f"<table>{head}{''.join(row(cells, 'td') for cells in rows)}</table>"
