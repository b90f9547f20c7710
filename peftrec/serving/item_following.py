"""From the store to the index: what has changed of items is encoded, together, and can be recommended."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping, Sequence
from concurrent.futures import Future
from itertools import groupby
from typing import Any, Final

from peftrec.config import InputError
from peftrec.recommender import Recommender
from peftrec.serving.event import ItemChange
from peftrec.serving.event_store import EventStore, StoreUnavailable

_AT_ONCE: Final = 256
_MOST_FAILURES: Final = 10_000
_log = logging.getLogger("peftrec.serving")


class ItemFollower:
    """A thread that brings a recommender to where the store is; requests that arrive together are encoded in one pass.

    Args:
        store: with the changes, of this process and of others.
        recommender: as the run folder has it; changed in place.
        poll_seconds: how often changes of others are looked for.
    """

    def __init__(self, store: EventStore, recommender: Recommender, poll_seconds: float) -> None:
        self._store, self._poll_seconds = store, poll_seconds
        self.recommender = recommender
        self.trouble: str | None = None
        self._applied = bring_up(store, recommender, 0)
        self._changing = threading.Lock()
        self._waiting: list[tuple[int, Future[str | None]]] = []
        # Of the newest changes: it may be that one is looked at before anybody waits for it.
        self._failures: OrderedDict[int, str] = OrderedDict()
        self._wake, self._stop = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="peftrec-items", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following."""
        self._stop = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        for _, future in self._waiting:
            future.set_exception(StoreUnavailable("the service stops"))

    def applied(self, number: int) -> Future[str | None]:
        """Return a future that is done when a change is in the index; its result is why it could not be, or None."""
        future: Future[str | None] = Future()
        self._waiting.append((number, future))
        self._wake.set()
        return future

    def replace(self, recommender: Recommender) -> None:
        """Go on with another recommender, which gets all changes first; until then the old one is followed."""
        reached = bring_up(self._store, recommender, 0)
        with self._changing:
            self._applied = bring_up(self._store, recommender, reached)
            self.recommender = recommender

    def _work(self) -> None:
        while not self._stop:
            self._wake.wait(self._poll_seconds)
            self._wake.clear()
            waiting = list(self._waiting)
            try:
                with self._changing:
                    self._applied = bring_up(self._store, self.recommender, self._applied, self._failures)
                self.trouble = None
            except StoreUnavailable as error:
                self.trouble = f"the event store: {error}"
            except Exception as error:  # the thread must not end: it is asked again
                self.trouble = f"items cannot be brought into the index ({type(error).__name__})"
                _log.exception("items cannot be brought into the index")
            for number, future in waiting:
                if self.trouble is not None:
                    future.set_exception(StoreUnavailable(self.trouble))
                elif number <= self._applied:
                    future.set_result(self._failures.get(number))
                else:
                    continue
                self._waiting.remove((number, future))
            while len(self._failures) > _MOST_FAILURES:
                self._failures.popitem(last=False)


def bring_up(
    store: EventStore, recommender: Recommender, applied: int, failures: MutableMapping[int, str] | None = None
) -> int:
    """Bring a recommender from one change to the last.

    Args:
        store: with the changes.
        recommender: changed in place.
        applied: the number of the last change that it has.
        failures: gets the numbers of changes that it cannot take in, and why.
    Returns:
        The number of the last change.
    """
    changes = store.item_changes(applied)
    for start in range(0, len(changes), _AT_ONCE):
        for number, reason in _apply(recommender, changes[start : start + _AT_ONCE]):
            _log.warning("change %d of an item was not taken in: %s", number, reason)
            if failures is not None:
                failures[number] = reason
    return changes[-1].number if changes else applied


def _apply(recommender: Recommender, changes: Sequence[ItemChange]) -> Iterator[tuple[int, str]]:
    sorts = {change.number: _sort(recommender, change) for change in changes}
    for sort, group in groupby(sorted(changes, key=lambda one: sorts[one.number]), lambda one: sorts[one.number]):
        same = list(group)
        try:
            _apply_same(recommender, same, *sort)
        except InputError as error:
            if len(same) == 1:
                yield same[0].number, str(error)
                continue
            for change in same:  # one of them is at fault: the others are taken in
                yield from _apply(recommender, [change])


def _sort(recommender: Recommender, change: ItemChange) -> tuple[str, bool]:
    """Return what is to be done with an item: items of one sort are done in one pass."""
    is_there, content = change.item_id in recommender, change.content
    if content is None:
        return ("remove" if is_there else "nothing", False)
    if not is_there:
        return ("add", content.attributes is not None)
    is_read = content.attributes is not None or content.text != recommender.item(change.item_id).text
    return ("encode" if is_read else "describe", content.attributes is not None)


def _apply_same(recommender: Recommender, changes: Sequence[ItemChange], what: str, has_attributes: bool) -> None:
    ids = [change.item_id for change in changes]
    if what == "remove":
        recommender.remove_items(ids)
    if what in ("remove", "nothing"):
        return
    contents = [change.content for change in changes if change.content is not None]
    attributes = [one.attributes or {} for one in contents] if has_attributes else None
    texts, titles = [one.text for one in contents], [one.title for one in contents]
    fields: list[dict[str, Any]] | None = [dict(one.fields or {}) for one in contents]
    if what == "add":
        has_fields = any(one.fields for one in contents)
        recommender.add_items(ids, texts, titles, attributes, fields if has_fields else None)
        return
    # An update says all there is: a field that it leaves out becomes empty.
    fields = [
        dict.fromkeys(recommender.item(item_id).fields, None) | dict(one.fields or {})
        for item_id, one in zip(ids, contents, strict=True)
    ]
    fields = fields if any(fields) else None
    if what == "describe":
        recommender.update_items(ids, titles=titles, fields=fields)
    else:
        recommender.update_items(ids, texts, titles, attributes, fields)
