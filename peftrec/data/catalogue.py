"""The items, numbered: what ids, texts and titles the indexes 0..N-1 stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError, nearest
from peftrec.data.item_field import FieldValue

_MAX_COMPARED = 50_000  # compared one by one; more would make people wait for an error message


@dataclass(frozen=True)
class Catalogue:
    """N items in the order of the item table; an item's index is its place here.

    Items that nobody has touched are here too: they are the cold items that text can recommend.

    Args:
        ids: the items' ids, distinct.
        texts: what the encoder reads, one an item, never empty.
        titles: what people are shown, one an item.
        fields: what else is kept of each item (`data.item_fields`), by column; none where nothing is.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    titles: tuple[str, ...]
    fields: Mapping[str, tuple[FieldValue, ...]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.texts) == len(self.titles):
            raise ValueError(
                f"a catalogue needs one text and one title an item: {len(self.ids)} ids, "
                f"{len(self.texts)} texts, {len(self.titles)} titles"
            )
        for column, values in self.fields.items():
            if len(values) != len(self.ids):
                raise ValueError(f"field {column!r} has {len(values)} values for {len(self.ids)} items")

    def __len__(self) -> int:
        return len(self.ids)

    def index(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The indexes of some ids.

        Args:
            ids: item ids, in any order, repeats allowed.
        Returns:
            Their indexes, int64, in the same order.
        Raises:
            InputError: naming the first id that no item has, and the nearest that one has.
        """
        if isinstance(ids, str):
            raise InputError(f"expected a list of item ids, got the text {ids!r}")
        try:
            return np.fromiter((self.places[item] for item in ids), dtype=np.int64, count=len(ids))
        except KeyError as error:
            unknown = error.args[0]
            hint = nearest(unknown, self.ids[:_MAX_COMPARED]) if isinstance(unknown, str) else " Item ids are text."
            raise InputError(f"no item has the id {unknown!r}.{hint}") from None

    @cached_property
    def places(self) -> dict[str, int]:
        """The index of each id."""
        places = {item: place for place, item in enumerate(self.ids)}
        if len(places) != len(self.ids):
            raise ValueError("item ids are not distinct")
        return places
