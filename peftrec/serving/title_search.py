"""Finding items by their titles."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from peftrec.data import Catalogue
from peftrec.recommender import Recommender


class TitleSearch:
    """Looks for words in titles, whatever their case. Titles are read once for each state of the catalogue."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._catalogue: Catalogue | None = None
        self._titles: Sequence[str] = ()

    def find(self, recommender: Recommender, query: str, k: int) -> list[str]:
        """Return ids of items.

        Args:
            recommender: whose items are searched.
            query: words; a title must hold all of them. None finds the first items of the catalogue.
            k: how many at most.
        Returns:
            Items whose titles begin with the query first, then in the order of the catalogue.
        """
        catalogue = recommender.catalogue
        with self._lock:
            if self._catalogue is not catalogue:
                self._catalogue, self._titles = catalogue, [title.casefold() for title in catalogue.titles]
            titles = self._titles
        whole = query.casefold().strip()
        words = whole.split()
        found = [place for place, title in enumerate(titles) if all(word in title for word in words)]
        found.sort(key=lambda place: not titles[place].startswith(whole))
        return [catalogue.ids[place] for place in found[:k]]


def described(recommender: Recommender, item_id: str) -> dict[str, Any]:
    """Return an item as the service answers it.

    Raises:
        InputError: if it is not there.
    """
    item = recommender.item(item_id)
    return {"item_id": item.item_id, "title": item.title, "text": item.text, "fields": dict(item.fields)}
