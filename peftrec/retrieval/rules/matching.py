"""Rules by what items say in their fields: what a filter lets through is hidden, or is all that is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from peftrec.config import InputError
from peftrec.data.item_field import FieldValue
from peftrec.retrieval.item_filter import FieldRule, Filter
from peftrec.retrieval.recommendation import Item
from peftrec.retrieval.rules.rule import ItemRule, Judge


@dataclasses.dataclass(frozen=True, kw_only=True)
class HideMatching(ItemRule):
    """Never show items that pass a filter.

    Args:
        where: fields to what they must say, all of it, as a filter's `fields`: `{category: weapons}`,
            `{price: {ge: 1000}}`, `{brand: {any_of: [a, b]}}`, `{image: {missing: true}}`.
        name: of the rule; None names it by kind and place.
    """

    kind: ClassVar[str] = "hide_matching"
    where: dict[str, Any]
    name: str | None = None

    def __post_init__(self) -> None:
        _parse(self.where)

    @property
    def fields(self) -> tuple[str, ...]:
        """Those of the filter."""
        return tuple(self.where)

    def prepare(self) -> Judge:
        """Read the filter."""
        return _ByFilter(_parse(self.where), shown=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowOnly(ItemRule):
    """Never show items that do not pass a filter.

    Args:
        where: as of `hide_matching`.
        name: of the rule; None names it by kind and place.
    """

    kind: ClassVar[str] = "show_only"
    where: dict[str, Any]
    name: str | None = None

    def __post_init__(self) -> None:
        _parse(self.where)

    @property
    def fields(self) -> tuple[str, ...]:
        """Those of the filter."""
        return tuple(self.where)

    def prepare(self) -> Judge:
        """Read the filter."""
        return _ByFilter(_parse(self.where), shown=True)


class _ByFilter:
    def __init__(self, rules: Mapping[str, FieldRule], *, shown: bool) -> None:
        self._rules, self._shown = rules, shown

    def judge(self, items: Sequence[Item]) -> list[str | None]:
        return [self._reason(item) for item in items]

    def _reason(self, item: Item) -> str | None:
        failed = next((name for name, rule in self._rules.items() if not passes(rule, item.fields.get(name))), None)
        if self._shown:
            return None if failed is None else f"its {failed} is {_told(item.fields.get(failed))}"
        if failed is not None:
            return None
        return " and ".join(f"its {name} is {_told(item.fields.get(name))}" for name in self._rules)


def passes(rule: FieldRule, value: FieldValue) -> bool:
    """Whether one value of a field is what a rule asks for; the same as masks of whole catalogues say."""
    held = () if value is None else value if isinstance(value, tuple) else (value,)
    if rule.missing is not None and rule.missing != (value is None):
        return False
    if rule.any_of is not None and not any(_same(one, other) for one in held for other in rule.any_of):
        return False
    if any(_same(one, other) for one in held for other in rule.none_of):
        return False
    if not rule.has_bounds:
        return True
    if not isinstance(value, float):
        return False
    return (
        (rule.ge is None or value >= rule.ge)
        and (rule.gt is None or value > rule.gt)
        and (rule.le is None or value <= rule.le)
        and (rule.lt is None or value < rule.lt)
    )


def _same(one: str | float | bool, other: str | float | bool) -> bool:
    """Equal and of one kind: True is not 1.0."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _parse(where: Mapping[str, Any]) -> Mapping[str, FieldRule]:
    if not where:
        raise InputError("where: is empty; name at least one field")
    return Filter.parse({"fields": where}, "where").fields


def _told(value: FieldValue) -> str:
    if value is None:
        return "missing"
    text = ", ".join(value) if isinstance(value, tuple) else f"{value:g}" if type(value) is float else str(value)
    return f"'{text[:60]}'"
