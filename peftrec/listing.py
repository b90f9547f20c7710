"""What lies in a folder of runs: finished ones, those that train, those that stopped."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from peftrec.config import InputError, read_yaml
from peftrec.metrics import higher_is_better
from peftrec.publishing import MANIFEST, METRICS, PRIVATE, READABLE_VERSIONS, RECIPE
from peftrec.publishing.run_folder import ENSEMBLE
from peftrec.training.checkpoint import DamagedCheckpointError, read_content
from peftrec.training.checkpoint_folder import CheckpointFolder
from peftrec.training.pace import duration
from peftrec.training.progress_file import read_progress
from peftrec.training.run_lock import is_running
from peftrec.training.same_recipe import flatten
from peftrec.training.snapshot import CHECKPOINTS

PARTIAL = ".partial"
# `finishing` is training done, and the measuring and saving that follow it.
STATES = ("done", "running", "finishing", "stopped", "failed", "unknown")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRow:
    """One run.

    Args:
        name: of its folder, seen from the folder that was listed.
        what: what was trained, such as `lora, all-MiniLM-L6-v2`.
        state: one of `STATES`; unknown where the system has no file locks, so that running and killed look alike.
        told: the state in words, with the share of the steps that were taken.
        note: where one that ended before it was done ended, why, and whether `--resume` goes on; else None.
        step: optimiser steps taken; None where that is not known.
        num_steps: optimiser steps planned.
        seconds_left: until training ends; None where it does not run.
        metric: the validation metric that picks the best weights.
        valid: validation metrics; of one that is not done those of its best epoch.
        test: test metrics.
        parameters: that were trained; None until it is done.
        seconds: of training.
        when: it was saved; of one that is not done, when it was last heard of.
    """

    name: str
    what: str
    state: str
    told: str
    note: str | None
    step: int | None
    num_steps: int | None
    seconds_left: float | None
    metric: str | None
    valid: Mapping[str, float | None]
    test: Mapping[str, float | None]
    parameters: int | None
    seconds: float | None
    when: datetime.datetime

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values, the time in UTC."""
        return {**dataclasses.asdict(self), "when": self.when.astimezone(datetime.UTC).isoformat(timespec="seconds")}


@dataclasses.dataclass(frozen=True)
class Listing:
    """Runs, and folders that look like runs but cannot be read, with the reasons."""

    runs: tuple[RunRow, ...]
    left_out: tuple[tuple[str, str], ...]


