"""One side of a comparison: a run, or several runs of one recipe that differ in their seeds."""

from __future__ import annotations

import glob
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftrec.config import InputError
from peftrec.publishing.run_folder import ENSEMBLE, METRICS, RECIPE
from peftrec.recipe import load_recipe
from peftrec.training.same_recipe import flatten

# What tells the runs of one recipe apart. A baseline has a seed of its own.
_SEEDS = ("baseline.seed", "training.seed")
# What decides no result: where things lie, how many users are scored at once, who is told.
_FREE = (*_SEEDS, "output_dir", "data.root", "encoder.cache.folder", "evaluation.batch_users", "training.trackers")
_DATA = "data_sha256"


@dataclass(frozen=True)
class Arm:
    """Runs that count as one.

    Args:
        name: as it was given.
        folders: the run folders, in order of their seeds where there are several.
        seeds: of each; distinct.
    """

    name: str
    folders: tuple[Path, ...]
    seeds: tuple[int, ...]


def read_arm(given: str | Path | Sequence[str | Path]) -> Arm:
    """Find the run folders of one side of a comparison, and see that they are runs of one recipe.

    Args:
        given: a run folder; or several, as a sequence, in one text with commas between them, or as a pattern with `*`,
            `?` or `[...]` in it. A folder of that very name is always taken as it is.
    Returns:
        The arm.
    Raises:
        InputError: if a pattern finds nothing, a folder is no run or is named twice, or several differ in more than
            seeds and what decides no result; the keys that differ are named.
    """
    parts = [str(given)] if isinstance(given, str | Path) else [str(part) for part in given]
    name = ",".join(parts)
    folders = [folder for part in parts for folder in _folders(part)]
    if not folders:
        raise InputError(f"{name!r}: names no run folder")
    places = [folder.resolve() for folder in folders]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise InputError(f"{folders[number]}: is named twice in {name!r}")
    made = [_read(folder) for folder in folders]
    seeds = [_seed(values) for values in made]
    for folder, values in zip(folders[1:], made[1:], strict=True):
        _check_same(folders[0], made[0], folder, values)
    order = sorted(range(len(folders)), key=lambda row: seeds[row])
    for before, after in itertools.pairwise(order):
        if seeds[before] == seeds[after]:
            raise InputError(
                f"{folders[before]} and {folders[after]}: are both of seed {seeds[after]}; runs that count as one must "
                f"have different seeds"
            )
    return Arm(name, tuple(folders[row] for row in order), tuple(seeds[row] for row in order))


def _folders(part: str) -> list[Path]:
    if Path(part).exists():
        return [Path(part)]
    if "," in part:
        return [folder for piece in part.split(",") if piece.strip() for folder in _folders(piece.strip())]
    if not any(sign in part for sign in "*?["):
        return [Path(part)]
    # Path.glob takes no absolute patterns.
    found = sorted(path for path in map(Path, glob.glob(part)) if path.is_dir())  # noqa: PTH207
    if not found:
        raise InputError(f"{part!r}: no folder has such a name")
    return found


def _read(folder: Path) -> dict[str, Any]:
    """Return flat keys of all that a run was made with; members of an ensemble too."""
    if not (folder / RECIPE).is_file():
        raise InputError(f"{folder}: is not a run folder, or its run has not ended ({RECIPE} is missing)")
    made = flatten(load_recipe(folder / RECIPE).to_dict())
    try:
        if (folder / METRICS).is_file():
            made[_DATA] = json.loads((folder / METRICS).read_text(encoding="utf-8"))[_DATA]
        if (folder / ENSEMBLE).is_file():
            stored = json.loads((folder / ENSEMBLE).read_text(encoding="utf-8"))
            made["ensemble.by"] = stored["by"]
            for row, member in enumerate(stored["members"]):
                own = _read(folder / "members" / member["name"])
                made |= {f"ensemble.members[{row}].{key}": value for key, value in own.items() if key not in _FREE}
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder}: is damaged ({error})") from None
    return made


def _seed(made: dict[str, Any]) -> int:
    return int(next(made[key] for key in _SEEDS if key in made))


def _check_same(one: Path, first: dict[str, Any], other: Path, second: dict[str, Any]) -> None:
    keys = sorted((first.keys() | second.keys()) - set(_FREE))
    apart = [f"{key} ({first.get(key)!r} and {second.get(key)!r})" for key in keys if first.get(key) != second.get(key)]
    if apart:
        more = f", and {len(apart) - 4} more" if len(apart) > 4 else ""
        raise InputError(
            f"{one} and {other}: runs that count as one must be of one recipe but for the seed; they differ in "
            f"{', '.join(apart[:4])}{more}"
        )
