"""One user as the service is told of them: by the store, or by a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from peftrec.config import InputError
from peftrec.recommender import Recommender
from peftrec.serving.event_store import EventStore
from peftrec.serving.message import ExplanationsMessage, HistoryMessage

_MOST_EVENTS: Final = 500
_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class OneUser:
    """One user.

    Args:
        history: items that a recommender can read, oldest first.
        told: what `Recommender.recommend` and `explain` take beside it.
        places: of the history among the events that were sent; None: they are the same.
        unknown_why: why the history has no item, where it has none.
        skipped: ids that no item has.
        user_id: None where it is not known.
    """

    history: Sequence[str]
    told: Mapping[str, Any]
    places: Sequence[int] | None
    unknown_why: str | None
    skipped: Sequence[str]
    user_id: str | None = None


def user_of_store(recommender: Recommender, store: EventStore, user_id: str) -> OneUser:
    """Return a user with the newest events that the store has."""
    past = store.history(user_id, _MOST_EVENTS)
    known = [event for event in past if recommender.readable(event.item_id)]
    reads = recommender.capabilities
    told: dict[str, Any] = {}
    if reads.event_kinds is not None:
        told["events"] = [_kind(reads.event_kinds, event.kind) for event in known]
    if reads.times:
        told["times"] = [_moment(event.time_ms) for event in known]
    why = "unknown user" if not past else "no item of the user's events is in the catalogue" if not known else None
    skipped: Sequence[str] = ()
    if len(known) < len(past):
        skipped = list(dict.fromkeys(event.item_id for event in past if not recommender.readable(event.item_id)))
    return OneUser([event.item_id for event in known], told, None, why, skipped, user_id)


def user_of_message(recommender: Recommender, message: HistoryMessage | ExplanationsMessage) -> OneUser:
    """Return a user with what was sent.

    Raises:
        InputError: if unknown items are named and not to be skipped, or not one time or kind is sent for each.
    """
    unknown = [item_id for item_id in message.history if not recommender.readable(item_id)]
    if unknown and message.unknown == "refuse":
        shown = ", ".join(repr(item_id) for item_id in unknown[:_NAMED]) + ", ..." * (len(unknown) > _NAMED)
        raise InputError(f'history: no item has the id {shown}; leave it out, or send "unknown": "skip"')
    _require_one_each("events", message.events, message.history)
    _require_one_each("times_ms", message.times_ms, message.history)
    kept = [place for place, item_id in enumerate(message.history) if recommender.readable(item_id)]
    told: dict[str, Any] = {}
    if message.events is not None:
        told["events"] = [message.events[place] for place in kept]
    if message.times_ms is not None:
        told["times"] = [_moment(message.times_ms[place]) for place in kept]
    if message.attributes is not None:
        told["attributes"] = message.attributes
    if message.user_attributes is not None:
        told["user_attributes"] = message.user_attributes
    why = "no item of the history is in the catalogue" if message.history else "the history is empty"
    history = [message.history[place] for place in kept]
    return OneUser(history, told, kept, None if history else why, list(dict.fromkeys(unknown)))


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _kind(kinds: Sequence[str], kind: str | None) -> str:
    """Return the kind of an event, or the first where it is not told or the run knows it no more."""
    return kind if kind is not None and kind in kinds else kinds[0]


def _require_one_each(name: str, given: Sequence[Any] | None, history: Sequence[str]) -> None:
    if given is not None and len(given) != len(history):
        raise InputError(f"{name}: there are {len(given)} for {len(history)} items of the history; send one of each")
