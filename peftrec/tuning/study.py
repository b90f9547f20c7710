"""A study: trials over a space of values, kept in a storage that several processes may share."""

from __future__ import annotations

import collections
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from peftrec.config import InputError, RecipeError
from peftrec.recipe import Recipe
from peftrec.tuning.identity import check_same, identity_of
from peftrec.tuning.liveness import Heartbeat
from peftrec.tuning.optimiser import PrunerName, SamplerName, check_names, make_pruner, make_sampler
from peftrec.tuning.roll import REASON, Roll, beat, mark_replaced, stored_point
from peftrec.tuning.space import Space
from peftrec.tuning.storage import one_at_a_time, open_storage, public_url, storage_url
from peftrec.tuning.trial import State, Trial

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

# What a study is of, among the attributes that Optuna stores of it.
_IDENTITY: Final = "peftrec"
# The metric of a trial before training.
_START: Final = "start"
_SHOWN_REASONS: Final = 5
_STATES: Final[dict[str, State]] = {
    "RUNNING": "running",
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
}


class Study:
    """Asks for trials and is told what they reached; a trial that is lost with its process is asked for again.

    Make one with `Study.open`. Higher values are better. A process asks for a trial, runs it, and tells; several may do
    so side by side on one storage.
    """

    def __init__(
        self,
        study: optuna.Study,
        roll: Roll,
        *,
        url: str,
        space: Space,
        sampler: SamplerName,
        seed: int,
        metric: str,
    ) -> None:
        self.name, self.url, self.space, self.metric = study.study_name, url, space, metric
        self.sampler, self.seed, self.num_trials = sampler, seed, roll.num_trials
        self._study, self._roll = study, roll
        self._open: dict[int, optuna.Trial] = {}
        self._heartbeat = Heartbeat(self._beat)

    @classmethod
    def open(
        cls,
        folder_or_storage: str | Path,
        *,
        name: str,
        recipe: Recipe,
        space: Space,
        sampler: SamplerName = "tpe",
        num_trials: int | None = None,
        seed: int = 0,
        metric: str | None = None,
        pruner: PrunerName = "none",
        data_sha256: str | None = None,
    ) -> Study:
        """Begin a study, or go on with the one of that name.

        Args:
            folder_or_storage: a folder, for `study.db` in it, or a storage URL of Optuna.
            name: of the study in its storage.
            recipe: resolved; what the values of the space are put into.
            space: from `read_space`.
            sampler: `tpe`, `random`, or `grid`: each point once, as `Space.grid` orders them.
            num_trials: in all, those before a stop included; None takes every point of a grid.
            seed: of what the sampler draws.
            metric: what is told; None takes `training.metric` of the recipe.
            pruner: `none`, `median` or `halving`.
            data_sha256: of the data, where they are to be the same whenever the study goes on.
        Raises:
            RecipeError: if an argument is wrong, or a point of the grid is none that the recipe takes.
            InputError: if Optuna is missing, the storage cannot be opened, or the study was begun otherwise.
        """
        check_names(sampler, pruner)
        if num_trials is None and sampler != "grid":
            raise RecipeError(f"num_trials: sampler {sampler} draws without end; say how many trials there shall be")
        if num_trials is not None and num_trials < 1:
            raise RecipeError(f"num_trials: {num_trials} is too small; it must be at least 1")
        points = space.grid(num_trials) if sampler == "grid" else None
        space.check_points(recipe, points or ())
        url, metric = storage_url(folder_or_storage), metric or recipe.training.metric
        identity = identity_of(
            recipe, space, metric=metric, sampler=sampler, pruner=pruner, seed=seed, data_sha256=data_sha256
        )
        storage = open_storage(url)
        import optuna

        with one_at_a_time(url):
            study = optuna.create_study(
                storage=storage, study_name=name, direction="maximize", load_if_exists=True, pruner=make_pruner(pruner)
            )
            _claim(study, _place(name, url), identity)
        stored = None if points is None else [stored_point(space.axes, point) for point in points]
        budget = num_trials if stored is None else len(stored)
        assert budget is not None, "without a grid the number of trials has been given"
        roll = Roll(study, storage, budget, stored)
        return cls(study, roll, url=url, space=space, sampler=sampler, seed=seed, metric=metric)

    @property
    def place(self) -> str:
        """Name and storage, for messages; without a password."""
        return _place(self.name, self.url)

    def ask(self) -> Trial | None:
        """Begin a trial; None when all that there shall be have been begun.

        Trials whose process is gone are marked as failed first, and their values come again.
        """
        with one_at_a_time(self.url):
            self._roll.give_up_abandoned()
            self._roll.fill_queue()
            while not self._roll.used_up():
                asked = self._study.ask()
                self._roll.sign(asked)
                if not self._roll.is_surplus(asked.number):
                    return self._begin(asked)
                self._roll.dismiss(asked)
        return None

    def report(self, trial: Trial, epoch: int, value: float) -> bool:
        """Store the metric after an epoch, and return whether the pruner would stop the trial now.

        What there was before training, epoch 0, is no achievement of the trial: the pruner does not see it.
        """
        asked = self._asked(trial)
        if epoch == 0:
            asked.set_user_attr(_START, value)
            return False
        asked.report(value, epoch)
        return bool(asked.should_prune())

    def tell(self, trial: Trial, value: float | None, *, reason: str | None = None) -> None:
        """End a trial.

        Args:
            trial: that this study was asked for.
            value: of the validation metric; None, or a number that is not finite, where it failed.
            reason: why it failed.
        Raises:
            InputError: if the trial has ended already, or was given up by another process.
        """
        if value is not None and not math.isfinite(value):
            value, reason = None, reason or f"{self.metric} is {value}"
        if value is None:
            self._end(trial, "FAIL", reason=reason or "no value was told")
        else:
            self._end(trial, "COMPLETE", value=float(value))

    def prune(self, trial: Trial, reason: str) -> None:
        """End a trial early that the pruner would stop; errors as of `tell`."""
        self._end(trial, "PRUNED", reason=reason)

    def give_back(self, trial: Trial, reason: str) -> None:
        """End a trial that could not go on for no fault of its own; its values come again. Errors as of `tell`."""
        self._end(trial, "FAIL", reason=reason, replaced=True)

    def trials(self) -> list[Trial]:
        """Return all trials that were begun, in order of their numbers."""
        return [self._trial(row) for row in self._roll.begun()]

    def best(self) -> Trial:
        """Return the complete trial of the highest value, the first of equal ones.

        Raises:
            InputError: if none ended well, with the reasons.
        """
        trials = self.trials()
        complete = [trial for trial in trials if trial.state == "complete"]
        if complete:
            return max(complete, key=lambda trial: (trial.value, -trial.number))
        reasons = collections.Counter(trial.reason for trial in trials if trial.reason).most_common(_SHOWN_REASONS)
        told = "; ".join(f"{reason} ({count} times)" if count > 1 else str(reason) for reason, count in reasons)
        raise InputError(f"{self.place}: none of {len(trials)} trials ended well{': ' if told else ''}{told}")

    def _begin(self, asked: optuna.Trial) -> Trial:
        import optuna

        if self.sampler != "grid":
            self._study.sampler = make_sampler(
                self.sampler, seed=self.seed, number=asked.number, num_trials=self.num_trials
            )
            # Before version 5 Optuna draws some values when it makes the trial, so it is made anew with this sampler.
            asked = optuna.trial.Trial(self._study, asked._trial_id)
        values = {axis.key: axis.suggest(asked) for axis in self.space.axes}
        self._open[asked.number] = asked
        self._heartbeat.start()
        return Trial(number=asked.number, values=values)

    def _end(
        self, trial: Trial, state: str, *, value: float | None = None, reason: str | None = None, replaced: bool = False
    ) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        asked = self._asked(trial)
        del self._open[trial.number]
        if not self._open:
            self._heartbeat.stop()
        try:
            if reason is not None:
                asked.set_user_attr(REASON, reason)
            if replaced:
                mark_replaced(asked)
            self._study.tell(asked, value, state=TrialState[state])
        except (UpdateFinishedTrialError, ValueError) as error:  # the second is what `tell` raises
            raise InputError(
                f"{self.place}: trial {trial.number} was ended by another process, which took this one for dead; what "
                f"it reached is not taken"
            ) from error

    def _asked(self, trial: Trial) -> optuna.Trial:
        if trial.number not in self._open:
            raise InputError(f"{self.place}: trial {trial.number} is not running here; tell each trial once")
        return self._open[trial.number]

    def _beat(self) -> None:
        for asked in list(self._open.values()):
            beat(asked)

    def _trial(self, row: FrozenTrial) -> Trial:
        state = _STATES[row.state.name]
        start = row.user_attrs.get(_START)
        epochs = ({} if start is None else {0: start}) | row.intermediate_values
        reached = {"complete": row.value, "pruned": max(epochs.values(), default=None)}
        return Trial(
            number=row.number,
            values={axis.key: axis.value(row.params[axis.key]) for axis in self.space.axes if axis.key in row.params},
            state=state,
            value=reached.get(state),
            reason=row.user_attrs.get(REASON),
            epochs=epochs,
            seconds=None if row.duration is None else row.duration.total_seconds(),
        )


def _place(name: str, url: str) -> str:
    return f"study '{name}' in {public_url(url)}"


def _claim(study: optuna.Study, place: str, identity: dict[str, Any]) -> None:
    """Write what a new study is of, or see that it is that of the study which is there."""
    identity = json.loads(json.dumps(identity))
    stored = study.user_attrs.get(_IDENTITY)
    if stored is not None:
        check_same(place, stored, identity)
    elif study.get_trials(deepcopy=False):
        raise InputError(f"{place}: was not begun by peftrec; give another name")
    else:
        study.set_user_attr(_IDENTITY, identity)