def list_runs(folder: str | Path = "runs", *, sort: str | None = None) -> Listing:
    """List the runs in a folder and below it; weights are not opened and checksums not compared.

    Args:
        folder: of the runs, or a run itself.
        sort: validation metric, the best first, runs without it last; None sorts by name.
    Raises:
        InputError: if there is no such folder, or no run has the metric.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    runs, left_out = [], []
    for found in _run_folders(folder):
        name = found.name if found == folder else found.relative_to(folder).as_posix()
        try:
            runs.append(_finished(found, name) if not found.name.endswith(PARTIAL) else _partial(found, name))
        except FileNotFoundError:
            left_out.append((name, "was moved while it was read; list again"))
        except (InputError, OSError) as error:
            left_out.append((name, str(error)))
    if sort is not None:
        runs = _sorted(runs, sort, folder)
    return Listing(tuple(runs), tuple(left_out))


def _sorted(runs: list[RunRow], metric: str, folder: Path) -> list[RunRow]:
    known = sorted({key for run in runs for key, value in run.valid.items() if value is not None})
    if metric not in known:
        there = f"there are {', '.join(known)}" if known else "nothing is measured yet"
        raise InputError(f"--sort {metric}: no run in {folder} has this validation metric; {there}")
    sign = 1 if higher_is_better(metric) is False else -1

    def place(run: RunRow) -> tuple[bool, float]:
        value = run.valid.get(metric)
        return value is None, 0.0 if value is None else sign * value

    return sorted(runs, key=place)


def _run_folders(folder: Path) -> Iterator[Path]:
    """Yield run folders in order of their paths; what lies in a run, such as members of an ensemble, is none."""
    for place, folders, files in os.walk(folder):
        path = Path(place)
        if MANIFEST in files or (path.name.endswith(PARTIAL) and PRIVATE in folders):
            folders.clear()
            yield path
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _finished(folder: Path, name: str) -> RunRow:
    manifest = _mapping(folder / MANIFEST)
    if manifest.get("format_version") not in READABLE_VERSIONS or not isinstance(manifest.get("files"), dict):
        raise InputError(
            f"{folder / MANIFEST}: is no list of files of a format version that this peftrec reads ("
            f"{', '.join(map(str, READABLE_VERSIONS))})"
        )
    recipe = flatten(read_yaml(folder / RECIPE))
    what = _what(recipe)
    if (folder / ENSEMBLE).is_file():
        members = _mapping(folder / ENSEMBLE).get("members")
        what = f"ensemble of {len(members)}" if isinstance(members, list) else "ensemble"
    measured = _mapping(folder / METRICS) if (folder / METRICS).is_file() else {}
    try:
        trained = sum(int(part["trainable"]) for part in measured["parameters"]) if measured else None
        seconds = float(measured["training"]["train_seconds"]) if measured else None
        steps = measured["training"].get("num_steps") if measured else None
        of_split = {split: _numbers(measured[split]["model"]["metrics"]) for split in ("valid", "test") if measured}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / METRICS}: is damaged or of another program ({error!r})") from None
    return RunRow(
        name=name,
        what=what,
        state="done",
        told="done",
        note=None,
        step=steps,
        num_steps=steps,
        seconds_left=None,
        metric=_text(recipe.get("training.metric")),
        valid=of_split.get("valid", {}),
        test=of_split.get("test", {}),
        parameters=trained,
        seconds=seconds,
        when=_changed(folder / RECIPE),
    )


def _partial(folder: Path, name: str) -> RunRow:
    lock = is_running(folder)
    progress = read_progress(folder) or {}
    checkpoint = _checkpoint(folder)
    recipe = checkpoint.get("recipe") or progress.get("recipe") or {}
    state, told, note = _state(lock, progress, checkpoint)
    metric = _text(recipe.get("training.metric"))
    try:
        valid = _best(folder, metric, checkpoint if progress.get("best_metric") is None else progress)
        seconds = float(checkpoint["seconds"]) if checkpoint else None
        when = datetime.datetime.fromisoformat(progress["updated"]) if progress else _changed(folder)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / PRIVATE}: is damaged or of another program ({error!r})") from None
    return RunRow(
        name=name,
        what=_what(recipe) if recipe else "-",
        state=state,
        told=told,
        note=note,
        step=progress.get("step", checkpoint.get("step")),
        num_steps=progress.get("num_steps"),
        seconds_left=progress.get("seconds_left") if lock and progress.get("state") == "running" else None,
        metric=metric,
        valid=valid,
        test={},
        parameters=None,
        seconds=seconds,
        when=when,
    )


def _checkpoint(folder: Path) -> dict[str, Any]:
    """Return how far the newest checkpoint that can be read is, and its recipe; nothing where there is none.

    Raises:
        InputError: if there are some, and none can be read.
    """
    damaged = None
    for path in CheckpointFolder(folder / CHECKPOINTS).paths():
        try:
            content = read_content(path)
        except DamagedCheckpointError as error:
            damaged = damaged or error
            continue
        state: dict[str, Any] = content["state"].to_json()
        return state | {"recipe": content["settings"]}
    if damaged is not None:
        raise damaged
    return {}


def _state(
    lock: bool | None, progress: Mapping[str, Any], checkpoint: Mapping[str, Any]
) -> tuple[str, str, str | None]:
    """Return what a run that is not done does, the same in words, and a note where it may need someone."""
    written = progress.get("state")
    share = f", {progress['step'] / progress['num_steps']:.0%}" if progress.get("num_steps") else ""
    if lock:
        # Who takes the lock leaves `running` and `trained` of an earlier process no longer standing.
        if written == "trained":
            return "finishing", "trained, is measured and saved", None
        left = progress.get("seconds_left")
        begun = f"running{share}" + ("" if left is None else f", {duration(left)} left")
        return "running", begun if written == "running" else "running, has not begun to train", None
    place = f"at step {progress['step']:,} of {progress['num_steps']:,}" if progress else "before its first step"
    on = f"--resume goes on from step {checkpoint.get('step', 0):,}" if checkpoint else "there is no checkpoint yet"
    if lock is None and written == "running":
        note = f"{place} when last heard of; this system cannot tell whether it runs; if not, {on}"
        return "unknown", f"running or stopped{share}", note
    if written == "failed":
        return "failed", f"failed{share}", f"failed {place}: {progress['reason']}; {on}"
    if written == "trained":
        return "stopped", f"stopped{share}", f"stopped after training, before it was saved; {on}"
    return "stopped", f"stopped{share}", f"stopped {place}; {on}"


def _best(folder: Path, metric: str | None, told: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the validation metrics of the best epoch, as far as they were written."""
    if metric is None or told.get("best_metric") is None:
        return {}
    path = folder / "metrics.jsonl"
    rows = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for row in map(json.loads, rows):
        if row["epoch"] == told["best_epoch"] and metric in row:
            return _numbers({key: row[key] for key in row if key not in ("epoch", "loss", "train_seconds")})
    return _numbers({metric: told["best_metric"]})


def _what(recipe: Mapping[str, Any]) -> str:
    """Say what a flat recipe trains."""
    if "baseline.kind" in recipe:
        return f"{recipe['baseline.kind']} (baseline)"
    inputs = recipe.get("encoder.inputs", "text")
    if inputs == "ids":
        return f"ids, {recipe.get('user.kind', '-')}"
    backbone = str(recipe.get("encoder.backbone", "-")).rstrip("/").rpartition("/")[2]
    return f"{recipe.get('method.kind', '-')}, {backbone}{', ids' * (inputs == 'text+ids')}"


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is damaged ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no mapping; it is damaged or of another program")
    return content


def _numbers(values: Mapping[str, Any]) -> dict[str, float | None]:
    return {key: None if value is None or not math.isfinite(value) else float(value) for key, value in values.items()}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _changed(path: Path) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
