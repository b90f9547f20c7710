"""Items taken into a recommender, changed, and taken out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from peftrec.config import InputError
from peftrec.data.item_field import FieldValue
from peftrec.explaining import Subject
from peftrec.models import RecommenderModel, given_features
from peftrec.publishing import EnsembleRun, Run
from peftrec.recommender.new_rows import NewRows
from peftrec.recommender.stock import Stock

Attributes = Mapping[str, Any]
Fields = Mapping[str, Any]


class Shelving:
    """Changes the items of a run; one change at a time.

    Args:
        run: whose model encodes items.
        stock: the items.
    """

    def __init__(self, run: Run, stock: Stock) -> None:
        self._run, self._stock = run, stock
        self._trained = dict(run.catalogue.places)
        # What has been told of items since, for those whose texts change later.
        self._attributes: dict[str, Attributes] = {}

    def add(
        self,
        ids: Sequence[str | int],
        texts: Sequence[str],
        titles: Sequence[str] | None,
        attributes: Sequence[Attributes] | None,
        fields: Sequence[Fields] | None,
    ) -> None:
        """See `Recommender.add_items`."""
        names = [str(item_id) for item_id in ids]
        titles = texts if titles is None else titles
        if not len(names) == len(texts) == len(titles):
            counts = f"{len(names)} ids, {len(texts)} texts and {len(titles)} titles"
            raise InputError(f"{counts}; there must be one of each")
        with self._stock.writing, self._stock.asking:
            known = set[str]()
            for item_id, text in zip(names, texts, strict=True):
                if item_id in self._stock or item_id in known:
                    raise InputError(f"item '{item_id}' is in the catalogue already")
                _check_text(item_id, text)
                known.add(item_id)
            model = self._model()
            if not names:
                return
            rows = self._fields(names, fields) or [{} for _ in names]
            features = given_features(model.item_encoder.attributes, attributes, "item", _called(names))
            vectors_CD = model.encode_new_items(list(texts), features)
            # Back again, an item is a new one: nothing that was told of it holds.
            for number, name in enumerate(names):
                self._trained.pop(name, None)
                self._attributes[name] = {} if attributes is None else attributes[number]
            zeros = vectors_CD.new_zeros(len(names))
            self._put(names, texts, titles, rows, zeros, vectors_CD, zeros, model)
        self._stock.settle()

    def update(
        self,
        ids: Sequence[str | int],
        texts: Sequence[str] | None,
        titles: Sequence[str] | None,
        attributes: Sequence[Attributes] | None,
        fields: Sequence[Fields] | None,
    ) -> None:
        """See `Recommender.update_items`."""
        names = [str(item_id) for item_id in ids]
        for what, given in (("texts", texts), ("titles", titles), ("attributes", attributes), ("fields", fields)):
            if given is not None and len(given) != len(names):
                raise InputError(f"{len(names)} ids and {len(given)} {what}; there must be one of each")
        with self._stock.writing, self._stock.asking:
            rows = self._rows(names)
            changes = self._fields(names, fields)
            if texts is None and attributes is None:
                self._stock.change(rows, titles, changes)
                return
            model = self._model()
            if not names:
                return
            for name, text in zip(names, texts or (), strict=texts is not None):
                _check_text(name, text)
            texts = [self._stock.text(row) for row in rows] if texts is None else texts
            titles = [self._stock.title(row) for row in rows] if titles is None else titles
            vectors_CD = self._encoded(model, names, texts, attributes)
            view = self._stock.view
            assert view.index is not None
            places = torch.tensor(rows, device=view.popularity_N.device)
            merged = [
                view.fields.values(row) | change for row, change in zip(rows, changes or [{}] * len(rows), strict=True)
            ]
            counts, bias = view.popularity_N[places], view.index.bias_N[places]
            self._put(names, texts, titles, merged, counts, vectors_CD, bias, model, replaced=rows)
            for number, name in enumerate(names if attributes is not None else ()):
                assert attributes is not None
                self._attributes[name] = attributes[number]
        self._stock.settle()

    def remove(self, ids: Sequence[str | int]) -> None:
        """See `Recommender.remove_items`."""
        names = [str(item_id) for item_id in ids]
        with self._stock.writing:
            rows = self._rows(names)
            if names:
                self._stock.remove(names, rows)

    def subject(self, row: int) -> Subject:
        """Return what the vector of a row was made from; whoever asks holds `writing` of the stock."""
        name, model = self._stock.item_id(row), self._model()
        part, features = model.item_encoder.attributes, None
        if part is not None and name in self._attributes:
            features = given_features(part, [self._attributes[name]], "item", _called([name]))
        return Subject(self._stock.text(row), self._trained.get(name), features)

    def _encoded(
        self,
        model: RecommenderModel,
        names: Sequence[str],
        texts: Sequence[str],
        attributes: Sequence[Attributes] | None,
    ) -> torch.Tensor:
        """Return vectors of items that are there: with other texts, with what else is known of them."""
        items_C = torch.tensor([self._trained.get(name, -1) for name in names], device=model.device)
        part = model.item_encoder.attributes
        if attributes is not None or part is None:
            features = given_features(part, attributes, "item", _called(names))
            return model.encode_new_items(list(texts), features, items_C)
        # Attributes of the training stay where nothing else has been told since.
        told = [name in self._attributes for name in names]
        vectors: list[torch.Tensor | None] = [None] * len(names)
        for since in (False, True):
            group = [number for number, one in enumerate(told) if one == since]
            if not group:
                continue
            rows = [self._attributes[names[number]] for number in group] if since else None
            features = given_features(part, rows, "item", _called([names[number] for number in group]))
            found = model.encode_new_items([texts[number] for number in group], features, items_C[group])
            for number, vector in zip(group, found, strict=True):
                vectors[number] = vector
        return torch.stack([vector for vector in vectors if vector is not None])

    def _put(
        self,
        names: Sequence[str],
        texts: Sequence[str],
        titles: Sequence[str],
        fields: Sequence[Mapping[str, FieldValue]],
        counts: torch.Tensor,
        vectors_CD: torch.Tensor,
        bias_C: torch.Tensor,
        model: RecommenderModel,
        replaced: Sequence[int] = (),
    ) -> None:
        if model.profiles is not None:
            model.profiles.tokens.add_items(texts)
        new = NewRows(
            ids=names, texts=texts, titles=titles, fields=fields, counts=counts, vectors_CD=vectors_CD, bias_C=bias_C
        )
        self._stock.add(new, replaced)

    def _model(self) -> RecommenderModel:
        if self._run.model is None:
            kind = "an ensemble" if isinstance(self._run, EnsembleRun) else "a baseline"
            raise InputError(f"this run is {kind}; it cannot take in new items")
        return self._run.model

    def _rows(self, names: Sequence[str]) -> list[int]:
        """Return the rows of items that are there, each once."""
        if len(set(names)) < len(names):
            twice = next(name for number, name in enumerate(names) if name in names[:number])
            raise InputError(f"item '{twice}' is named twice")
        return [self._stock.row(name) for name in names]

    def _fields(self, names: Sequence[str], fields: Sequence[Fields] | None) -> list[dict[str, FieldValue]] | None:
        if fields is None:
            return None
        if len(fields) != len(names):
            raise InputError(f"{len(names)} ids and fields of {len(fields)} items; there must be one of each")
        return self._stock.fields.read(fields, _called(names))


def _called(names: Sequence[str]) -> list[str]:
    return [f"item '{name}'" for name in names]


def _check_text(item_id: str, text: str) -> None:
    if not text.strip():
        raise InputError(f"item '{item_id}' has an empty text")
