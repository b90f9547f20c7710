"""Ranks and metrics of single users, in `private/` of a run folder: what a paired test reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from peftrec.config import InputError
from peftrec.evaluation import Evaluation
from peftrec.publishing.aside import written_aside
from peftrec.publishing.manifest import PRIVATE

SAMPLED = "sampled"
"""Where rows of sampled candidates stand in `metrics.json`, and what the names of their files begin with."""
_USER, _TARGET, _RANK = "user_id", "target_id", "rank"
_MISSING = (
    f"{{path}}: is missing; a comparison reads the results of single users, which a run keeps in {PRIVATE}/ and which "
    f"are not published with it"
)
_KINDS = {_USER: pl.String, _TARGET: pl.String, _RANK: pl.Int64}


def write_per_user(
    folder: Path, split: str, name: str, evaluation: Evaluation, user_ids: Sequence[str], item_ids: Sequence[str]
) -> None:
    """Write `private/<split>_<name>.parquet`, a row for each user, as a whole or not at all.

    Other metrics that the file holds of the very same ranks stay in it.

    Args:
        folder: the run folder.
        split: `valid` or `test`.
        name: `model`, or a reference beside it; after `sampled_` where it was ranked among sampled candidates.
        evaluation: what was found.
        user_ids: ids of all users, by index.
        item_ids: ids of the catalogue, by index.
    """
    (folder / PRIVATE).mkdir(parents=True, exist_ok=True)
    columns: dict[str, Any] = {
        _USER: [user_ids[user] for user in evaluation.users],
        _TARGET: [item_ids[item] for item in evaluation.targets],
        _RANK: evaluation.ranks,
        **evaluation.per_user,
    }
    path = _path(folder, split, name)
    frame = _with_others(pl.DataFrame(columns), path)
    with written_aside(path) as file:
        frame.write_parquet(file)


def _with_others(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Add the metrics that stand in a file of the same users, targets and ranks; a file of others is not looked at."""
    try:
        there = pl.read_parquet(path, glob=False)
        same = there.height == frame.height and all(
            there[key].cast(kind).equals(frame[key].cast(kind)) for key, kind in _KINDS.items()
        )
    except (OSError, pl.exceptions.PolarsError):  # none, or a damaged one that is replaced
        return frame
    return frame.with_columns(there[key] for key in there.columns if key not in frame.columns) if same else frame


def read_per_user(
    folders: Sequence[str | Path], split: str, name: str | Sequence[str] = "model", *, sampled: bool = False
) -> list[Evaluation]:
    """Read what several runs found on a split, with users and targets numbered alike.

    Whatever stands beside user, target and rank is a metric; where it is missing it is NaN.

    Args:
        folders: run folders.
        split: `valid` or `test`.
        name: `model`, or a reference beside it; or one for each folder.
        sampled: read the ranks among sampled candidates instead of those in the whole catalogue.
    Returns:
        One evaluation a folder.
    Raises:
        InputError: if a folder is no run, its results of single users are not there, or a column is not of numbers.
    """
    frames, protocols = [], []
    names = [name] * len(folders) if isinstance(name, str) else name
    for folder, own in zip(map(Path, folders), names, strict=True):
        file = f"{SAMPLED}_{own}" if sampled else own
        try:
            results = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))[split]
            if sampled and SAMPLED not in results:
                raise InputError(
                    f"{folder}: was ranked in the whole catalogue alone; metrics among sampled candidates need "
                    f"evaluation.sampled_candidates in the recipe that is trained"
                )
            stored = (results[SAMPLED] if sampled else results)[own]
            frames.append(read_user_frame(folder, split, file))
        except FileNotFoundError as error:
            raise InputError(_MISSING.format(path=error.filename)) from None
        except InputError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder}: results of {own} on {split} are damaged ({error})") from None
        protocols.append(stored)
    users = _numbers(frames, _USER)
    items = _numbers(frames, _TARGET)
    return [
        Evaluation(
            users=_look_up(users, frame[_USER]),
            targets=_look_up(items, frame[_TARGET]),
            ranks=frame[_RANK].to_numpy(),
            per_user={key: frame[key].to_numpy() for key in frame.columns if key not in (_USER, _TARGET, _RANK)},
            repeat_target_share=stored["repeat_target_share"],
            num_items=stored["protocol"]["num_items"],
            exclude_history=stored["protocol"]["history"] == "excluded",
            catalogue=stored["protocol"]["catalogue"],
        )
        for frame, stored in zip(frames, protocols, strict=True)
    ]


def read_user_frame(folder: Path, split: str, name: str) -> pl.DataFrame:
    """Read the file that `write_per_user` wrote: `user_id`, `target_id`, `rank`, and a column a metric.

    Raises:
        InputError: if it is missing or damaged, or a column is not of numbers.
    """
    path = _path(folder, split, name)
    try:
        frame = pl.read_parquet(path, glob=False)
        kinds: Any = {**dict.fromkeys(frame.columns, pl.Float64), **_KINDS}
        return frame.cast(kinds)
    except FileNotFoundError:
        raise InputError(_MISSING.format(path=path)) from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{folder}: results of {name} on {split} are damaged ({error})") from None


def _path(folder: Path, split: str, name: str) -> Path:
    return folder / PRIVATE / f"{split}_{name}.parquet"


def _numbers(frames: Sequence[pl.DataFrame], column: str) -> dict[str, int]:
    ids = pl.concat([frame[column] for frame in frames]).unique(maintain_order=True)
    return {value: number for number, value in enumerate(ids)}


def _look_up(numbers: dict[str, int], ids: pl.Series) -> Any:
    return np.array([numbers[value] for value in ids], dtype=np.int64)
