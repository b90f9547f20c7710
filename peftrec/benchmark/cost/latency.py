"""Seconds of encoding a catalogue, of one user's list, and of one new item."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch

from peftrec.data import Dataset
from peftrec.methods import MethodConfig
from peftrec.models import RecommenderModel, scores_with
from peftrec.retrieval import Asked, best_lists

_QUERIES: Final = 50
_CATALOGUES: Final = 3
# A catalogue that takes longer is encoded once.
_LONG_SECONDS: Final = 60.0
_K: Final = 10

Spread = dict[str, Any]


def measure_queries(model: RecommenderModel, dataset: Dataset, method: MethodConfig) -> dict[str, dict[str, Any]]:
    """Measure encoding and queries; the method is folded into the backbone in the end, where it can be.

    Args:
        model: as trained by some steps.
        dataset: its catalogue and users.
        method: of the item encoder.
    Returns:
        `catalogue_seconds` and `query_seconds` of a cost; what a recipe cannot do is None.
    """
    model.eval()
    model.weights_changed()
    lists = _seconds(_lister(model, dataset), _QUERIES)
    encoder, texts = model.text_encoder, dataset.catalogue.texts
    catalogue: dict[str, Spread | None] = {"unmerged": None, "merged": None}
    new_item: dict[str, Spread | None] = {"unmerged": None, "merged": None}
    if encoder is not None:
        mergeable = method.declared().can_merge and bool(encoder.method.state_dict())
        for state in ("unmerged", "merged") if mergeable else ("unmerged",):
            if state == "merged":
                encoder.method.merge()
                encoder.model = encoder.method.model
            new_item[state] = _seconds(_new_items(model, texts), _QUERIES)
            catalogue[state] = _catalogue(encoder, texts)
    query = {"list": lists} | {f"new_item_{state}": spread for state, spread in new_item.items()}
    return {"catalogue_seconds": catalogue, "query_seconds": query}


def spread(values: list[float]) -> Spread:
    """Return values as a result tells them."""
    rounded = [float(f"{value:.5g}") for value in values]
    return {"min": min(rounded), "median": statistics.median(rounded), "max": max(rounded), "values": rounded}


def _lister(model: RecommenderModel, dataset: Dataset) -> Callable[[int], None]:
    """Return what makes the list of one user from stored item vectors."""
    scorer = scores_with(model, *model.encode_catalogue())
    cases = dataset.split.test
    popularity_N = torch.from_numpy(dataset.item_counts()).float()

    def make(number: int) -> None:
        place = number % len(cases)
        part = (dataset.sequences, place, place + 1)
        asked = Asked(
            cases.histories(*part),
            cases.users[place : place + 1],
            cases.event_histories(*part),
            cases.time_histories(*part),
            np.zeros(1, dtype=bool),
        )
        best_lists(scorer, asked, _K, popularity_N, exclude_history=True)

    return make


def _new_items(model: RecommenderModel, texts: Any) -> Callable[[int], None]:
    def encode(number: int) -> None:
        assert model.text_encoder is not None
        text = texts[number % len(texts)]
        model.text_encoder.encode(model.text_encoder.tokenize([text]))

    return encode


def _catalogue(encoder: Any, texts: Any) -> Spread:
    values: list[float] = []
    while len(values) < _CATALOGUES and (not values or values[0] < _LONG_SECONDS):
        began = time.perf_counter()
        encoder.encode(encoder.tokenize(list(texts)))
        _wait()
        values.append(time.perf_counter() - began)
    return spread(values)


def _seconds(query: Callable[[int], None], repeats: int) -> Spread:
    """Time a query as often as that, after a few that do not count."""
    for number in range(3):
        query(number)
    values = []
    for number in range(repeats):
        began = time.perf_counter()
        query(number)
        _wait()
        values.append(time.perf_counter() - began)
    return spread(values)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
