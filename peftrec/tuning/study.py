"""A search that goes on where it stopped: trials in an Optuna study, of one recipe and one space."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftrec.config import InputError, RecipeError
from peftrec.recipe import Recipe
from peftrec.training.same_recipe import flatten
from peftrec.tuning.sampling import Pruner, Sampler, make_pruner, make_sampler
from peftrec.tuning.space import Space
from peftrec.tuning.trial import Trial, is_dead, this_process

if TYPE_CHECKING:
    import optuna

# What decides no result: where things lie, and who is told.
_FREE = ("output_dir", "data.root", "encoder.cache.folder", "evaluation.batch_users", "training.trackers")


class Study:
    """Trials of one recipe and one space; several processes may share one. Made by `open`."""

    def __init__(self, study: optuna.Study, space: Space, num_trials: int, *, grid: bool) -> None:
        self._study, self.space, self._grid = study, space, grid
        self.num_trials = min(num_trials, space.size or num_trials) if grid else num_trials
        self._asked: dict[int, optuna.Trial] = {}

    @classmethod
    def open(
        cls,
        folder_or_storage: str | Path,
        *,
        name: str,
        recipe: Recipe,
        space: Space,
        sampler: Sampler = "tpe",
        num_trials: int = 20,
        seed: int = 0,
        metric: str | None = None,
        pruner: Pruner = "none",
        data_sha256: str | None = None,
    ) -> Study:
        """Open a study, or begin it.

        Args:
            folder_or_storage: a folder, in which `study.db` is made, or a URL that Optuna takes, such as
                `postgresql://...`.
            name: of the study in that storage.
            recipe: what is tuned.
            space: what may vary.
            sampler: `tpe`, `random`, or `grid`, which visits each point once and takes choices alone.
            num_trials: to be made in all, those of earlier sessions too; failed ones count.
            seed: of the draws.
            metric: of validation; None: `training.metric` of the recipe.
            pruner: what stops trials early that fall behind.
            data_sha256: of the data, where it is known.
        Raises:
            InputError: if optuna is not installed, or the storage cannot be opened.
            RecipeError: if the study was begun with another recipe, space, metric or data (named), or a grid has
                ranges.
        """
        try:
            import optuna
        except ModuleNotFoundError:
            raise InputError("tuning needs optuna: pip install 'peftrec[tune]'") from None
        if sampler == "grid" and space.size is None:
            ranges = [key for key, axis in space.to_dict().items() if isinstance(axis, dict)]
            raise RecipeError(f"sampler grid: {', '.join(ranges)} are ranges; a grid needs lists of values")
        optuna.logging.set_verbosity(logging.WARNING)
        try:
            study = optuna.create_study(
                storage=_storage(folder_or_storage),
                study_name=name,
                pruner=make_pruner(pruner),
                direction="maximize",
                load_if_exists=True,
            )
        except (optuna.exceptions.StorageInternalError, ImportError, OSError, ValueError) as error:
            raise InputError(f"{folder_or_storage}: cannot be opened as a study ({str(error)[:200]})") from None
        made = {
            "recipe": {key: value for key, value in flatten(recipe.to_dict()).items() if key not in _FREE},
            "space": space.to_dict(),
            "metric": metric or recipe.training.metric,
            "sampler": sampler,
            "data_sha256": data_sha256,
        }
        _check_same(study, made, f"{folder_or_storage}, study {name}")
        study.sampler = make_sampler(sampler, seed, len(study.trials))
        opened = cls(study, space, num_trials, grid=sampler == "grid")
        opened._bury()
        return opened

    def ask(self) -> Trial | None:
        """Return the next setting to try; None where all have been asked for."""
        import optuna

        counted = [trial for trial in self._study.trials if not trial.user_attrs.get("again")]
        waiting = [trial for trial in counted if trial.state == optuna.trial.TrialState.WAITING]
        if not waiting:
            if len(counted) >= self.num_trials:
                return None
            if self._grid:
                point = self._next_point()
                if point is None:
                    return None
                self._study.enqueue_trial(point)
        asked = self._study.ask()
        asked.set_user_attr("process", this_process())
        values = self.space.suggest(asked)
        self._asked[asked.number] = asked
        return Trial(asked.number, values)

    def report(self, trial: Trial, step: int, value: float) -> bool:
        """Note what a trial reached so far, and return whether it had better stop.

        Args:
            trial: from `ask`.
            step: number of the evaluation, 0 at the start.
            value: of the metric.
        """
        asked = self._asked[trial.number]
        asked.report(value, step)
        return asked.should_prune()

    def tell(
        self,
        trial: Trial,
        value: float | None,
        *,
        reason: str | None = None,
        pruned: bool = False,
        again: bool = False,
    ) -> None:
        """Note how a trial ended.

        Args:
            trial: from `ask`.
            value: of the metric; None where it failed.
            reason: why it failed.
            pruned: whether it was stopped early.
            again: whether its values are to be tried again, in this session or a later one.
        """
        import optuna

        asked = self._asked.pop(trial.number)
        if reason is not None:
            asked.set_user_attr("reason", reason)
        if again:
            asked.set_user_attr("again", True)
            self._study.enqueue_trial(asked.params)
        if pruned or value is None:
            state = optuna.trial.TrialState.PRUNED if pruned else optuna.trial.TrialState.FAIL
            self._study.tell(asked, state=state)
        else:
            self._study.tell(asked, value)

    def trials(self) -> list[Trial]:
        """Return all trials that were asked for."""
        import optuna

        names = {
            optuna.trial.TrialState.COMPLETE: "complete",
            optuna.trial.TrialState.PRUNED: "pruned",
            optuna.trial.TrialState.FAIL: "failed",
            optuna.trial.TrialState.RUNNING: "running",
        }
        return [
            Trial(
                number=trial.number,
                values=self._values(trial.params),
                state=names[trial.state],
                value=trial.value if trial.value is not None else max(trial.intermediate_values.values(), default=None),
                reason=trial.user_attrs.get("reason"),
                epochs=tuple(trial.intermediate_values[step] for step in sorted(trial.intermediate_values)),
                seconds=None if trial.duration is None else trial.duration.total_seconds(),
            )
            for trial in self._study.trials
            if trial.state in names
        ]

    def best(self) -> Trial:
        """Return the trial with the highest value, the first of several.

        Raises:
            InputError: if none ended well.
        """
        ended = [trial for trial in self.trials() if trial.state == "complete" and trial.value is not None]
        if not ended:
            reasons = list(dict.fromkeys(trial.reason for trial in self.trials() if trial.reason))
            told = f": {'; '.join(reasons[:3])}" if reasons else ""
            raise InputError(f"study {self._study.study_name}: no trial ended well{told}")
        return max(ended, key=lambda trial: (trial.value, -trial.number))

    def _values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return plain values of what the study holds; a study holds choices as JSON."""
        return {key: json.loads(value) if isinstance(value, str) else value for key, value in params.items()}

    def _next_point(self) -> dict[str, str] | None:
        """Return the first point of the grid that no trial has, as the study holds it."""
        import optuna

        held = [
            trial.params or trial.system_attrs.get("fixed_params", {})
            for trial in self._study.trials
            if not trial.user_attrs.get("again") or trial.state == optuna.trial.TrialState.RUNNING
        ]
        points = ({key: json.dumps(value) for key, value in point.items()} for point in self.space.points())
        return next((point for point in points if point not in held), None)

    def _bury(self) -> None:
        """End trials whose process was killed, and have their values tried again."""
        import optuna

        for trial in self._study.trials:
            if trial.state != optuna.trial.TrialState.RUNNING or not is_dead(trial.user_attrs.get("process")):
                continue
            self._study._storage.set_trial_user_attr(trial._trial_id, "reason", "its process was killed")
            self._study._storage.set_trial_user_attr(trial._trial_id, "again", True)
            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            if trial.params:
                self._study.enqueue_trial(trial.params)


def _storage(given: str | Path) -> str:
    if "://" in str(given):
        return str(given)
    Path(given).mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{Path(given).resolve() / 'study.db'}"


def _check_same(study: optuna.Study, made: dict[str, Any], where: str) -> None:
    """See that a study is of this recipe, or make it so where it is new."""
    stored = study.user_attrs.get("made")
    if stored is None:
        study.set_user_attr("made", made)
        return
    made = json.loads(json.dumps(made))
    then, now = ({**of["recipe"], **{key: of[key] for key in of if key != "recipe"}} for of in (stored, made))
    changed = [
        f"{key} (then {then.get(key)!r}, now {now.get(key)!r})"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]
    if changed:
        raise RecipeError(
            f"{where}: was begun with other settings: {'; '.join(changed[:4])}; use another --output or --name, or "
            f"go on with the old ones"
        )
