"""The items of a recommender: added, changed and removed by one, while others make lists of them.

Shapes: B users, L places of a history, N rows, C items that are added, D width of vectors.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError, nearest
from peftrec.data import Catalogue
from peftrec.data.given_history import right_aligned
from peftrec.data.item_field import FieldValue
from peftrec.evaluation import ProductScores, UserScores
from peftrec.recommender.new_rows import NewRows
from peftrec.recommender.row_item import row_items
from peftrec.recommender.stock_view import Choice, StockView
from peftrec.retrieval import Allowed, FieldTable, Filter, IndexConfig, Item, ItemIndex
from peftrec.retrieval.exact_index import ExactConfig
from peftrec.retrieval.growing import GrowingRows

_Ints = NDArray[np.int64]
_MOST_COMPARED = 50_000  # as catalogues do


class Stock:
    """The items, a row each. A row is never another item's: an item with a new text gets a new row.

    Whoever makes lists holds a view, which never changes. Writers hold `writing` from what they look at to what they
    change; readers wait for them only while names and views change together, which takes no time. `asking` is held by
    whoever tells models of users or items, where models hold what they are told.

    Args:
        catalogue: of the run.
        train_counts_N: training events of each item, where the scores are.
        index: of its items, in their order; None where they have no vectors.
    """

    def __init__(self, catalogue: Catalogue, train_counts_N: torch.Tensor, index: ItemIndex | None) -> None:
        self.index = index
        self.writing = threading.RLock()
        self.asking = threading.RLock()
        self._reading = threading.Lock()
        self._ids, self._texts, self._titles = (list(part) for part in _parts(catalogue))
        self._added = [math.nan] * len(catalogue)
        # Told of items before any list can have them; may refuse.
        self.judge: Callable[[Sequence[int], Sequence[Item]], None] = lambda rows, items: None  # noqa: ARG005
        # The newest row of each id that there ever was, and the ids whose row is not live.
        self._rows, self._removed = dict(catalogue.places), set[str]()
        self._counts = GrowingRows(train_counts_N)
        self._live = GrowingRows(torch.ones(len(catalogue), dtype=torch.bool, device=train_counts_N.device))
        self._fields = FieldTable(catalogue.fields)
        self._lengths = None if index is None else GrowingRows(_lengths(index.view.vectors_ND))
        self._catalogue: Catalogue | None = catalogue
        self._num_live = len(catalogue)
        self._view = self._make_view()

    @classmethod
    def of(
        cls, catalogue: Catalogue, train_counts_N: torch.Tensor, scorer: UserScores | ProductScores, index: IndexConfig
    ) -> Stock:
        """Return the items of a run.

        Args:
            catalogue: of the run.
            train_counts_N: training events of each item.
            scorer: whose vectors go into the index; one without them needs none.
            index: which.
        """
        # Scores of a second stage are no products, but their items have vectors too.
        vectors_ND, bias_N = (getattr(scorer, name, None) for name in ("vectors_ND", "bias_N"))
        counts_N = train_counts_N.float()
        if vectors_ND is None or bias_N is None:
            return cls(catalogue, counts_N, None)
        config = index if isinstance(scorer, ProductScores) else ExactConfig()
        return cls(catalogue, counts_N.to(vectors_ND.device), config.build(vectors_ND, bias_N))

    def __len__(self) -> int:
        return self._num_live

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._rows and item_id not in self._removed

    @property
    def view(self) -> StockView:
        """The items as they are now."""
        return self._view

    @property
    def fields(self) -> FieldTable:
        """The fields, for `writing` ones to read new values with."""
        return self._fields

    def readable(self, item_id: str) -> bool:
        """Return whether a history may hold an item: it is in the catalogue, or was."""
        return item_id in self._rows

    def row(self, item_id: str) -> int:
        """Return the row of an item of the catalogue.

        Raises:
            InputError: if it is not there, or no more.
        """
        if item_id in self._removed:
            raise InputError(f"item {item_id!r} has been removed")
        row = self._rows.get(item_id)
        if row is None:
            raise self._unknown(item_id)
        return row

    def item(self, item_id: str) -> Item:
        """Return what is known of an item of the catalogue; raises as `row`."""
        with self._reading:
            row, view = self.row_or_none(item_id), self._view
        if row is None:
            row = self.row(item_id)  # raises
        return Item(item_id=item_id, title=self._titles[row], text=self._texts[row], fields=view.fields.values(row))

    def row_or_none(self, item_id: str) -> int | None:
        """Return the row of an item of the catalogue, or None."""
        return None if item_id in self._removed else self._rows.get(item_id)

    def item_id(self, row: int) -> str:
        """Return the id of the item that a row is or was of."""
        return self._ids[row]

    def text(self, row: int) -> str:
        """Return the text of a row."""
        return self._texts[row]

    def title(self, row: int) -> str:
        """Return the title of a row."""
        return self._titles[row]

    def look_up(
        self, histories: Sequence[Sequence[str | int]], wanted: Filter | None = None
    ) -> tuple[_Ints, Choice, StockView]:
        """Return histories and a filter as rows, with the view that has them.

        Args:
            histories: item ids, oldest first.
            wanted: whose ids need not be there.
        Returns:
            Rows, int64 of shape (B, L), left-padded with -1; the filter; the view.
        Raises:
            InputError: if a history is a text, or an id was never there.
        """
        for history in histories:
            if isinstance(history, str):
                raise InputError(f"a history is a list of item ids, got the text {history!r}")
        named = [[str(item) for item in history] for history in histories]
        with self._reading:
            view = self._view
            choice = Choice.of(wanted, self._rows)
            try:
                found = [[self._rows[item] for item in history] for history in named]
            except KeyError as error:
                unknown = str(error.args[0])
            else:
                return right_aligned(found), choice, view
        # What the nearest id is takes long to find, and nobody shall wait for it.
        raise self._unknown(unknown)

    def sample_histories(self, num: int = 100) -> list[list[str]]:
        """Return histories of one item each, items spread evenly over the catalogue."""
        view = self._view
        rows = np.arange(view.num_rows) if view.live is None else view.live.rows_A.cpu().numpy()
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(num, len(rows))).round().astype(np.int64))
        return [[self._ids[row]] for row in rows[chosen].tolist()]

    def catalogue(self) -> Catalogue:
        """Return the items of the catalogue, in the order of their rows."""
        made = self._catalogue
        if made is not None:
            return made
        with self.writing:
            if self._catalogue is None:
                view = self._view
                rows = range(view.num_rows) if view.live is None else view.live.rows_A.tolist()
                columns = ([part[row] for row in rows] for part in (self._ids, self._texts, self._titles))
                fields = {
                    name: tuple(view.fields.column(name).value(row) for row in rows) for name in view.fields.names
                }
                ids, texts, titles = (tuple(column) for column in columns)
                self._catalogue = Catalogue(ids=ids, texts=texts, titles=titles, fields=fields)
            return self._catalogue

    def add(self, new: NewRows, replaced: Sequence[int] = ()) -> None:
        """Put in items, in the place of others with the same ids where these have rows.

        Args:
            new: the items.
            replaced: live rows that come back no more.
        """
        with self.writing:
            first = len(self._ids)
            gone = np.asarray(replaced, dtype=np.int64)
            self.judge(range(first, first + len(new.ids)), row_items(new.ids, new.titles, new.texts, new.fields))
            # All this lies behind what readers have.
            self._ids += new.ids
            self._texts += new.texts
            self._titles += new.titles
            # What is changed is no newer for it.
            self._added += [self._added[row] for row in replaced] or [time.time()] * len(new.ids)
            self._counts.append(new.counts)
            self._fields.append(new.fields)
            self._live.append(torch.ones(len(new.ids), dtype=torch.bool, device=new.counts.device))
            self._retire(gone)
            assert self.index is not None, "what has no vectors takes in no items"
            assert self._lengths is not None
            self.index.update(gone, new.vectors_CD, new.bias_C)
            self._lengths.append(_lengths(new.vectors_CD))
            self._num_live += len(new.ids) - len(gone)
            self._publish({item_id: first + place for place, item_id in enumerate(new.ids)})

    def remove(self, ids: Sequence[str], rows: Sequence[int]) -> None:
        """Let items come back no more; histories may hold them still."""
        with self.writing:
            gone = np.asarray(rows, dtype=np.int64)
            self._retire(gone)
            if self.index is not None:
                self.index.remove(gone)
            self._num_live -= len(gone)
            self._publish({}, removed=ids)

    def change(
        self, rows: Sequence[int], titles: Sequence[str] | None, fields: Sequence[Mapping[str, FieldValue]] | None
    ) -> None:
        """Give rows other titles, or other values of some fields."""
        with self.writing:
            ids, own, texts = ([part[row] for row in rows] for part in (self._ids, self._titles, self._texts))
            values = [
                {**self._view.fields.values(row), **(fields[at] if fields else {})} for at, row in enumerate(rows)
            ]
            self.judge(rows, row_items(ids, own if titles is None else titles, texts, values))
            if titles is not None:
                for row, title in zip(rows, titles, strict=True):
                    self._titles[row] = title
            if fields is not None:
                self._fields.replace(rows, fields)
            self._publish({})

    def items(self) -> list[Item]:
        """Return all rows as items, in order."""
        values = [self._view.fields.values(row) for row in range(len(self._ids))]
        return row_items(self._ids, self._titles, self._texts, values)

    def settle(self) -> None:
        """Do what changes have left to be done for the index."""
        if self.index is None:
            return
        before = self.index.view
        self.index.settle()
        if self.index.view is not before:
            with self.writing:
                self._publish({})

    def _retire(self, rows: _Ints) -> None:
        if len(rows):
            places = torch.from_numpy(rows).to(self._live.rows.device)
            self._live.replace(places, torch.zeros(len(rows), dtype=torch.bool, device=places.device))

    def _publish(self, rows: Mapping[str, int], removed: Sequence[str] = ()) -> None:
        view = self._make_view()
        with self._reading:
            self._rows.update(rows)
            self._removed.difference_update(rows)
            self._removed.update(removed)
            self._view, self._catalogue = view, None

    def _make_view(self) -> StockView:
        live = Allowed(self._live.rows) if self._num_live < len(self._ids) else None
        index = None if self.index is None else self.index.view
        lengths = None if self._lengths is None else self._lengths.rows
        vectors = index, lengths
        names = len(self._ids), self._ids, self._titles, self._added
        return StockView(*names, *vectors, live, self._counts.rows, self._fields.view)

    def _unknown(self, item_id: str) -> InputError:
        known = self._ids[:_MOST_COMPARED]
        return InputError(f"no item has the id {item_id!r}.{nearest(item_id, known)}")


def _lengths(vectors_CD: torch.Tensor) -> torch.Tensor:
    lengths_C: torch.Tensor = torch.linalg.vector_norm(vectors_CD, dim=1)
    return lengths_C


def _parts(catalogue: Catalogue) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    return catalogue.ids, catalogue.texts, catalogue.titles
