"""The items of a recommender at one moment.

Shapes: N rows, D width of vectors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch

from peftrec.retrieval import Allowed, FieldRule, FieldView, Filter, IndexView

_MOST_CHOICES = 16
_EQUAL_LENGTHS = 1e-4


@dataclasses.dataclass(frozen=True)
class Choice:
    """A filter whose ids are rows.

    Args:
        rules: of fields.
        blocked: rows that are left out.
        only: rows that alone may come back; None asks nothing.
    """

    rules: Mapping[str, FieldRule]
    blocked: frozenset[int]
    only: frozenset[int] | None

    @classmethod
    def of(cls, wanted: Filter | None, rows: Mapping[str, int]) -> Choice:
        """Return a filter with rows for its ids; ids that no item has are left out."""
        if wanted is None:
            return cls({}, frozenset(), None)
        only = None if wanted.only is None else frozenset(rows[item] for item in wanted.only if item in rows)
        return cls(wanted.fields, frozenset(rows[item] for item in wanted.blocked if item in rows), only)

    @property
    def is_empty(self) -> bool:
        """Whether everything passes."""
        return not self.rules and not self.blocked and self.only is None


@dataclasses.dataclass(frozen=True, eq=False)
class StockView:
    """The items at one moment.

    Args:
        num_rows: N: a row an item, and one more for each text that an item had before.
        ids: of each row; more may follow.
        titles: likewise.
        added: when each row was added, seconds since 1970, NaN for those of the training; likewise.
        index: None where nothing has vectors.
        lengths_N: of the vectors; None where there are none.
        live: rows that may come back; None where all may.
        popularity_N: training events.
        fields: of each row.
    """

    num_rows: int
    ids: Sequence[str]
    titles: Sequence[str]
    added: Sequence[float]
    index: IndexView | None
    lengths_N: torch.Tensor | None
    live: Allowed | None
    popularity_N: torch.Tensor
    fields: FieldView
    _choices: dict[object, Allowed] = dataclasses.field(default_factory=dict)

    @cached_property
    def is_unit(self) -> bool:
        """Whether the index orders items as the cosine does: all vectors of length 1 and no bias."""
        assert self.index is not None
        assert self.lengths_N is not None
        return float((self.lengths_N - 1).abs().amax()) < _EQUAL_LENGTHS and not bool(self.index.bias_N.any())

    def allowed(self, choice: Choice) -> Allowed | None:
        """Return the rows that pass a filter; None where all do.

        Raises:
            InputError: if a rule does not fit the fields.
        """
        if choice.is_empty:
            return self.live
        # Before it is looked for, so that a rule for True is not answered with that for 1.
        self.fields.check(choice.rules)
        key = (frozenset(choice.rules.items()), choice.blocked, choice.only)
        found = self._choices.get(key)
        if found is None:
            found = self._choose(choice)
            if len(self._choices) >= _MOST_CHOICES:
                self._choices.clear()
            self._choices[key] = found
        return found

    def _choose(self, choice: Choice) -> Allowed:
        passed_N = self.fields.mask(choice.rules)
        mask_N = np.ones(self.num_rows, dtype=bool) if passed_N is None else passed_N.copy()
        if choice.only is not None:
            chosen_N = np.zeros(self.num_rows, dtype=bool)
            chosen_N[list(choice.only)] = True
            mask_N &= chosen_N
        mask_N[list(choice.blocked)] = False
        there_N = torch.from_numpy(mask_N).to(self.popularity_N.device)
        return Allowed(there_N if self.live is None else there_N & self.live.mask_N)
