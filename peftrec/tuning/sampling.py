"""How a study draws points, and which trials it stops early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import optuna

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["none", "median", "halving"]
SAMPLERS: Final = ("tpe", "random", "grid")
PRUNERS: Final = ("none", "median", "halving")


def make_sampler(kind: Sampler, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """Return a sampler whose draws are those of a seed after so many trials, so that a session does not repeat another.

    The points of a grid are set before they are asked for; what draws besides does not matter.
    """
    import optuna

    own = seed + 1_000_003 * number
    return optuna.samplers.TPESampler(seed=own) if kind == "tpe" else optuna.samplers.RandomSampler(seed=own)


def make_pruner(kind: Pruner) -> optuna.pruners.BasePruner:
    """Return what stops trials: none, those below the median of others at the same epoch, or all but the best quarter.

    `median` looks at no trial before four others have ended, and at none at its start.

    Source:
        Golovin et al. (2017), Google Vizier (median stopping); Li et al. (2020), A System for Massively Parallel
        Hyperparameter Tuning (asynchronous successive halving).
    """
    import optuna

    if kind == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1)
    return optuna.pruners.SuccessiveHalvingPruner() if kind == "halving" else optuna.pruners.NopPruner()
