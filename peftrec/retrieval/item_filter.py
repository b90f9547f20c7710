"""Which items a list may hold: a filter, as Python or JSON says it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from peftrec.config import InputError, nearest
from peftrec.data.item_field import field_value

# What is compared with the values of a field.
Wanted = str | float | bool

_BOUNDS: Final = ("ge", "gt", "le", "lt")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldRule:
    """What an item must say in one field; all parts must hold.

    Args:
        any_of: it has one of these values; None asks nothing.
        none_of: it has none of these; an item without a value has none.
        ge: its number is at least this. So `gt`, `le` and `lt`; an item without a value has no number.
        gt: see `ge`.
        le: see `ge`.
        lt: see `ge`.
        missing: True: it has no value; False: it has one; None asks nothing.
    """

    any_of: tuple[Wanted, ...] | None = None
    none_of: tuple[Wanted, ...] = ()
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    missing: bool | None = None

    @property
    def has_bounds(self) -> bool:
        """Whether it asks for a number."""
        return any(getattr(self, name) is not None for name in _BOUNDS)

    @classmethod
    def parse(cls, value: Any, where: str) -> FieldRule:
        """Read a rule, or a bare value that the field must have.

        Raises:
            InputError: naming the key.
        """
        if isinstance(value, str | bool | int | float):
            return cls(any_of=(_wanted(value, where),))
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: expected a value, or a mapping such as {{any_of: [...]}}, found {_show(value)}")
        known = [field.name for field in dataclasses.fields(cls)]
        _check_keys(value, known, where)
        if not value:
            raise InputError(f"{where}: is empty; there may be {', '.join(known)}")
        given: dict[str, Any] = {}
        for key, part in value.items():
            place = f"{where}.{key}"
            if key == "missing":
                if not isinstance(part, bool):
                    raise InputError(f"{place}: expected true or false, found {_show(part)}")
                given[key] = part
            elif key in _BOUNDS:
                number = None if isinstance(part, bool | str) else field_value(part, place)
                if not isinstance(number, float):
                    raise InputError(f"{place}: expected a number, found {_show(part)}")
                given[key] = number
            else:
                if not isinstance(part, list | tuple):
                    raise InputError(f"{place}: expected a list of values, found {_show(part)}")
                given[key] = tuple(_wanted(one, place) for one in part)
        return cls(**given)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filter:
    """Which items a list may hold; all parts must hold.

    Args:
        fields: rules by field.
        blocked: ids that are left out; one that no item has is no error.
        only: ids that alone may come back; None asks nothing.
    """

    fields: Mapping[str, FieldRule] = dataclasses.field(default_factory=dict)
    blocked: frozenset[str] = frozenset()
    only: frozenset[str] | None = None

    @classmethod
    def parse(cls, value: Any, where: str = "filter") -> Filter:
        """Read a filter from plain values, as JSON has them.

        Such as {"fields": {"category": {"any_of": ["tea"]}, "price": {"le": 20}, "in_stock": true}, "blocked": ["7"]}.

        Args:
            value: a mapping; a filter is returned as it is, None is one that all items pass.
            where: what it is called in messages.
        Raises:
            InputError: naming the key that is unknown, or of a wrong type.
        """
        if isinstance(value, Filter):
            return value
        if value is None:
            return cls()
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: expected a mapping, found {_show(value)}")
        _check_keys(value, [field.name for field in dataclasses.fields(cls)], where)
        fields = value.get("fields", {})
        if not isinstance(fields, Mapping):
            raise InputError(f"{where}.fields: expected a mapping of fields to rules, found {_show(fields)}")
        rules = {str(column): FieldRule.parse(rule, f"{where}.fields.{column}") for column, rule in fields.items()}
        only = value.get("only")
        return cls(
            fields=rules,
            blocked=_ids(value.get("blocked", ()), f"{where}.blocked"),
            only=None if only is None else _ids(only, f"{where}.only"),
        )


def _ids(value: Any, where: str) -> frozenset[str]:
    if not isinstance(value, list | tuple | set | frozenset):
        raise InputError(f"{where}: expected a list of item ids, found {_show(value)}")
    wrong = next((one for one in value if isinstance(one, bool) or not isinstance(one, str | int)), None)
    if wrong is not None:
        raise InputError(f"{where}: {_show(wrong)} is no item id")
    return frozenset(str(one) for one in value)


def _wanted(value: Any, where: str) -> Wanted:
    plain = field_value(value, where) if isinstance(value, str | bool | int | float) else None
    if plain is None or isinstance(plain, tuple):
        raise InputError(f"{where}: {_show(value)} is no text, number or boolean")
    return plain


def _check_keys(value: Mapping[Any, Any], known: list[str], where: str) -> None:
    for key in value:
        if key not in known:
            hint = nearest(str(key), known)
            raise InputError(f"{where}: unknown key {str(key)[:60]!r}.{hint} Known here: {', '.join(known)}")


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
