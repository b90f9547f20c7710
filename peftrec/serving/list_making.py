"""Lists as the service answers them: for users of the store, for histories that are sent, of similar items."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from peftrec.config import InputError
from peftrec.recommender import Recommender
from peftrec.serving.event_store import EventStore
from peftrec.serving.fast_json import plain_json
from peftrec.serving.message import HistoryMessage, ListQuery, SimilarQuery

_MOST_EVENTS: Final = 500
_NAMED: Final = 10
# Models are told of one user at a time.
_telling = threading.Lock()

Answer = dict[str, Any]


def list_for_user(recommender: Recommender, store: EventStore, user_id: str, query: ListQuery) -> Answer:
    """Return the list of a user of the store.

    Raises:
        InputError: if the filter is wrong.
    """
    past = store.history(user_id, _MOST_EVENTS)
    known = [event for event in past if recommender.readable(event.item_id)]
    data = recommender.recipe.data
    found = recommender.recommend(
        [event.item_id for event in known],
        query.k,
        filter=read_filter(query.filter),
        exclude_history=query.exclude_history,
        events=None if data.event_words is None else [_kind(data.event_words, event.kind) for event in known],
        times=[_moment(event.time_ms) for event in known] if reads_times(recommender) else None,
    )
    unknown = [event.item_id for event in past if not recommender.readable(event.item_id)]
    why = "unknown user" if not past else "no item of the user's events is in the catalogue" if not known else None
    return _answer(found, why, unknown)


def list_for_history(recommender: Recommender, message: HistoryMessage) -> Answer:
    """Return the list for a history that was sent.

    Raises:
        InputError: if it names unknown items and these are not to be skipped, the filter is wrong, or the run does not
            read what it is told.
    """
    unknown = [item_id for item_id in message.history if not recommender.readable(item_id)]
    if unknown and message.unknown == "refuse":
        shown = ", ".join(repr(item_id) for item_id in unknown[:_NAMED]) + ", ..." * (len(unknown) > _NAMED)
        raise InputError(f'history: no item has the id {shown}; leave it out, or send "unknown": "skip"')
    _require_one_each("events", message.events, message.history)
    _require_one_each("times_ms", message.times_ms, message.history)
    kept = [place for place, item_id in enumerate(message.history) if recommender.readable(item_id)]
    events, times = message.events, message.times_ms
    asked: dict[str, Any] = {
        "filter": message.filter,
        "exclude_history": message.exclude_history,
        "events": None if events is None else [events[place] for place in kept],
        "times": None if times is None else [_moment(times[place]) for place in kept],
    }
    history = [message.history[place] for place in kept]
    if message.attributes is not None or message.user_attributes is not None:
        asked |= {"attributes": message.attributes, "user_attributes": message.user_attributes}
        with _telling:
            found = recommender.recommend(history, message.k, **asked)
    else:
        found = recommender.recommend(history, message.k, **asked)
    why = None
    if found.fallback:
        why = "no item of the history is in the catalogue" if message.history else "the history is empty"
    return _answer(found, why, unknown)


def similar_items(recommender: Recommender, item_id: str, query: SimilarQuery) -> Answer:
    """Return items like one.

    Raises:
        InputError: if the filter is wrong, or the run has no item vectors.
    """
    return _answer(recommender.similar(item_id, query.k, filter=read_filter(query.filter)), None, [])


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


_EXAMPLE: Final = '{"fields": {"category": {"any_of": ["tea"]}}}'


def reads_times(recommender: Recommender) -> bool:
    """Whether the run reads when events happened."""
    return bool(getattr(recommender.recipe.user, "time_intervals", False))


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _kind(words: Mapping[str, str], kind: str | None) -> str:
    """Return the kind of an event, or the first where it is not told or the run knows it no more."""
    return kind if kind is not None and kind in words else next(iter(words))


def _require_one_each(name: str, given: Sequence[Any] | None, history: Sequence[str]) -> None:
    if given is not None and len(given) != len(history):
        raise InputError(f"{name}: there are {len(given)} for {len(history)} items of the history; send one of each")


def _answer(found: Any, fallback: str | None, unknown: Sequence[str]) -> Answer:
    return {
        "items": [
            {"rank": one.rank, "score": one.score, "item_id": one.item_id, "title": one.title, "source": one.source}
            for one in found
        ],
        "fallback": fallback,
        "reason": found.reason,
        "skipped": list(dict.fromkeys(unknown)),
    }
