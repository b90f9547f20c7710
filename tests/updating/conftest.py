"""A run on the earlier part of the toy data, and what happened after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

START = 1_600_000_000
LAST = START + 40_000  # the last event of the run's data is earlier


def write_later(folder: Path, *, new_items: bool = True) -> Path:
    """Write events after those of the toy data: each kind is now walked through backwards, and has an item more."""
    generator = np.random.default_rng(3)
    rows = ["user_id,item_id,timestamp"]
    for user in range(70):  # ten of them are new
        group = ("wine", "cheese", "bread", "tea")[int(generator.integers(4))]
        place = int(generator.integers(9))
        for event in range(int(generator.integers(6, 10))):
            name = f"{group}10" if new_items and place == 4 else f"{group}{place}"
            rows.append(f"u{user},{name},{LAST + 1000 * event + user}")
            place = (place - 1) % 9
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "later.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    items = [f"{group}10,huge {group},{group}" for group in ("wine", "cheese", "bread", "tea")]
    items += ["wine0,another title,wine", "tea11,cold herb tea,tea"]
    (folder / "new_items.csv").write_text("\n".join(["item_id,title,category", *items]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `later.csv` and `new_items.csv`."""
    return write_later(tmp_path_factory.mktemp("later"))


@pytest.fixture(scope="session")
def parent(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with texts and ids on the toy data; read only."""
    from peftrec.run import train

    folder = tmp_path_factory.mktemp("parent") / "run"
    train(make_recipe("training.num_epochs=3", "encoder.inputs=text+ids", "encoder.item_bias=true", output_dir=folder))
    return folder


@pytest.fixture(scope="session")
def updated(parent: Path, later: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The run updated with the later events, and its metrics; read only."""
    from peftrec.updating import update

    folder = tmp_path_factory.mktemp("updated") / "run"
    metrics = update(parent, later / "later.csv", items=later / "new_items.csv", output=folder)
    return folder, metrics
