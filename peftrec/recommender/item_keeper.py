"""The items that a recommender has: looked at, added, changed and removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peftrec.data import Catalogue
from peftrec.publishing import Run
from peftrec.recommender.shelving import Shelving
from peftrec.recommender.stock import Stock
from peftrec.retrieval import Item


class ItemKeeper:
    """The part of `Recommender` that is about its items.

    Args:
        run: whose model encodes items.
        stock: the items.
    """

    def __init__(self, run: Run, stock: Stock) -> None:
        self._stock = stock
        self._shelving = Shelving(run, stock)

    def __len__(self) -> int:
        return len(self._stock)

    def __contains__(self, item_id: object) -> bool:
        return isinstance(item_id, str | int) and str(item_id) in self._stock

    @property
    def catalogue(self) -> Catalogue:
        """Ids, texts, titles and fields of all items, added and updated ones at the end; made anew after changes."""
        return self._stock.catalogue()

    def item(self, item_id: str | int) -> Item:
        """Return what is known of an item.

        Raises:
            InputError: if it is not in the catalogue.
        """
        return self._stock.item(str(item_id))

    def readable(self, item_id: str | int) -> bool:
        """Return whether a history may hold an item: it is in the catalogue, or has been removed from it."""
        return self._stock.readable(str(item_id))

    def title(self, item_id: str | int) -> str | None:
        """Return the title of an item of the catalogue, or of one that has been removed; None where none is known."""
        if not self.readable(item_id):
            return None
        histories_BL, _, _ = self._stock.look_up([[item_id]])
        return self._stock.title(int(histories_BL[0, 0]))

    def add_items(
        self,
        ids: Sequence[str | int],
        texts: Sequence[str],
        titles: Sequence[str] | None = None,
        attributes: Sequence[Mapping[str, Any]] | None = None,
        fields: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Make new items recommendable from their texts and attributes, without training.

        Args:
            ids: new ids, or those of items that have been removed.
            texts: one an item, made as the recipe's template makes them.
            titles: for people; the texts where None.
            attributes: one mapping an item of columns of `data.item_attributes` to values, as the table of items has
                them; a column left out is missing. None leaves all out.
            fields: one mapping an item of `data.item_fields` to values; likewise.
        Raises:
            InputError: if an id exists already, a text is empty, a column or field is unknown, or the model reads
                neither.
        """
        self._shelving.add(ids, texts, titles, attributes, fields)

    def update_items(
        self,
        ids: Sequence[str | int],
        texts: Sequence[str] | None = None,
        titles: Sequence[str] | None = None,
        attributes: Sequence[Mapping[str, Any]] | None = None,
        fields: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Change items; the next list knows. What is None stays, and so does what training learned of an item alone.

        Other titles and fields cost nothing; other texts and attributes are encoded.

        Args:
            ids: of the catalogue, each once.
            texts: in place of the old.
            titles: likewise.
            attributes: likewise; a column left out is missing.
            fields: a field left out stays, one that is None is missing.
        Raises:
            InputError: if an item is not there, a text is empty, a column or field is unknown, or texts or attributes
                are given and the run cannot encode any.
        """
        self._shelving.update(ids, texts, titles, attributes, fields)

    def remove_items(self, ids: Sequence[str | int]) -> None:
        """Let items come back in no list. Histories may hold them still, and are read with them.

        Args:
            ids: of the catalogue, each once.
        Raises:
            InputError: if an item is not there; then none is removed.
        """
        self._shelving.remove(ids)
