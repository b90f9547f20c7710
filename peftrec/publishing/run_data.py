"""The data of a run: those of its recipe, and the later events that it was updated with, which its private part keeps.

Everything needed to make them again lies in `private/updates/<number>/`: the rows as they were read, and what was made
of them.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any, Final

from peftrec.config import InputError
from peftrec.data import (
    Columns,
    DataConfig,
    Dataset,
    LaterPeriod,
    LaterTables,
    Timeline,
    begin_timeline,
    extend,
    load_dataset,
)
from peftrec.publishing.json_file import read_json
from peftrec.publishing.manifest import PRIVATE
from peftrec.publishing.run_folder import METRICS

UPDATES: Final = "updates"
_EVENTS, _ITEMS, _PERIOD = "events.parquet", "items.parquet", "period.json"


def load_run_data(folder: Path, config: DataConfig) -> Dataset:
    """Load what a run was trained on, or last updated with.

    Args:
        folder: of the run.
        config: the `data` section of its recipe.
    Raises:
        InputError: as of `load_run_timeline`.
    """
    return load_dataset(config) if num_updates(folder) == 0 else load_run_timeline(folder, config).dataset


def load_run_timeline(folder: Path, config: DataConfig) -> Timeline:
    """Load what a run was trained on with all that it was updated with, so that more can be put behind it.

    Args:
        folder: of the run.
        config: the `data` section of its recipe.
    Raises:
        InputError: as of `load_dataset`, or if the run's private part is not there or damaged.
    """
    timeline = begin_timeline(load_dataset(config))
    for number in range(1, num_updates(folder) + 1):
        tables, period = _read(folder / PRIVATE / UPDATES / str(number))
        timeline = extend(timeline, config, tables, period)
    return timeline


def num_updates(folder: Path) -> int:
    """Return how many times a run has been updated since it was trained.

    Raises:
        InputError: if what it was measured with is missing or damaged.
    """
    path = folder / METRICS
    stored = read_json(path)
    update = stored.get("update") if isinstance(stored, dict) else None
    if update is None:
        return 0
    number = update.get("number") if isinstance(update, dict) else None
    if type(number) is not int or number < 1:
        raise InputError(f"{path}: is damaged (update.number is {number!r})")
    return number


def write_update(parent: Path, folder: Path, tables: LaterTables, period: LaterPeriod) -> int:
    """Keep the later events in the private part of an updated run, behind those of earlier updates.

    Args:
        parent: the run that was updated.
        folder: of the new one.
        tables: as they were read.
        period: what was made of them.
    Returns:
        How many updates the new run now has behind it.
    """
    number = num_updates(parent) + 1
    kept = folder / PRIVATE / UPDATES
    kept.mkdir(parents=True, exist_ok=True)
    for earlier in range(1, number):
        shutil.copytree(parent / PRIVATE / UPDATES / str(earlier), kept / str(earlier))
    own = kept / str(number)
    own.mkdir()
    tables.events.frame.write_parquet(own / _EVENTS)
    if tables.items is not None:
        tables.items.frame.write_parquet(own / _ITEMS)
    content = {"columns": dataclasses.asdict(tables.columns), "period": dataclasses.asdict(period)}
    (own / _PERIOD).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return number


def _read(folder: Path) -> tuple[LaterTables, LaterPeriod]:
    from peftrec.data.table import RawTable, read_table  # loads polars

    if not folder.is_dir():
        raise InputError(
            f"{folder}: is missing; the run was updated with later events, which lie in its private part, and that is "
            f"not published: use the run folder that 'peftrec update' wrote"
        )
    content: Any = read_json(folder / _PERIOD)
    try:
        columns, period = Columns(**content["columns"]), LaterPeriod(**content["period"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / _PERIOD}: is damaged ({error!r})") from None
    items: RawTable | None = None
    if (folder / _ITEMS).is_file():
        items = read_table(folder / _ITEMS)
    return LaterTables(read_table(folder / _EVENTS), items, columns), period
