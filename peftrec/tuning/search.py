"""`tune(recipe, space, folder)`: trials run one after the other in this process, and what they come to written down."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch

from peftrec.config import InputError
from peftrec.data import Dataset, load_dataset
from peftrec.launch import require_one_process
from peftrec.recipe import Recipe, recipe_with
from peftrec.tuning.optimiser import PrunerName, SamplerName
from peftrec.tuning.record import BEST, check_study_folder, write_record
from peftrec.tuning.space import Space
from peftrec.tuning.study import Study
from peftrec.tuning.trial import Trial
from peftrec.tuning.trial_run import PrunedError, run_trial

Report = Callable[[str], None]

NUM_TRIALS: Final = 20


def tune(
    recipe: Recipe,
    space: Space,
    folder: str | Path,
    *,
    num_trials: int | None = None,
    storage: str | None = None,
    name: str | None = None,
    sampler: SamplerName = "tpe",
    pruner: PrunerName = "none",
    seed: int = 0,
    dataset: Dataset | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Search a space for the recipe of the best validation metric; a study that is there goes on.

    Each trial trains or fits the recipe with values of the space and is measured on the validation cases alone. After
    each, `trials.json` and `best.yaml` are written to the folder. Several processes may work on one study.

    Args:
        recipe: resolved; `training.metric` is what is searched for.
        space: from `read_space`.
        folder: of the study; its database lies there too unless `storage` is given.
        num_trials: in all, those before a stop included; None takes 20, or every point of a grid.
        storage: URL of an Optuna storage in place of `study.db`.
        name: of the study; None takes the folder's name.
        sampler: `tpe`, `random` or `grid`.
        pruner: stops trials early by their validation metric: `none`, `median` or `halving`.
        seed: of what the sampler draws; that of training is the recipe's, the same in every trial.
        dataset: use this instead of loading what the recipe names.
        report: is handed one line at a time on what goes on; None is silent.
    Returns:
        What `trials.json` holds.
    Raises:
        RecipeError: if an argument is wrong or the folder holds something else.
        InputError: if several processes were launched, data or storage cannot be read, the study was begun otherwise,
            or no trial ended well; what goes wrong in one trial is its reason, and the study goes on.
    """
    require_one_process()
    say = report or (lambda _: None)
    folder = Path(folder)
    check_study_folder(folder)
    if sampler == "grid":
        space.grid(num_trials)  # what is wrong with it is told before data are read
    dataset = load_dataset(recipe.data) if dataset is None else dataset
    folder.mkdir(parents=True, exist_ok=True)
    study = Study.open(
        storage or folder,
        name=name or folder.resolve().name,
        recipe=recipe,
        space=space,
        sampler=sampler,
        num_trials=NUM_TRIALS if num_trials is None and sampler != "grid" else num_trials,
        seed=seed,
        pruner=pruner,
        data_sha256=dataset.content_hash(times=recipe.reads_times),
    )
    say(f"{study.place}: {len(study.trials())} of {study.num_trials} trials are there")
    while (trial := study.ask()) is not None:
        say(f"trial {trial.number}: {' '.join(trial.overrides)}")
        _run(study, trial, recipe, dataset, say)
        write_record(folder, study, recipe)
    record = write_record(folder, study, recipe)
    best = study.best()
    say(f"best of {record['num_ended']} trials: {best.number}, validation {study.metric} {best.value:.4f}")
    for warning in record["warnings"]:
        say(f"WARNING: {warning}")
    say(f"{folder / BEST}: ready to train")
    return record


def _run(study: Study, trial: Trial, recipe: Recipe, dataset: Dataset, say: Report) -> None:
    """Run a trial and tell the study what it came to, whatever that is."""

    def stops(epoch: int, value: float) -> bool:
        return study.report(trial, epoch, value)

    try:
        own = recipe_with(recipe, trial.overrides)
        data = dataset if own.data == recipe.data else load_dataset(own.data)
        value = run_trial(own, data, stops, say)
        told, end = f"validation {study.metric} {value:.4f}", functools.partial(study.tell, trial, value)
    except PrunedError as pruned:
        told = f"stopped by the pruner after epoch {pruned.epoch}"
        end = functools.partial(study.prune, trial, told)
    except Exception as error:
        reason = _reason(error)
        told, end = f"failed: {reason}", functools.partial(study.tell, trial, None, reason=reason)
    except BaseException:
        study.give_back(trial, "interrupted; its values are tried again")
        raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    say(f"trial {trial.number}: {told}")
    try:
        end()
    except InputError as error:  # another process has taken this one for dead
        say(str(error))


def _reason(error: Exception) -> str:
    """Return one line on what went wrong."""
    lines = str(error).strip().splitlines()
    told = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return f"out of memory ({told})"
    return lines[0] if isinstance(error, InputError) and lines else told
