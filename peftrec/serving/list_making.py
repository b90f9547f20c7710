"""Lists as the service answers them: for users, and of similar items."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from peftrec.config import InputError
from peftrec.recommender import Recommender
from peftrec.retrieval import Recommendations
from peftrec.retrieval.reranking import Reranking
from peftrec.retrieval.reranking.mmr import Mmr
from peftrec.serving.fast_json import plain_json
from peftrec.serving.message import HistoryMessage, ListQuery, SimilarQuery
from peftrec.serving.one_user import OneUser

Answer = dict[str, Any]

_EXAMPLE: Final = '{"fields": {"category": {"any_of": ["tea"]}}}'


def list_for(recommender: Recommender, user: OneUser, wanted: ListQuery | HistoryMessage) -> Answer:
    """Return the list of a user.

    Raises:
        InputError: if the filter is wrong, the run does not read what it is told, or it has no vectors for diversity.
    """
    found = recommender.recommend(
        user.history,
        wanted.k,
        filter=read_filter(wanted.filter) if isinstance(wanted, ListQuery) else wanted.filter,
        exclude_history=wanted.exclude_history,
        age=wanted.age,
        user=user.user_id,
        reranking=_reranking(wanted.diversity),
        **user.told,
    )
    # Whoever is known by what else was told gets a list of the model's, and none that is merely popular.
    why = user.unknown_why if found.fallback else None
    answer = _answer(recommender, found, details=wanted.details)
    return answer | {"fallback": why, "skipped": user.skipped}


def similar_items(recommender: Recommender, item_id: str, query: SimilarQuery) -> Answer:
    """Return items like one.

    Raises:
        InputError: if the filter is wrong, or the run has no item vectors.
    """
    found = recommender.similar(item_id, query.k, filter=read_filter(query.filter), age=query.age)
    return _answer(recommender, found, details=query.details)


def read_filter(text: str | None) -> Mapping[str, Any] | None:
    """Read the filter of a query.

    Raises:
        InputError: if it is no JSON object.
    """
    if text is None:
        return None
    try:
        value = plain_json(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise InputError(f"filter: is no JSON ({type(error).__name__}); an example is {_EXAMPLE}") from None
    if not isinstance(value, dict):
        raise InputError(f"filter: is no JSON object; an example is {_EXAMPLE}")
    return value


def _reranking(diversity: float | None) -> Reranking | None:
    """Return the steps that a list is asked for with; None: the service's own."""
    if diversity is None:
        return None
    return Reranking(steps=(Mmr(diversity=diversity),) if diversity else ())


def _answer(recommender: Recommender, found: Recommendations, *, details: bool) -> Answer:
    items: list[Answer] = [
        {"rank": one.rank, "score": one.score, "item_id": one.item_id, "title": one.title, "source": one.source}
        for one in found
    ]
    for item in items if details else ():
        item["fields"] = fields_of(recommender, item["item_id"])
    suppressed = [
        {"item_id": one.item_id, "title": recommender.title(one.item_id), "rule": one.rule, "reason": one.reason}
        for one in found.suppressed
    ]
    return {"items": items, "fallback": None, "reason": found.reason, "skipped": [], "suppressed": suppressed}


def fields_of(recommender: Recommender, item_id: str) -> dict[str, Any]:
    """Return the fields of an item; none of one that was removed in this moment."""
    try:
        return dict(recommender.item(item_id).fields)
    except InputError:
        return {}
