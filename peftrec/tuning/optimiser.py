"""Optuna's samplers and pruners, as a study uses them; Optuna is imported here on first use and nowhere at import."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np

from peftrec.config import InputError, RecipeError, nearest

if TYPE_CHECKING:
    import optuna

SamplerName = Literal["tpe", "random", "grid"]
PrunerName = Literal["none", "median", "halving"]

_MAX_STARTUP_TRIALS: Final = 10
_HALVING_FACTOR: Final = 3
# Trials that must have ended before the median says anything.
_MEDIAN_TRIALS: Final = 4


def need_optuna() -> None:
    """See that Optuna is there, and let it be quiet below warnings.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise InputError("tuning needs optuna; pip install 'peftrec[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def check_names(sampler: str, pruner: str) -> None:
    """See that sampler and pruner are known.

    Raises:
        RecipeError: naming those there are.
    """
    for family, name, known in (("sampler", sampler, get_args(SamplerName)), ("pruner", pruner, get_args(PrunerName))):
        if name not in known:
            raise RecipeError(f"{family}: '{name}' is unknown.{nearest(name, known)} One of: {', '.join(known)}")


def make_sampler(name: str, *, seed: int, number: int, num_trials: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of one trial.

    Every trial has a generator of its own, from the study's seed and its number: a study that was stopped goes on with
    the values that it would have had, and processes side by side do not draw the same ones. The first third of the
    trials, ten at most, are random for `tpe` too.

    Args:
        name: `tpe` or `random`; of a grid the points are given, and nothing is drawn.
        seed: of the study.
        number: of the trial.
        num_trials: of the study.
    """
    import optuna

    own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if name != "tpe":
        return optuna.samplers.RandomSampler(seed=own_seed)
    with warnings.catch_warnings():
        # Before Optuna 5 these two settings are called experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            n_startup_trials=min(_MAX_STARTUP_TRIALS, -(-num_trials // 3)),
            multivariate=True,
            constant_liar=True,  # trials that other processes are running count as bad, so that theirs are not repeated
            seed=own_seed,
        )


def make_pruner(name: str) -> optuna.pruners.BasePruner:
    """Return the pruner of a study; its steps are epochs."""
    import optuna

    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=_MEDIAN_TRIALS)
    if name == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=_HALVING_FACTOR)
    return optuna.pruners.NopPruner()
