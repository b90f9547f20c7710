"""An item as rules look at it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from peftrec.data.item_field import FieldValue


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuleItem:
    """What rules may ask of an item.

    Args:
        item_id: as in the table of items.
        title: for people.
        text: what the encoder reads.
        fields: what is known of it; missing values may be left out.
    """

    item_id: str
    title: str
    text: str
    fields: Mapping[str, FieldValue]
