"""Rows of the stock as items, for who judges them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peftrec.data.item_field import FieldValue
from peftrec.retrieval import Item


def row_items(
    ids: Sequence[str], titles: Sequence[str], texts: Sequence[str], fields: Sequence[Mapping[str, FieldValue]]
) -> list[Item]:
    """Return items of which each argument has a part."""
    parts = zip(ids, titles, texts, fields, strict=True)
    return [Item(item_id=name, title=title, text=text, fields=values) for name, title, text, values in parts]
