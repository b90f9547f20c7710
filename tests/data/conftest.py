"""Small tables on disk, and sequences by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from peftrec.data import Cases, Dataset, Sequences, Split, SplitConfig, load_dataset
from peftrec.data.sources.tables import TablesConfig

INTERACTIONS = """user_id,item_id,rating,timestamp
u1,0012,5,1700000000
u1,b,4,1700000100
u1,c,3,1700000200
u2,b,5,1700000050
u2,0012,1,1700000150
u2,d,2,1700000250
u3,c,4,1700000300
"""
ITEMS = """item_id,title,category
0012,Red Wine,Drinks
b,Blue Cheese,Food
c,Green Tea,
d,Black Bread,Food
e,White Rice,Food
"""


@dataclass(frozen=True, kw_only=True)
class NoSplit(SplitConfig):
    """Everything trains, for tests that look at what cleaning leaves."""

    kind: ClassVar[str] = "none"

    def split(self, sequences: Sequences) -> Split:
        none = Cases(*(np.empty(0, dtype=np.int64) for _ in range(3)))
        return Split(sequences.lengths, none, none)


class Workspace:
    """A data folder with `interactions.csv` and `items.csv`, and loading from it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("interactions.csv", INTERACTIONS)
        self.write("items.csv", ITEMS)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.root / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    def config(self, **values: Any) -> TablesConfig:
        return TablesConfig(
            **{"root": str(self.root), "interactions": "interactions.csv", "items": "items.csv", **values}
        )

    def load(self, **values: Any) -> Dataset:
        return load_dataset(self.config(**values))

    def load_unsplit(self, **values: Any) -> Dataset:
        return self.load(split=NoSplit(), **values)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def make_sequences() -> Callable[..., Sequences]:
    def make(events: Sequence[Sequence[int]], times: Sequence[Sequence[int]] | None = None) -> Sequences:
        offsets = np.cumsum([0, *(len(user) for user in events)]).astype(np.int64)
        flat = np.array([item for user in events for item in user], dtype=np.int64)
        moments = None if times is None else np.array([time for user in times for time in user], dtype=np.int64)
        return Sequences(tuple(f"u{number}" for number in range(len(events))), offsets, flat, moments)

    return make
