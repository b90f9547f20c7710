"""The protocol of event stores; SQLite is the one that comes with the service."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from peftrec.serving.event import Appended, Event, ItemChange, ItemContent, PastEvent


class StoreConflict(Exception):  # noqa: N818  it is no fault of the store
    """What was to be written contradicts what is stored; nothing was written."""


class StoreUnavailable(Exception):  # noqa: N818
    """The store could not do it now: the disk is full, the file is locked or damaged."""


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """How many events and changed items a store holds."""

    events: int
    changed_items: int


@dataclass(frozen=True, slots=True)
class WrittenItem:
    """What a change has written.

    Args:
        number: of the change.
        before: how the item stood in the store before it; None where it was not there.
        is_new: whether nobody had the item before, neither the store nor the run.
    """

    number: int
    before: ItemChange | None
    is_new: bool


class EventStore(Protocol):
    """Keeps events and changed items. All methods may be called from any thread.

    What is written is on the disk when the future is done, and not before. Its exception is `StoreConflict` or
    `StoreUnavailable`; the others raise `StoreUnavailable`.
    """

    def append(self, events: Sequence[Event]) -> Future[Appended]:
        """Store all of some events or, where one has the id of a stored event and other content, none of them."""
        ...

    def history(self, user_id: str, limit: int) -> list[PastEvent]:
        """Return the newest events of a user, oldest first: by time, of one time in the order of arrival."""
        ...

    def delete_user(self, user_id: str) -> Future[int]:
        """Erase all events of a user from the files too; the result is how many there were."""
        ...

    def add_items(self, items: Sequence[tuple[str, ItemContent]]) -> Future[list[WrittenItem]]:
        """Store new items, all or none; one that is stored and not removed is a conflict."""
        ...

    def update_item(self, item_id: str, content: ItemContent) -> Future[WrittenItem]:
        """Store new content of an item; one that was removed is a conflict."""
        ...

    def remove_item(self, item_id: str) -> Future[WrittenItem]:
        """Store that an item is gone; one that was removed before is a conflict."""
        ...

    def revert_item(self, item_id: str, written: WrittenItem) -> Future[int | None]:
        """Take a change back, unless another has come after it; the result is the number of the change that does so."""
        ...

    def item_changes(self, after: int) -> list[ItemChange]:
        """Return how the items stand that changed after the change of that number, in the order of changes."""
        ...

    def request_reload(self) -> Future[int]:
        """Tell all services on this store to load their run folder again; the result is `reload_number`."""
        ...

    def reload_number(self) -> int:
        """Return how often a reload has been asked for."""
        ...

    def counts(self) -> StoreCounts:
        """Return how much is stored."""
        ...

    def close(self) -> None:
        """Write what is waiting, and close the files."""
        ...
