"""What a study leaves in its folder: all trials as JSON, and the best recipe ready to train."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, Final

from peftrec.config import InputError, RecipeError
from peftrec.publishing.aside import written_aside
from peftrec.recipe import Recipe, recipe_with
from peftrec.tuning.storage import DATABASE
from peftrec.tuning.study import Study
from peftrec.tuning.trial import Trial

TRIALS: Final = "trials.json"
BEST: Final = "best.yaml"
BEST_RUN: Final = "best"


def check_study_folder(folder: Path) -> None:
    """See that a study may be written to a folder, or goes on there.

    Raises:
        RecipeError: if it is a file, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise RecipeError(f"{folder}: is a file; a study needs a folder")
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / name).exists() for name in (DATABASE, TRIALS)):
        raise RecipeError(f"{folder}: holds files that are no study of peftrec; choose another folder")


def write_record(folder: Path, study: Study, recipe: Recipe) -> dict[str, Any]:
    """Write `trials.json`, and `best.yaml` where a trial has ended well; return what the first holds.

    Processes side by side may write at once; each writes until nothing has ended meanwhile, so that what stands there
    last is of all of them.

    Args:
        folder: of the study.
        study: as far as it is.
        recipe: that the values are put into.
    """
    while True:
        trials = study.trials()
        record = _record(study, recipe, trials)
        with written_aside(folder / TRIALS) as file:
            file.write((json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
        if record["best"] is not None:
            best = next(trial for trial in trials if trial.number == record["best"])
            with written_aside(folder / BEST) as file:
                file.write(_best_yaml(folder, study, recipe, best, record).encode())
        if _ended(study.trials()) == _ended(trials):
            return record


def _ended(trials: list[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.state != "running"]


def _record(study: Study, recipe: Recipe, trials: list[Trial]) -> dict[str, Any]:
    try:
        best = study.best()
    except InputError:
        best = None
    return {
        "study": study.name,
        "metric": study.metric,
        "split": "valid",
        "sampler": study.sampler,
        "seed": study.seed,
        "num_trials": study.num_trials,
        "num_ended": sum(trial.state in ("complete", "pruned") for trial in trials),
        "space": study.space.plain(),
        "best": None if best is None else best.number,
        "warnings": [] if best is None else study.space.edges(recipe, best.values),
        "trials": [trial.to_dict() for trial in trials],
    }


def _best_yaml(folder: Path, study: Study, recipe: Recipe, best: Trial, record: dict[str, Any]) -> str:
    values = recipe_with(recipe, [*best.overrides, f"output_dir={json.dumps(str(folder / BEST_RUN))}"])
    lines = [
        f"Launch:   peftrec train {shlex.quote(str(folder / BEST))}",
        f"Study:    {study.name}: best of {record['num_ended']} trials (sampler {study.sampler}, seed {study.seed}), "
        f"chosen on the validation cases alone",
        f"Trial:    {best.number}, validation {study.metric} {best.value:.6g}",
        f"Chosen:   {' '.join(best.overrides)}",
        *(f"Warning:  {warning}" for warning in record["warnings"]),
    ]
    return "".join(f"# {' '.join(line.splitlines())}\n" for line in lines) + values.to_yaml()
