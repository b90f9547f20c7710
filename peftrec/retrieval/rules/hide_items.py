"""Never show some items."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from peftrec.retrieval.recommendation import Item
from peftrec.retrieval.rules.rule import ItemRule, Judge


@dataclasses.dataclass(frozen=True, kw_only=True)
class HideItems(ItemRule):
    """Never show items by their ids; one that no item has is no error, since an item may come later.

    Args:
        items: their ids.
        name: of the rule; None names it by kind and place.
    """

    kind: ClassVar[str] = "hide_items"
    items: tuple[str | int, ...]
    name: str | None = None

    def __post_init__(self) -> None:
        if not self.items:
            raise ValueError("items: is empty; name at least one id")

    def prepare(self) -> Judge:
        """Hold the ids."""
        return _ByIds(frozenset(map(str, self.items)))


class _ByIds:
    def __init__(self, ids: frozenset[str]) -> None:
        self._ids = ids

    def judge(self, items: Sequence[Item]) -> list[str | None]:
        return ["its id is listed" if item.item_id in self._ids else None for item in items]
