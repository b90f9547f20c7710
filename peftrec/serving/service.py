"""One worker's recommender, store and threads."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import torch

from peftrec.config import InputError
from peftrec.recommender import Recommender
from peftrec.serving.event_store import EventStore, StoreUnavailable
from peftrec.serving.item_following import ItemFollower
from peftrec.serving.lane import Lane
from peftrec.serving.loading import load_recommender
from peftrec.serving.measurements import Measurements
from peftrec.serving.settings import ServiceSettings
from peftrec.serving.title_search import TitleSearch

# So many lists may wait for their explanations, and so many items for their words, which take a second or so each.
_MOST_REASONS: Final = 64
_MOST_WORDS: Final = 16
# A product with fewer numbers is done before a second thread has woken up, and its waiting would keep a core from HTTP.
_NUMBERS_A_THREAD: Final = 20_000_000
_log = logging.getLogger("peftrec.serving")
_T = TypeVar("_T")


class Service:
    """What requests are answered from.

    Lists are made in one thread, items encoded in another, HTTP is a third; lists are explained in one more and words
    found in yet another, so that no list waits for either.

    Args:
        settings: of the service.
        store: open; closed by `close`.
    Raises:
        InputError: if the run folder is damaged or does not fit its backbone, or rules or steps do not fit the run.
    """

    def __init__(self, settings: ServiceSettings, store: EventStore) -> None:
        self.settings, self.store = settings, store
        self._reload_number = store.reload_number()  # before loading: whoever asks meanwhile may mean a newer folder
        recommender = load_recommender(settings)
        self._follower = ItemFollower(store, recommender, settings.poll_seconds)
        torch.set_num_threads(settings.threads or _threads(recommender))
        recommender.warm_up()
        self.titles = TitleSearch()
        self.measurements = Measurements(settings.metrics_folder, self._gauges)
        self.measurements.expect_rules(recommender.rules)
        self._lists = ThreadPoolExecutor(1, "peftrec-lists")
        self._aside = ThreadPoolExecutor(1, "peftrec-aside")
        self.reasons, self.words = Lane("peftrec-reasons", _MOST_REASONS), Lane("peftrec-words", _MOST_WORDS)
        self._reloading = threading.Lock()
        self._watch = threading.Thread(target=self._watch_reloads, name="peftrec-reloads", daemon=True)
        self._stop = threading.Event()

    @property
    def recommender(self) -> Recommender:
        """The recommender of now; a request takes it once, so that a reload does not change it midway."""
        return self._follower.recommender

    @property
    def trouble(self) -> str | None:
        """Why requests cannot be answered as they should, or None."""
        return self._follower.trouble

    def start(self) -> None:
        """Begin to follow the store."""
        self._follower.start()
        self._watch.start()

    def close(self) -> None:
        """Stop all threads and close the store; what was promised is written."""
        self._stop.set()
        self._follower.stop()
        if self._watch.is_alive():
            self._watch.join()
        self.reasons.close()
        self.words.close()
        self._lists.shutdown()
        self._aside.shutdown()
        self.store.close()

    async def in_lists(self, work: Callable[[], _T]) -> _T:
        """Run what makes a list, in the thread that makes lists."""
        return await asyncio.get_running_loop().run_in_executor(self._lists, work)

    async def aside(self, work: Callable[[], _T]) -> _T:
        """Run what may take longer, so that no list waits for it."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, work)

    async def in_reload(self, work: Callable[[], _T]) -> _T:
        """Run what loads a run, for which neither lists nor searches wait."""
        return await asyncio.to_thread(work)

    async def applied(self, number: int) -> str | None:
        """Wait until a change of an item is in the index; return why it could not be, or None."""
        return await asyncio.wrap_future(self._follower.applied(number))

    def reload(self) -> None:
        """Load the run folder again and go on with it; requests are answered all the while.

        Raises:
            InputError: if folder, rules or steps are damaged or do not fit; then the old ones go on.
            StoreUnavailable: if the store cannot be read or told.
        """
        self._load_again()
        # The other workers follow; this one has, unless somebody else asks at the same moment.
        self._reload_number += 1
        self.store.request_reload().result()

    def reload_and_tell(self) -> None:
        """Reload in a thread of its own, where nobody waits for the outcome: it is logged."""
        threading.Thread(target=self._reload_and_tell, args=(self.reload,), name="peftrec-reload", daemon=True).start()

    def _load_again(self) -> None:
        with self._reloading:
            try:
                fresh = load_recommender(self.settings)
                fresh.warm_up()
                self._follower.replace(fresh)
            except InputError:
                self.measurements.reloads.labels("refused").inc()
                raise
            self.measurements.reloads.labels("done").inc()
            self.measurements.expect_rules(fresh.rules)
        _log.info("the run folder was loaded again: %d items", len(fresh))

    def _reload_and_tell(self, reload: Callable[[], None]) -> None:
        try:
            reload()
        except (InputError, StoreUnavailable) as error:
            _log.error("the run folder was not loaded again, the old one goes on: %s", error)
        except Exception as error:
            _log.exception("the run folder was not loaded again, the old one goes on: %s", type(error).__name__)

    def _watch_reloads(self) -> None:
        while not self._stop.wait(self.settings.poll_seconds):
            try:
                number = self.store.reload_number()
            except StoreUnavailable:
                continue  # the follower of items says so
            if number > self._reload_number:
                self._reload_number = number
                self._reload_and_tell(self._load_again)

    def _gauges(self) -> Mapping[str, tuple[str, float]]:
        counts = self.store.counts()
        return {
            "peftrec_items": ("Items that can be recommended", len(self.recommender)),
            "peftrec_store_events": ("Events in the store", counts.events),
            "peftrec_store_changed_items": ("Items added, updated or removed since training", counts.changed_items),
            "peftrec_ready": ("1 where requests are answered as they should be", float(self.trouble is None)),
        }


def _threads(recommender: Recommender) -> int:
    numbers = len(recommender) * 64
    return max(1, min(os.cpu_count() or 1, numbers // _NUMBERS_A_THREAD))
