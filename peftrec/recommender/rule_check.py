"""Rules held against a catalogue."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from peftrec.config import InputError
from peftrec.publishing.item_table import ITEMS, read_items
from peftrec.recommender.row_item import row_items
from peftrec.recommender.stock import Stock
from peftrec.retrieval.rules import Audit, ItemRule, RuleBook, RuleFile, read_rules

_EXAMPLES = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuleReach:
    """What one rule does to a catalogue.

    Args:
        rule: its name.
        kind: of it.
        hides: items that it hides, whether or not another does too; None for rules of lists, which hide none for good.
        minimum_age: from which on it hides nothing; None: it hides from all.
        examples: some of them: id, title, reason.
    """

    rule: str
    kind: str
    hides: int | None
    minimum_age: float | None
    examples: tuple[tuple[str, str, str], ...]


def rule_book(rules: RuleFile | str | Path, stock: Stock, audit: Audit | None = None) -> RuleBook:
    """Set rules to work on items, those to come included.

    Args:
        rules: or their file.
        stock: the items.
        audit: in place of what the file says of it.
    Raises:
        InputError: as of `RuleBook`.
    """
    source = "rules" if isinstance(rules, RuleFile) else str(rules)
    file = rules if isinstance(rules, RuleFile) else read_rules(rules)
    if audit is not None:
        file = dataclasses.replace(file, audit=audit)
    with stock.writing:
        book = RuleBook(file, stock.items(), stock.view.fields.names, source)
        stock.judge = book.judge
    return book


def check_rules(path: str | Path, folder: str | Path) -> tuple[int, list[RuleReach]]:
    """Return how many items a run has, and what each rule of a file does to them; no model of the run is loaded.

    Args:
        path: of the rules.
        folder: of the run.
    Raises:
        InputError: if the folder is no run, or the rules do not fit it; as of `RuleBook`.
    """
    file = read_rules(path)
    if not (Path(folder) / ITEMS).is_file():
        raise InputError(f"{folder}: is no run folder; there is no {ITEMS}")
    catalogue = read_items(Path(folder))
    fields = [
        {name: values[row] for name, values in catalogue.fields.items() if values[row] is not None}
        for row in range(len(catalogue))
    ]
    items = row_items(catalogue.ids, catalogue.titles, catalogue.texts, fields)
    # Nothing is shown, so nothing is logged.
    book = RuleBook(dataclasses.replace(file, audit=None), items, tuple(catalogue.fields), str(path))
    found = []
    for place, (name, rule) in enumerate(zip(file.names, file.rules, strict=True)):
        if not isinstance(rule, ItemRule):
            found.append(RuleReach(rule=name, kind=rule.kind, hides=None, minimum_age=None, examples=()))
            continue
        reasons = {row: reason for (own, row), reason in book.verdicts.reasons.items() if own == place}
        rows = sorted(reasons)
        told = tuple((items[row].item_id, items[row].title, reasons[row]) for row in rows[:_EXAMPLES])
        found.append(RuleReach(rule=name, kind=rule.kind, hides=len(rows), minimum_age=rule.minimum_age, examples=told))
    return len(items), found
