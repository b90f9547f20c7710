"""One field of all items, laid out so that a rule is answered without reading item after item.

Shapes: N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data.item_field import FieldValue, kind_of
from peftrec.retrieval.growing import GrowingRows
from peftrec.retrieval.item_filter import FieldRule, Wanted

_Mask = NDArray[np.bool_]


class FieldColumn(Protocol):
    """Values of one field that grow and change under one writer, while views of them are read."""

    def append(self, values: Sequence[FieldValue]) -> None:
        """Put values at the end."""
        ...

    def replace(self, places: Sequence[int], values: Sequence[FieldValue]) -> None:
        """Put others in place of some; views that were taken keep theirs."""
        ...

    @property
    def view(self) -> ColumnView:
        """The values as they are now."""
        ...


class ColumnView(Protocol):
    """The values of one field at one moment."""

    def check(self, rule: FieldRule, where: str) -> None:
        """Refuse a rule that asks for what such a field never holds.

        Raises:
            InputError: naming the field and the value.
        """
        ...

    def mask(self, rule: FieldRule) -> _Mask:
        """Return which items a rule lets through, shape (N,)."""
        ...

    def value(self, place: int) -> FieldValue:
        """Return the value of one item."""
        ...


class NumberColumn:
    """Numbers, NaN where one is missing."""

    def __init__(self, values: Sequence[FieldValue]) -> None:
        self._numbers = GrowingRows(_numbers(values))

    def append(self, values: Sequence[FieldValue]) -> None:
        """Put values at the end."""
        self._numbers.append(_numbers(values))

    def replace(self, places: Sequence[int], values: Sequence[FieldValue]) -> None:
        """Put others in place of some; views that were taken keep theirs."""
        self._numbers.replace(torch.tensor(places, dtype=torch.int64), _numbers(values))

    @property
    def view(self) -> NumberView:
        """The values as they are now."""
        return NumberView(self._numbers.rows.numpy())


class NumberView:
    """See `ColumnView`."""

    def __init__(self, numbers_N: NDArray[np.float64]) -> None:
        self._numbers_N = numbers_N

    def check(self, rule: FieldRule, where: str) -> None:
        """Refuse values that are no numbers."""
        for value in (*(rule.any_of or ()), *rule.none_of):
            if kind_of(value) != "number":
                raise InputError(f"{where}: holds numbers, so {value!r} is never among them")

    def mask(self, rule: FieldRule) -> _Mask:
        """Return which items a rule lets through, shape (N,)."""
        numbers = self._numbers_N
        passed = np.ones(len(numbers), dtype=bool)
        if rule.any_of is not None:
            passed &= np.isin(numbers, rule.any_of)
        if rule.none_of:
            passed &= ~np.isin(numbers, rule.none_of)
        # NaN is on no side of a bound.
        if rule.ge is not None:
            passed &= numbers >= rule.ge
        if rule.gt is not None:
            passed &= numbers > rule.gt
        if rule.le is not None:
            passed &= numbers <= rule.le
        if rule.lt is not None:
            passed &= numbers < rule.lt
        if rule.missing is not None:
            passed &= np.isnan(numbers) == rule.missing
        return passed

    def value(self, place: int) -> FieldValue:
        """Return the value of one item."""
        number = float(self._numbers_N[place])
        return None if np.isnan(number) else number


class LabelColumn:
    """Texts, booleans or lists of texts: each distinct value has a code, and items hold codes; 0 is missing.

    Codes are only ever added, so that views read the same tables as the writer.
    """

    def __init__(self, values: Sequence[FieldValue], *, boolean: bool) -> None:
        self._boolean = boolean
        self._values: list[FieldValue] = [None]
        self._code_of: dict[FieldValue, int] = {None: 0}
        self._holding: dict[Wanted, list[int]] = {}
        self._codes = GrowingRows(self._coded(values))

    def append(self, values: Sequence[FieldValue]) -> None:
        """Put values at the end."""
        self._codes.append(self._coded(values))

    def replace(self, places: Sequence[int], values: Sequence[FieldValue]) -> None:
        """Put others in place of some; views that were taken keep theirs."""
        self._codes.replace(torch.tensor(places, dtype=torch.int64), self._coded(values))

    @property
    def view(self) -> LabelView:
        """The values as they are now."""
        return LabelView(self._codes.rows.numpy(), self._values, self._holding, boolean=self._boolean)

    def _coded(self, values: Sequence[FieldValue]) -> torch.Tensor:
        return torch.tensor([self._code(value) for value in values], dtype=torch.int32)

    def _code(self, value: FieldValue) -> int:
        code = self._code_of.get(value)
        if code is None:
            code = len(self._values)
            # Readers look into `_holding` first: what they find there has its place in `_values`.
            self._values.append(value)
            for one in value if isinstance(value, tuple) else (value,):
                assert one is not None
                self._holding.setdefault(one, []).append(code)
            self._code_of[value] = code
        return code


class LabelView:
    """See `ColumnView`.

    Args:
        codes_N: of all items.
        values: by code.
        holding: the codes of the values in which each label is.
        boolean: whether labels are True and False, and not texts.
    """

    def __init__(
        self,
        codes_N: NDArray[np.int32],
        values: Sequence[FieldValue],
        holding: dict[Wanted, list[int]],
        *,
        boolean: bool,
    ) -> None:
        self._codes_N, self._values, self._holding, self._boolean = codes_N, values, holding, boolean

    def check(self, rule: FieldRule, where: str) -> None:
        """Refuse values of another kind, and bounds."""
        what = "true and false" if self._boolean else "texts"
        if rule.has_bounds:
            raise InputError(f"{where}: holds {what}; ge, gt, le and lt are for numbers")
        for value in (*(rule.any_of or ()), *rule.none_of):
            if kind_of(value) != ("boolean" if self._boolean else "text"):
                raise InputError(f"{where}: holds {what}, so {value!r} is never among them")

    def mask(self, rule: FieldRule) -> _Mask:
        """Return which items a rule lets through, shape (N,)."""
        wanted = None if rule.any_of is None else self._codes(rule.any_of)
        unwanted = self._codes(rule.none_of)
        passed = np.full(len(self._values), rule.any_of is None)
        if wanted is not None:
            passed[wanted] = True
        passed[unwanted] = False
        if rule.missing is not None:
            passed &= (np.arange(len(passed)) == 0) == rule.missing
        mask: _Mask = passed[self._codes_N]
        return mask

    def value(self, place: int) -> FieldValue:
        """Return the value of one item."""
        return self._values[int(self._codes_N[place])]

    def _codes(self, labels: Sequence[Wanted]) -> list[int]:
        return [code for label in labels for code in tuple(self._holding.get(label, ()))]


def make_column(values: Sequence[FieldValue]) -> NumberColumn | LabelColumn:
    """Lay out values of one kind; where all are missing the column is one of texts, until a value tells otherwise."""
    kind = next((kind for value in values if (kind := kind_of(value)) is not None), "text")
    return NumberColumn(values) if kind == "number" else LabelColumn(values, boolean=kind == "boolean")


def _numbers(values: Sequence[FieldValue]) -> torch.Tensor:
    return torch.tensor([np.nan if value is None else value for value in values], dtype=torch.float64)
