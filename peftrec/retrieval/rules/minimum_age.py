"""Categories that are shown from an age on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, ClassVar

from peftrec.config import Range
from peftrec.retrieval.recommendation import Item
from peftrec.retrieval.reranking.field_fact import texts_of
from peftrec.retrieval.rules.rule import ItemRule, Judge


@dataclasses.dataclass(frozen=True, kw_only=True)
class MinimumAge(ItemRule):
    """Show items with some values only to users of an age; who does not tell an age is taken to be younger.

    Args:
        field: of the items.
        values: of the field; an item that has one of them is meant.
        age: in years, from which on they are shown.
        name: of the rule; None names it by kind and place.
    """

    kind: ClassVar[str] = "minimum_age"
    field: str
    values: tuple[str, ...]
    age: Annotated[float, Range(gt=0, le=150)]
    name: str | None = None

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("values: is empty; name at least one")

    @property
    def fields(self) -> tuple[str, ...]:
        """The one that tells what an item is."""
        return (self.field,)

    @property
    def minimum_age(self) -> float:
        """From which on it does not hold."""
        return self.age

    def prepare(self) -> Judge:
        """Hold the values."""
        return _ByValues(self)


class _ByValues:
    def __init__(self, rule: MinimumAge) -> None:
        self._field, self._values, self._age = rule.field, frozenset(rule.values), rule.age

    def judge(self, items: Sequence[Item]) -> list[str | None]:
        return [self._reason(item) for item in items]

    def _reason(self, item: Item) -> str | None:
        found = next((value for value in texts_of(item.fields.get(self._field)) if value in self._values), None)
        return None if found is None else f"its {self._field} is '{found}', shown from {self._age:g} years on"
