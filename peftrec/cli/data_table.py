"""What an inspection of data found, as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from peftrec.cli.table import console
from peftrec.data.distribution import PERCENTILES

if TYPE_CHECKING:
    from peftrec.data import Inspection


def print_inspection(found: Inspection, why_words: str) -> None:
    """Print all that was counted, a table a subject.

    Args:
        found: the numbers.
        why_words: why texts are counted in words, where they are.
    """
    out = console()
    repeats = 1 - found.pairs / max(1, found.events)
    of_people = "" if found.people is None else f" of {found.people:,} people"
    out.print(
        f"{found.users:,} {found.unit}s{of_people}, {found.items:,} items, {found.events:,} events; "
        f"density {found.density:.4%}, sparsity {1 - found.density:.4%}; {repeats:.1%} of events repeat an item; "
        f"{found.items_without_events:,} items without an event"
    )
    if found.times is not None:
        out.print(f"from {found.times.first_day} to {found.times.last_day}")
    if found.event_kinds:
        out.print(_kind_table(found))
    if found.taken_out:
        out.print(f"{found.taken_out:,} events of held-out items are taken out, and not counted here")
    if found.context_events:
        out.print(f"{found.context_events:,} events are context alone and never targets")
    spread = (*found.sequences, found.popularity, found.texts.lengths, found.texts.characters)
    rows = [(e.name, *(f"{e.percentiles[p]:,}" for p in PERCENTILES), f"{e.mean:,.1f}") for e in spread]
    out.print(_table("lengths, by percentile", ("", *(f"{p} %" for p in PERCENTILES), "mean"), rows))
    for line in _text_lines(found, why_words):
        out.print(line)
    out.print(_split_table(found))
    out.print(f"what leaks: {found.leaks}")
    cleaned = [(r.step, r.subject, f"{r.removed:,}", f"{r.remaining:,}", r.note) for r in found.cleaning.rows]
    out.print(_table("cleaning", ("step", "of", "removed", "remaining", "note"), cleaned, texts=(0, 1, 4)))


def _text_lines(found: Inspection, why_words: str) -> list[str]:
    texts = found.texts
    if texts.num_cut is None:
        cut = f"texts are counted in words, and nothing is known of truncation: {why_words}"
    else:
        share = texts.num_cut / found.items
        cut = f"{texts.num_cut:,} texts ({share:.1%}) are longer than encoder.max_tokens={texts.max_tokens} and cut"
    title, count = texts.frequent_title
    most = f", most often {title[:60]!r} ({count:,} times)" if count > 1 else ""
    languages = ", ".join(f"{name} {count / texts.looked_at:.1%}" for name, count in texts.languages.items())
    return [
        cut,
        f"duplicates: {found.duplicate_rows:,} interactions and {found.duplicate_item_ids:,} item ids dropped; "
        f"{texts.same_title:,} items ({texts.same_title / found.items:.1%}) share their title{most}; "
        f"{texts.same_text:,} ({texts.same_text / found.items:.1%}) share their text",
        f"languages, a guess by script and stop words over {texts.looked_at:,} texts: {languages}",
    ]


def _kind_table(found: Inspection) -> Table:
    rows = [
        (
            kind.value,
            kind.word or "",
            "" if kind.weight is None else f"{kind.weight:g}",
            f"{kind.read:,}",
            f"{kind.kept:,}",
        )
        for kind in found.event_kinds
    ]
    names = ("kind", "word", "weight", "read", "after cleaning")
    return _table("kinds of events", names, rows, texts=(0, 1))


def _split_table(found: Inspection) -> Table:
    rows = []
    for part in found.parts:
        cold = f"{part.cold_targets:,} ({part.cold_targets / part.targets:.1%})" if part.name != "train" else ""
        counts = (part.users, part.targets, part.items)
        more = [part.cold_items, part.repeats, part.untrained_users]
        more += [] if part.untrained_people is None else [part.untrained_people]
        rows.append((part.name, *(f"{count:,}" for count in counts), cold, *(f"{count:,}" for count in more)))
    units = f"{found.unit}s"
    names = ["", units, "targets", "items", "cold targets", "cold items", "repeats", f"{units} not trained on"]
    names += ["people not trained on"] * (found.people is not None)
    return _table(f"split {found.split}; cold: without a training event", names, rows)


def _table(title: str, names: Sequence[str], rows: Iterable[Sequence[str]], texts: Sequence[int] = (0,)) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for place, name in enumerate(names):
        table.add_column(name, justify="left" if place in texts else "right", no_wrap=place not in texts)
    for row in rows:
        table.add_row(*row)
    return table
