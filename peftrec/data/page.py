"""An inspection as one HTML page, which needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from peftrec.data.chart import histogram, share_curve, timeline
from peftrec.data.distribution import PERCENTILES, Distribution
from peftrec.data.event_kind import EventKind
from peftrec.data.html import card, document, table, told
from peftrec.data.inspection import Inspection
from peftrec.data.split_part import Part

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
    return document(f"{title}: data", sections)


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
        f'<h1>{told(title)}</h1><p class="soft">The data as the recipe reads, cleans and splits them</p>'
        f'<div class="tiles">{shown}</div>'
        f'<div class="leaks"><b>What leaks ({escape(found.split)}):</b> {escape(found.leaks)}</div>'
    )


def _events(found: Inspection) -> str:
    things = {"history of a test case": "cases"}
    cards = [
        card(_headed(each), histogram(each, things=things.get(each.name, f"{found.unit}s"))) for each in found.sequences
    ]
    cards.append(card(_headed(found.popularity), histogram(found.popularity, things="items")))
    tops = ", ".join(f"the top {share} have {part:.0%}" for share, part in found.top_shares.items())
    cards.append(card(f"Popularity: {tops} of the events", share_curve(found.curve)))
    if found.times is not None:
        drawn = timeline(found.times.edges, found.times.train, found.times.other)
        cards.append(card(f"Events over time, {found.times.first_day} to {found.times.last_day}", _KEY + drawn))
    if found.event_kinds:
        cards.append(card("Kinds of events, before the split", _kinds(found.event_kinds)))
    taken = f"{found.taken_out:,} events of held-out items are taken out, and not counted here"
    lines = [taken] * bool(found.taken_out)
    lines += [f"{found.context_events:,} events are context alone and never targets"] * bool(found.context_events)
    notes = "".join(f'<p class="soft">{line}.</p>' for line in lines)
    return f'<h2>Events</h2>{notes}<div class="cards">{"".join(cards)}</div>{_percentiles(found)}'


def _kinds(kinds: Sequence[EventKind]) -> str:
    total = max(1, sum(kind.kept for kind in kinds))
    rows = [
        (
            told(kind.value),
            told(kind.word or ""),
            "" if kind.weight is None else f"{kind.weight:g}",
            f"{kind.read:,}",
            f"{kind.kept:,}",
            _meter(kind.kept / total),
        )
        for kind in kinds
    ]
    return table(("kind", "word", "weight", "read", "after cleaning", ""), rows, numbers=(2, 3, 4))


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
    most = f'<p class="soft">The most frequent title, {count:,} times: {told(title[:200])}</p>' if count > 1 else ""
    looked_at = f"Language, a guess by script and stop words, {texts.looked_at:,} texts"
    cards = (
        card(_headed(texts.lengths) + cut + unknown, histogram(texts.lengths, things="items", mark=mark)),
        card(_headed(texts.characters), histogram(texts.characters, things="items")),
        card(looked_at, _meters(texts.languages, texts.looked_at)),
        card("Duplicates", table(("", "", ""), rows, numbers=(1, 2)) + most),
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
        f'<div class="card scroll">{table(names, rows, numbers=(1, 2, 3, 4, 6, 7, 8, 9))}</div>'
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
        (told(row.step), row.subject, f"{row.removed:,}", f"{row.remaining:,}", told(row.note))
        for row in found.cleaning.rows
    ]
    names = ("step", "of", "removed", "remaining", "note")
    return f'<h2>Cleaning, step by step</h2><div class="card scroll">{table(names, rows, numbers=(2, 3))}</div>'


def _percentiles(found: Inspection) -> str:
    rows = [
        (each.name, *(f"{each.percentiles[percent]:,}" for percent in PERCENTILES), f"{each.mean:,.1f}")
        for each in (*found.sequences, found.popularity, found.texts.lengths, found.texts.characters)
    ]
    names = ("percentile", *(f"{percent} %" for percent in PERCENTILES), "mean")
    shown = table(names, rows, numbers=tuple(range(1, len(names))))
    return f'<div class="card scroll" style="margin-top:14px">{shown}</div>'


def _headed(each: Distribution) -> str:
    return (
        f"{each.name[0].upper()}{each.name[1:]}: median {each.percentiles[50]:,}, 95 % up to {each.percentiles[95]:,}"
    )


def _meters(counts: dict[str, int], total: int) -> str:
    rows = [
        (told(name), f"{count:,}", f"{count / max(1, total):.1%}", _meter(count / max(1, total)))
        for name, count in counts.items()
    ]
    return table(("", "", "", ""), rows, numbers=(1, 2))


def _meter(share: float) -> str:
    return f'<div class="meter"><i style="width:{min(1.0, share):.1%}"></i></div>'
