"""`update(run, events)`: a finished run goes on with what happened since, into a new run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from peftrec.baselines import fit_references, store_references
from peftrec.build import Built
from peftrec.config import InputError, RecipeError
from peftrec.data import LaterPeriod, Timeline, events_since, extend, read_later_tables
from peftrec.evaluating import REFERENCE_FOLDER
from peftrec.fitting import make_trainer
from peftrec.frozen import published_vectors
from peftrec.launch import Ranks, launched
from peftrec.measuring import check_rules, measure_all, of_users
from peftrec.models import catalogue_scores
from peftrec.publishing import (
    MANIFEST,
    METRICS,
    PRIVATE,
    EnsembleRun,
    Run,
    check_output_folder,
    load_run,
    save_model_run,
)
from peftrec.publishing.json_file import read_json
from peftrec.publishing.manifest import sha256
from peftrec.publishing.run_data import load_run_timeline, write_update
from peftrec.recipe import Recipe
from peftrec.training import final_table, recover_folder, replace_folder, running
from peftrec.updating.period_gain import compare_periods, measure_periods
from peftrec.updating.update_recipe import update_recipe
from peftrec.updating.warm_start import warm_start

Say = Callable[[str], None]


def update(
    run: str | Path,
    events: str | Path,
    *,
    output: str | Path,
    items: str | Path | None = None,
    period: LaterPeriod | None = None,
    overrides: Sequence[str] = (),
    force: bool = False,
    overwrite: bool = False,
    report: Say | None = None,
) -> dict[str, Any]:
    """Go on training a finished run with later events, and write a run folder of its own; the run stays as it is.

    Histories go on from the data of the run, targets are the later events alone (and earlier ones that are replayed).
    Adapter, head and ids start from those of the run, which itself is a candidate: no epoch is kept that is worse than
    it on the validation cases of the later period.

    Args:
        run: folder of the run, with the data of its recipe at hand.
        events: table of what happened after the last event of these data, its columns called as theirs.
        output: the new run folder.
        items: table of the items that are new; known ones in it stay as they are.
        period: how the later events are cut, and how many earlier ones are replayed; None takes the defaults.
        overrides: of the sections `training`, `optimizer`, `evaluation` and `data` of the recipe.
        force: write the folder even if no epoch was better than the run: its weights, with the new items.
        overwrite: replace a run that `output` already holds.
        report: is handed one line at a time on what goes on; None is silent.
    Returns:
        What `metrics.json` of the new run holds; `update` says what it was updated from and what that changed.
    Raises:
        RecipeError: if the output folder is taken, or an override does not belong.
        InputError: if the run cannot be updated, its data are others than it was trained on, the events do not fit
            (see `peftrec.data.extend`), or no epoch was better.
        TrainingStopped: after SIGTERM; nothing is written.
    """
    folder, output = Path(run), Path(output)
    say: Say = report if report is not None else lambda _: None
    _check_folders(folder, output, say, overwrite=overwrite)
    loaded = _load(folder)
    recipe = update_recipe(loaded.recipe, overrides, output)
    ranks = launched(recipe.training.timeout_seconds)
    if ranks.count > 1:
        raise InputError(f"{ranks.count} processes were launched, but an update runs in one; launch one")
    period = LaterPeriod() if period is None else period
    tables = read_later_tables(recipe.data, Path(events), None if items is None else Path(items))
    earlier = _timeline(folder, recipe)
    later = extend(earlier, recipe.data, tables, period)
    check_rules(recipe, later.dataset)
    say(str(later.dataset.report))
    began = time.perf_counter()
    assert loaded.model is not None, "what has no model is refused"
    built = warm_start(loaded.model, recipe, later.dataset, say)
    del loaded  # two language models need not be held
    build_seconds = time.perf_counter() - began
    work = output.with_name(output.name + ".partial")
    told = _told(folder, Path(events), None if items is None else Path(items), period, earlier, later)
    with contextlib.ExitStack() as lock:
        lock.enter_context(running(work, clear=True))
        metrics = _go_on(built, recipe, earlier, work, say, ranks, build_seconds, told, force=force)
        if metrics is None:
            shutil.rmtree(work, ignore_errors=True)
            raise InputError(
                f"{output}: nothing was written, as no epoch on the new events was better than the run as it is (by "
                f"{recipe.training.metric} on validation cases of the new period); --force writes it with the new items"
            )
        metrics["update"]["number"] = write_update(folder, work, tables, period)
        _save(built, recipe, work, metrics)
    replace_folder(work, output)
    say(f"saved to {output}")
    return metrics


def _check_folders(folder: Path, output: Path, say: Say, *, overwrite: bool) -> None:
    if output.resolve() == folder.resolve() or folder.resolve() in output.resolve().parents:
        raise RecipeError(f"--output: {output} is the run that is updated, or lies in it; name another folder")
    if output.resolve() in folder.resolve().parents:
        raise RecipeError(f"--output: {output} holds the run that is updated; name another folder")
    if recover_folder(output):
        say(f"{output}: put back the run that a stopped replacement had left aside")
    check_output_folder(output, overwrite=overwrite)


def _load(folder: Path) -> Run:
    loaded = load_run(folder)
    if isinstance(loaded, EnsembleRun):
        raise InputError(
            f"{folder}: is an ensemble; update its members one by one, and make an ensemble of the updated ones"
        )
    return loaded


def _timeline(folder: Path, recipe: Recipe) -> Timeline:
    """Load the data of a run, and see that they are those that it learned from."""
    timeline = load_run_timeline(folder, recipe.data)
    stored = read_json(folder / METRICS).get("data_sha256")
    if stored != timeline.dataset.content_hash(times=recipe.reads_times):
        raise InputError(
            f"{folder}: the data of its recipe ({recipe.data.root}) are no longer those it was trained on, so that it "
            f"cannot be told which events are new; point data.root at those, and hand over what came after as EVENTS"
        )
    return timeline


def _told(
    folder: Path, events: Path, items: Path | None, period: LaterPeriod, earlier: Timeline, later: Timeline
) -> dict[str, Any]:
    """Return what an updated run says of where it comes from."""
    old, new = earlier.dataset, later.dataset
    assert new.sequences.times is not None
    there_E = events_since(old, new)
    moments = [np.datetime64(int(at), "ms") for at in (f(new.sequences.times[there_E]) for f in (np.min, np.max))]
    return {
        "number": 0,
        "from_manifest_sha256": sha256(folder / MANIFEST),
        "from_data_sha256": read_json(folder / METRICS)["data_sha256"],
        "events": {"file": events.name, "sha256": sha256(events)},
        "items": None if items is None else {"file": items.name, "sha256": sha256(items)},
        "from_time": f"{moments[0]}Z",
        "until_time": f"{moments[1]}Z",
        "num_events": int(there_E.sum()),
        "num_new_users": len(new.sequences) - len(old.sequences),
        "num_new_items": len(new.catalogue) - len(old.catalogue),
        **dataclasses.asdict(period),
    }


def _go_on(
    built: Built,
    recipe: Recipe,
    earlier: Timeline,
    work: Path,
    say: Say,
    ranks: Ranks,
    build_seconds: float,
    told: dict[str, Any],
    *,
    force: bool,
) -> dict[str, Any] | None:
    """Train and measure; return None where nothing was gained and that is not to be written."""
    model, dataset = built.model, built.dataset
    for line in built.describe(recipe):
        say(line)
    references = fit_references(dataset, lambda: published_vectors(built, recipe, say))
    recipe, trainer = make_trainer(built, recipe, dataset, say, work, ranks=ranks)
    old_cases = earlier.dataset.split.test
    before = measure_periods(model, recipe, dataset, old_cases)
    began_with = model.trained_state()
    result = trainer.train()
    if result.best_epoch == 0:
        say(f"no epoch was better than the run as it is ({recipe.training.metric} {result.best_metric:.4f})")
        if not force:
            trainer.close()
            return None
    after = measure_periods(model, recipe, dataset, old_cases)
    ended_with = model.trained_state()
    changed = {name for name, tensor in ended_with.items() if not torch.equal(tensor, began_with[name])}
    metrics = {
        "training": dataclasses.asdict(result) | {"build_seconds": build_seconds, "processes": ranks.count},
        "parameters": [{"part": part, **dataclasses.asdict(count)} for part, count in model.parameter_counts().items()],
        "texts": built.text_counts(),
        "methods": {start: encoder.method.summary() for start, encoder in model.text_encoders().items()},
        "update": told | compare_periods(before, after) | {"changed": sorted(changed)},
    } | measure_all({"model": catalogue_scores(model), **of_users(references)}, recipe, dataset, work, ranks)
    trainer.close(final_table(metrics))
    store_references(references, work / PRIVATE / REFERENCE_FOLDER)
    return metrics


def _save(built: Built, recipe: Recipe, work: Path, metrics: dict[str, Any]) -> None:
    changed = metrics["update"].pop("changed")
    save_model_run(
        work,
        recipe=recipe,
        catalogue=built.dataset.catalogue,
        train_counts=built.dataset.item_counts(),
        model=built.model,
        metrics=metrics,
        # Of one that this update has not moved the run itself has proven that it acts.
        adapters_moved={
            start: any(name.startswith(f"{start}.") for name in changed) for start in built.model.text_encoders()
        },
    )
