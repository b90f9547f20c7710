"""Data sets made of rows of item numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def rows_dataset() -> Callable[..., Any]:
    """Make a data set whose users have these training events, oldest first, and one event each to be validated on."""
    from peftrec.data import Catalogue, Dataset, Sequences
    from peftrec.data.case import Cases
    from peftrec.data.report import CleaningReport
    from peftrec.data.split import Split

    def make(rows: list[list[int]], num_items: int, times: list[list[int]] | None = None) -> Dataset:
        names = tuple(f"i{number}" for number in range(num_items))
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        # The last item of the catalogue ends every sequence: whoever counts what does not train counts it.
        items = [item for row in rows for item in (*row, num_items - 1)]
        moments = None if times is None else [time for row in times for time in (*row, 10**6)]
        users = np.arange(len(rows), dtype=np.int64)
        cases = Cases(users, lengths, np.full(len(rows), num_items - 1, dtype=np.int64))
        return Dataset(
            catalogue=Catalogue(ids=names, texts=names, titles=names),
            sequences=Sequences(
                user_ids=tuple(f"u{number}" for number in range(len(rows))),
                offsets=np.append(0, np.cumsum(lengths + 1)).astype(np.int64),
                items=np.array(items, dtype=np.int64),
                times=None if moments is None else np.array(moments, dtype=np.int64),
            ),
            split=Split(lengths, cases, cases),
            report=CleaningReport(()),
        )

    return make
