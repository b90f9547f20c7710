"""What the service is told: what users did, and how items change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that a user did.

    Args:
        event_id: chosen by the sender; sending it again changes nothing.
        user_id: who.
        item_id: with what.
        time_ms: when, milliseconds since 1970; None takes the time of arrival.
        kind: as the run's data name kinds of events, or None.
    """

    event_id: str
    user_id: str
    item_id: str
    time_ms: int | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event as it is read back: with which item, of what kind, when (milliseconds since 1970), and its own id."""

    item_id: str
    kind: str | None
    time_ms: int
    event_id: str


@dataclass(frozen=True, slots=True)
class Appended:
    """How many events of a request are new, and how many were stored before."""

    stored: int
    repeated: int


@dataclass(frozen=True, slots=True)
class ItemContent:
    """What an item says about itself.

    Args:
        text: what the encoder reads.
        title: for people.
        attributes: columns of `data.item_attributes` to values, or None.
        fields: columns of `data.item_fields` to values, or None.
    """

    text: str
    title: str
    attributes: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ItemChange:
    """How an item stands after a change.

    Args:
        number: changes are numbered upwards over all items.
        item_id: which item.
        content: None where it was removed.
    """

    number: int
    item_id: str
    content: ItemContent | None
