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
from peftrec.recipe import Recipe, load_recipe
from peftrec.training.same_recipe import FREE_SECTION, flatten

# What tells the runs of one recipe apart. A baseline has a seed of its own, or none.
_SEEDS = ("baseline.seed", "training.seed")
# What decides no result: where things lie, how many users are scored at once, who is told.
_FREE = (
    *_SEEDS,
    "output_dir",
    "data.root",
    "encoder.cache.folder",
    "evaluation.batch_users",
    "training.trackers",
    "data.item_fields",
)
_DATA = "data_sha256"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Runs that count as one.

    Attributes:
        name: as it was given.
        folders: the run folders, in order of their seeds where there are several.
        seeds: of each, distinct; empty for a baseline that has none, such as `popularity`.
        metrics: what its recipe says is measured of ranks, such as `ndcg@10`.
        data_sha256: of the data that it was measured on; None where `metrics.json` is not there.
        reads_times: whether the times of events are in that sum.
    """

    name: str
    folders: tuple[Path, ...]
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    data_sha256: str | None
    reads_times: bool


@dataclass(frozen=True)
class _Made:
    """What a run was made with: its recipe, flat keys and values of all that decides results, and its seed."""

    recipe: Recipe
    values: dict[str, Any]
    seed: int | None


def read_arm(given: str | Path | Sequence[str | Path]) -> Arm:
    """Find the run folders of one side of a comparison, and see that they are runs of one recipe.

    Args:
        given: a run folder; or several, as a sequence, in one text with commas between them, or as a pattern with `*`,
            `?` or `[...]` in it. A folder of that very name is always taken as it is.
    Returns:
        The arm.
    Raises:
        InputError: if a pattern finds nothing, a folder is no run or is named twice, or several have no seed or differ
            in more than seeds and what decides no result; the keys that differ are named.
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
    runs = [(folder, _read(folder)) for folder in folders]
    for folder, made in runs[1:]:
        _check_same(folders[0], runs[0][1].values, folder, made.values)
    ordered = _by_seed(runs)
    recipe, values = runs[0][1].recipe, runs[0][1].values
    return Arm(
        name=name,
        folders=tuple(folder for folder, _ in ordered),
        seeds=tuple(made.seed for _, made in ordered if made.seed is not None),
        metrics=tuple(f"{metric}@{k}" for k in recipe.evaluation.ks for metric in recipe.evaluation.metrics),
        data_sha256=values.get(_DATA),
        reads_times=recipe.reads_times,
    )


def _by_seed(runs: Sequence[tuple[Path, _Made]]) -> list[tuple[Path, _Made]]:
    """Put runs of one recipe in order of their seeds; several must have one each."""
    if len(runs) == 1:
        return list(runs)
    for folder, made in runs:
        if made.seed is None:
            raise InputError(
                f"{folder}: is a baseline without a seed, and its other runs would be the same; name it once, alone"
            )
    ordered = sorted(runs, key=lambda run: run[1].seed or 0)
    for (before, made), (after, other) in itertools.pairwise(ordered):
        if made.seed == other.seed:
            raise InputError(
                f"{before} and {after}: are both of seed {made.seed}; runs that count as one must have different seeds"
            )
    return ordered


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


def _read(folder: Path) -> _Made:
    """Read all that a run was made with; of an ensemble, its members and their weights too."""
    if not (folder / RECIPE).is_file():
        raise InputError(f"{folder}: is not a run folder, or its run has not ended ({RECIPE} is missing)")
    recipe = load_recipe(folder / RECIPE)
    values = flatten(recipe.to_dict())
    seed = _seed(recipe, values)
    try:
        if (folder / METRICS).is_file():
            values[_DATA] = json.loads((folder / METRICS).read_text(encoding="utf-8"))[_DATA]
        if (folder / ENSEMBLE).is_file():
            stored = json.loads((folder / ENSEMBLE).read_text(encoding="utf-8"))
            weights = [float(member["weight"]) for member in stored["members"]]
            members = [_read(folder / "members" / member["name"]) for member in stored["members"]]
            values |= {"ensemble.by": stored["by"], "ensemble.weights": [weight / sum(weights) for weight in weights]}
            for row, member in enumerate(members):
                own = {f"ensemble.members[{row}].{key}": value for key, value in member.values.items()}
                values |= {
                    key: value
                    for key, value in own.items()
                    if key.partition("].")[2] not in _FREE and not key.partition("].")[2].startswith(FREE_SECTION)
                }
            seed = next((own for own in (seed, *(member.seed for member in members)) if own is not None), None)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder}: is damaged ({error})") from None
    return _Made(recipe, values, seed)


def _seed(recipe: Recipe, values: dict[str, Any]) -> int | None:
    """Return the seed that a run of a recipe depends on."""
    if recipe.baseline is None:
        return recipe.training.seed
    return int(values["baseline.seed"]) if recipe.baseline.has_seed else None


def _check_same(one: Path, first: dict[str, Any], other: Path, second: dict[str, Any]) -> None:
    keys = sorted(key for key in first.keys() | second.keys() if key not in _FREE and not key.startswith(FREE_SECTION))
    apart = [f"{key} ({first.get(key)!r} and {second.get(key)!r})" for key in keys if first.get(key) != second.get(key)]
    if apart:
        more = f", and {len(apart) - 4} more" if len(apart) > 4 else ""
        raise InputError(
            f"{one} and {other}: runs that count as one must be of one recipe but for the seed; they differ in "
            f"{', '.join(apart[:4])}{more}"
        )
