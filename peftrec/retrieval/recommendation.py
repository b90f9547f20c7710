"""A list and its entries, as people get them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peftrec.data.item_field import FieldValue


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recommendation:
    """One entry of a list.

    Args:
        rank: 1 is the best.
        score: higher is better; comparable within one list.
        item_id: as in the item table.
        title: for people.
        source: who brought it: `model`, `content` or `popularity`.
    """

    rank: int
    score: float
    item_id: str
    title: str
    source: str = "model"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suppressed:
    """An item that would have stood in a list but for a rule.

    Args:
        item_id: of the item.
        rule: name of the rule.
        reason: in a few words.
    """

    item_id: str
    rule: str
    reason: str


class Recommendations(list[Recommendation]):
    """A list of recommendations, best first.

    Args:
        entries: of the list.
        reason: why the list is empty, or not the model's; None where there is nothing to say.
        fallback: whether nothing is known of the user, so that these are the most popular items.
        suppressed: what would have stood in the list but for a rule.
    """

    def __init__(
        self,
        entries: Iterable[Recommendation] = (),
        *,
        reason: str | None = None,
        fallback: bool = False,
        suppressed: Sequence[Suppressed] = (),
    ) -> None:
        super().__init__(entries)
        self.reason, self.fallback, self.suppressed = reason, fallback, tuple(suppressed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """What is known of an item.

    Args:
        item_id: as in the item table.
        title: for people.
        text: what the encoder reads.
        fields: what else is kept of it; those without a value are left out.
    """

    item_id: str
    title: str
    text: str
    fields: Mapping[str, FieldValue]


def describe(recommendations: Sequence[Recommendation]) -> list[dict[str, Any]]:
    """Return recommendations as plain rows for JSON."""
    return [dataclasses.asdict(recommendation) for recommendation in recommendations]
