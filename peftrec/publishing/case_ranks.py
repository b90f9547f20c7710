"""Ranks of single cases without the ids of users and items: enough for a paired test, and fit to be published."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from peftrec.config import InputError
from peftrec.evaluation import Evaluation
from peftrec.metrics import MISS, rank_keys, rank_metrics
from peftrec.publishing.aside import written_aside
from peftrec.publishing.per_user import read_user_frame

_USER = "user"


def write_case_ranks(
    run: Path, path: Path, *, split: str = "test", names: Sequence[str] = ("model",)
) -> dict[str, Any]:
    """Write a Parquet file with a row a case, in the order of the split: `user`, a number, and the rank by each name.

    The column of the model is `rank`, that of a reference `rank_<name>`; a target that cannot be ranked has none.

    Args:
        run: a run folder with its private part.
        path: the file; what is there is replaced.
        split: `valid` or `test`.
        names: `model`, and references beside it.
    Returns:
        `file`, its name; `num_cases`; `sha256` of the ids of users and targets in this order: files with the same one
        are of the same cases.
    Raises:
        InputError: if what single users got is not there, is damaged, or is of other cases for one of the names.
    """
    digests, columns = [], {}
    for name in names:
        frame = read_user_frame(run, split, name)
        digests.append(_digest(frame))
        if digests[-1] != digests[0]:
            raise InputError(f"{run}: results of {name} on {split} are of other cases than those of {names[0]}")
        columns[_column(name)] = frame["rank"].replace_strict({MISS: None}, default=frame["rank"]).cast(pl.UInt32)
        users = frame["user_id"]
    numbers = users.rank("dense") - 1  # equal for equal ids in whatever order; told apart from others by the digest
    with written_aside(path) as file:
        pl.DataFrame({_USER: numbers.cast(pl.UInt32), **columns}).write_parquet(file, compression_level=19)
    return {"file": path.name, "num_cases": len(users), "sha256": digests[0]}


def read_case_ranks(
    path: Path, stored: Mapping[str, Any], block: Mapping[str, Any], *, name: str = "model"
) -> Evaluation:
    """Read what `write_case_ranks` wrote, as an evaluation whose targets are not told.

    Evaluations that are set side by side must have one `sha256`; only then are row numbers the same cases.

    Args:
        path: the file.
        stored: what `write_case_ranks` returned.
        block: `Evaluation.to_json` of the same evaluation, for metrics and protocol.
        name: `model`, or a reference.
    Raises:
        InputError: if the file is missing, damaged, of another length, or has no ranks by that name.
    """
    try:
        frame = pl.read_parquet(path, glob=False, columns=[_USER, _column(name)])
    except FileNotFoundError:
        raise InputError(f"{path}: is missing; paired tests read the ranks of single cases from it") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: holds no ranks of {name} ({error})") from None
    if frame.height != stored["num_cases"]:
        raise InputError(f"{path}: has {frame.height:,} cases, its JSON says {stored['num_cases']:,}")
    ranks = frame[_column(name)].cast(pl.Int64).fill_null(MISS).to_numpy()
    keys = [key for key in rank_keys(block["metrics"]) if "@" in key]
    names = list(dict.fromkeys(key.partition("@")[0] for key in keys))
    found = rank_metrics(ranks, sorted({int(key.partition("@")[2]) for key in keys}), names)
    return Evaluation(
        users=frame[_USER].cast(pl.Int64).to_numpy(),
        targets=np.arange(frame.height),
        ranks=ranks,
        per_user={key: found[key] for key in keys},
        repeat_target_share=block["repeat_target_share"],
        num_items=block["protocol"]["num_items"],
        exclude_history=block["protocol"]["history"] == "excluded",
        catalogue=block["protocol"]["catalogue"],
    )


def _column(name: str) -> str:
    return "rank" if name == "model" else f"rank_{name}"


def _digest(frame: pl.DataFrame) -> str:
    lines = zip(frame["user_id"].to_list(), frame["target_id"].to_list(), strict=True)
    return hashlib.sha256("".join(f"{user!r},{target!r}\n" for user, target in lines).encode()).hexdigest()
