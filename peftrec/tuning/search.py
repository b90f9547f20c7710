"""`tune(recipe, space, folder)`: trials one after the other, and the best recipe written out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peftrec.data import Dataset, load_dataset
from peftrec.fitting import validate
from peftrec.publishing import replace_text
from peftrec.recipe import Recipe, recipe_with
from peftrec.tuning.sampling import Pruner, Sampler
from peftrec.tuning.space import Space
from peftrec.tuning.study import Study
from peftrec.tuning.trial import Trial

BEST, TRIALS = "best.yaml", "trials.json"


class PrunedError(Exception):
    """A trial had better stop."""


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What a search came to.

    Args:
        best: the trial with the highest value.
        trials: all of them.
        edges: what of the best lies at an end of its axis, in words.
        recipe: file of the best recipe.
    """

    best: Trial
    trials: tuple[Trial, ...]
    edges: tuple[str, ...]
    recipe: Path


def tune(
    recipe: Recipe,
    space: Space,
    folder: str | Path,
    *,
    num_trials: int = 20,
    sampler: Sampler = "tpe",
    pruner: Pruner = "none",
    seed: int = 0,
    storage: str | None = None,
    name: str = "tune",
    report: Callable[[str], None] | None = None,
) -> Tuned:
    """Search a space for the recipe that ranks the validation cases best; the test cases are never looked at.

    Trials run one after the other in this process; others may work on the same study beside it. A trial that fails is
    noted with its reason, and the search goes on. What ended in an earlier session is not done again.

    Args:
        recipe: resolved; its `training.metric` is what counts, of the best epoch.
        space: from `read_space`.
        folder: gets `best.yaml`, `trials.json` and, without `storage`, `study.db`.
        num_trials: in all, those of earlier sessions too.
        sampler: `tpe`, `random` or `grid`.
        pruner: `none`, `median` or `halving`; what is stopped early cannot be the best.
        seed: of the draws; the seed of training is the recipe's.
        storage: URL of an Optuna storage.
        name: of the study in it.
        report: is handed one line at a time.
    Raises:
        RecipeError: if the study was begun with other settings.
        InputError: if no trial ended well, or the data cannot be read.
    """
    say = report or (lambda _: None)
    data = _Data()
    study = Study.open(
        storage or folder,
        name=name,
        recipe=recipe,
        space=space,
        sampler=sampler,
        num_trials=num_trials,
        seed=seed,
        pruner=pruner,
        data_sha256=data.of(recipe).content_hash(times=recipe.reads_times),
    )
    there = len(study.trials())
    if there:
        say(f"{there} trials are there already")
    while (trial := study.ask()) is not None:
        say(f"trial {trial.number}: {', '.join(trial.overrides)}")
        try:
            _try(study, trial, recipe, data, say)
        finally:
            _write_trials(Path(folder), study, recipe)
    best = study.best()
    edges = tuple(space.edges(best.values))
    path = Path(folder) / BEST
    replace_text(path, _header(best, study, recipe, edges) + recipe_with(recipe, best.overrides).to_yaml())
    return Tuned(best, tuple(study.trials()), edges, path)


class _Data:
    """The data sets of trials; the last one is kept, as most searches have but one."""

    def __init__(self) -> None:
        self._last: tuple[Any, Dataset] | None = None

    def of(self, recipe: Recipe) -> Dataset:
        if self._last is None or self._last[0] != recipe.data:
            self._last = recipe.data, load_dataset(recipe.data)
        return self._last[1]


def _try(study: Study, trial: Trial, recipe: Recipe, data: _Data, say: Callable[[str], None]) -> None:
    def on_epoch(epoch: int, value: float) -> None:
        if study.report(trial, epoch, value):
            raise PrunedError(f"stopped after epoch {epoch}: {value:.4f}")

    try:
        own = recipe_with(recipe, trial.overrides)
        found = validate(own, data.of(own), on_epoch=on_epoch)
    except PrunedError as error:
        study.tell(trial, None, pruned=True)
        say(f"trial {trial.number}: {error}")
    except KeyboardInterrupt:
        study.tell(trial, None, reason="interrupted", again=True)
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:500]
        study.tell(trial, None, reason=reason)
        say(f"trial {trial.number}: failed: {reason}")
    else:
        study.tell(trial, found.value)
        say(f"trial {trial.number}: {recipe.training.metric} {found.value:.4f} in {found.seconds:.0f} s")


def _write_trials(folder: Path, study: Study, recipe: Recipe) -> None:
    rows = [dataclasses.asdict(trial) for trial in study.trials()]
    content = {"metric": recipe.training.metric, "split": "valid", "space": study.space.to_dict(), "trials": rows}
    replace_text(folder / TRIALS, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _header(best: Trial, study: Study, recipe: Recipe, edges: tuple[str, ...]) -> str:
    states = [trial.state for trial in study.trials()]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines = [
        f"Trial {best.number} of {len(states)} ({counts}), the best by validation: {recipe.training.metric} "
        f"{best.value:.4f}.",
        f"Varied: {', '.join(study.space.axes)}.",
        *(f"At the edge: {edge}; widen the space." for edge in edges),
    ]
    return "".join(f"# {line}\n" for line in lines)
