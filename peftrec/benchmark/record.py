"""What a run folder holds, as one result of the published form."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from peftrec.benchmark.child import Ended
from peftrec.benchmark.plan import PLACES, PlannedRun
from peftrec.config import InputError
from peftrec.publishing import METRICS, PRIVATE, RECIPE
from peftrec.publishing.environment import describe_environment
from peftrec.recipe import Recipe, load_recipe
from peftrec.training.same_recipe import flatten

SCHEMA_VERSION: Final = 1
# Drawn from the rest, whenever somebody asks.
_REPORTS: Final = "report_"
_MODEL: Final = "model"
_SHOWN_KEYS: Final = 3
_ENVIRONMENT: Final = "environment.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """What a result tells of how it was made.

    Args:
        threads: that the run computed with.
        code: digest of the code that made it; None where it cannot be known.
        dirty: whether the code differed from its commit.
    """

    threads: int
    code: str | None
    dirty: bool


def failed_result(run: PlannedRun, ended: Ended, origin: Origin, hidden: Mapping[str, str]) -> dict[str, Any]:
    """Return the result of a run that did not end well.

    Args:
        run: what was to be run.
        ended: how it ended.
        origin: of the result.
        hidden: places of this machine, each with the words that stand for it in what the process said.
    """
    environment = describe_environment()
    environment["machine"]["threads"] = origin.threads
    return {
        "schema_version": SCHEMA_VERSION,
        "run": _run(run, origin.threads),
        "status": _status(ended, hidden),
        "environment": _environment(environment, origin),
    }


def result_of_folder(run: PlannedRun, folder: Path, ended: Ended, origin: Origin) -> dict[str, Any]:
    """Return the result of a run folder, but for the ranks of its cases.

    Args:
        run: what the folder is to hold.
        folder: of the run, evaluated in full.
        ended: how its process ended.
        origin: of the result.
    Raises:
        InputError: if the folder was made from another recipe, naming the keys, or is damaged.
    """
    with _damage_named(folder):
        metrics = _json(folder / METRICS)
        return {
            "schema_version": SCHEMA_VERSION,
            "run": _run(run, origin.threads),
            "status": _status(ended, {}),
            "recipe": stored_recipe(run, folder).to_dict(),
            "data_sha256": metrics["data_sha256"],
            "environment": _environment(_json(folder / _ENVIRONMENT), origin),
            "parameters": metrics["parameters"],
            "files": published_files(folder),
            "training": {"epochs": [], "best_epoch": 0, "num_steps": 0} | metrics["training"],
            "valid": metrics["valid"][_MODEL],
            "test": metrics["test"][_MODEL],
            "slices": [_slice(part) for part in metrics["test"].get("slices", [])],
        }


def trained_seconds(folder: Path) -> float:
    """Return the seconds of building and training that a run folder tells of.

    Raises:
        InputError: if the folder is damaged.
    """
    with _damage_named(folder):
        training = _json(folder / METRICS)["training"]
        return float(training["train_seconds"] + training.get("build_seconds", 0.0))


def stored_origin(folder: Path) -> tuple[str | None, int]:
    """Return the commit that made a run folder, `+` where it had changes, and its threads.

    Raises:
        InputError: if the folder is damaged.
    """
    with _damage_named(folder):
        environment = _json(folder / _ENVIRONMENT)
        return environment["commit"], int(environment["machine"]["threads"])


@contextlib.contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    """Raise an `InputError` where the content of a run folder is not what a run writes."""
    try:
        yield
    except InputError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder}: is damaged ({type(error).__name__}: {error}); remove it to make it again"
        ) from None


def stored_recipe(run: PlannedRun, folder: Path) -> Recipe:
    """Return the recipe of a run folder, with the places that the suite names in place of this machine's.

    Raises:
        InputError: if it is another recipe than that of the run.
    """
    planned, stored = run.recipe(), load_recipe(folder / RECIPE)
    changes = recipe_changes(planned, stored)
    if changes is not None:
        raise InputError(f"{folder}: holds a run of another recipe: {changes}; move it away")
    cache = dataclasses.replace(stored.encoder.cache, folder=planned.encoder.cache.folder)
    return dataclasses.replace(
        stored,
        data=dataclasses.replace(stored.data, root=planned.data.root),
        encoder=dataclasses.replace(stored.encoder, cache=cache),
        output_dir=planned.output_dir,
    )


def recipe_changes(planned: Recipe, stored: Recipe) -> str | None:
    """Return the first keys in which a stored recipe differs from a planned one, but for places; None if in none."""
    wanted, found = flatten(planned.to_dict()), flatten(stored.to_dict())
    free = {*PLACES, "output_dir"}
    changed = [
        f"{key} ({found.get(key)!r}, the suite has {wanted.get(key)!r})"
        for key in sorted(wanted.keys() | found.keys())
        if key not in free and wanted.get(key) not in ("auto", found.get(key))
    ]
    return "; ".join(changed[:_SHOWN_KEYS]) or None


def published_files(folder: Path) -> dict[str, int]:
    """Return the bytes of each file of a run folder that is fit to be published, but for reports."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: path.stat().st_size
        for name, path in names.items()
        if not name.startswith((f"{PRIVATE}/", _REPORTS)) and not name.endswith(".partial")
    }


def hidden_places(places: Mapping[str, str]) -> dict[str, str]:
    """Return the paths of this machine that a message may name, longest first, each with what stands for it.

    Args:
        places: what was given for keys such as `data.root`.
    """
    hidden = {str(Path(path).absolute()): key for key, path in places.items()}
    hidden |= {str(Path(path)): key for key, path in places.items() if len(Path(path).parts) > 1}
    hidden |= {str(Path.cwd()): ".", os.path.expanduser("~"): "~"}  # noqa: PTH111 -- as text
    hidden.pop(os.sep, None)  # it stands in every path, and names none
    return dict(sorted(hidden.items(), key=lambda pair: -len(pair[0])))


def _run(run: PlannedRun, threads: int) -> dict[str, Any]:
    row = run.row
    return {
        "name": run.name,
        "suite": row.suite,
        "method": row.method,
        "kind": "baseline" if row.is_baseline else "model",
        "label": row.label,
        "backbone": row.backbone,
        "dataset": row.dataset,
        "dataset_label": row.dataset_label,
        "seed": run.seed,
        "stage": run.stage,
        "tuned_on": row.tuned_on,
        "values": dict(run.values),
        "overrides": run.overrides,
        "recipe": row.recipe_path,
        "command": run.command(threads),
    }


def _slice(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a slice of test cases with what the model reached on it alone."""
    told: dict[str, Any] = part["rows"][_MODEL]
    return {key: value for key, value in part.items() if key != "rows"} | told


def _status(ended: Ended, hidden: Mapping[str, str]) -> dict[str, Any]:
    reason = ended.reason
    for path, words in hidden.items():
        reason = None if reason is None else reason.replace(path, words)
    return {"state": ended.state, "reason": reason, "exit_code": ended.exit_code, "seconds": round(ended.seconds, 3)}


def _environment(environment: dict[str, Any], origin: Origin) -> dict[str, Any]:
    """Take the mark of changes off the commit, which may be of files that are no part of the code's digest."""
    commit = environment["commit"]
    told = {"commit": commit and commit.removesuffix("+"), "dirty": origin.dirty, "code": origin.code}
    return environment | told


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); remove the folder, and the run is made again") from None
