"""One trial, run: a recipe trained and measured on the validation cases, and on nothing else."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from peftrec.build import build
from peftrec.config import InputError
from peftrec.data import Dataset
from peftrec.fitting import make_trainer
from peftrec.frozen import frozen_vectors
from peftrec.measuring import measure, of_users
from peftrec.recipe import Recipe

Report = Callable[[str], None]
# Is handed an epoch and its metric, and says whether to stop there.
Stops = Callable[[int, float], bool]


class PrunedError(Exception):
    """A trial was stopped after an epoch.

    Args:
        epoch: after which.
    """

    def __init__(self, epoch: int) -> None:
        super().__init__(epoch)
        self.epoch = epoch


def run_trial(recipe: Recipe, dataset: Dataset, stops: Stops, report: Report) -> float:
    """Train or fit a recipe and return its validation metric, that of the best epoch.

    No file is written, no test case is ranked, and nothing is tracked.

    Args:
        recipe: resolved; `training.metric` is what is returned.
        dataset: of the recipe.
        stops: asked after each epoch that is evaluated, from those on in which all that is trained has moved.
        report: is handed one line at a time.
    Raises:
        PrunedError: if `stops` said so.
        InputError: if a loss or the metric is not finite, or the recipe does not fit the data or the backbone.
    """
    recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, trackers=()))
    value = _fit(recipe, dataset, report) if recipe.baseline is not None else _train(recipe, dataset, stops, report)
    if not math.isfinite(value):
        raise InputError(f"{recipe.training.metric} became {value}")
    return value


def _fit(recipe: Recipe, dataset: Dataset, report: Report) -> float:
    assert recipe.baseline is not None
    reads_texts = recipe.baseline.needs_item_vectors
    vectors = frozen_vectors(recipe, dataset.catalogue.texts, report) if reads_texts else None
    scores = of_users({"model": recipe.baseline.fit(dataset, vectors)})["model"]
    return measure(scores, recipe, dataset, "valid").summary()[recipe.training.metric]


def _train(recipe: Recipe, dataset: Dataset, stops: Stops, report: Report) -> float:
    training = recipe.training
    num_evaluations = 0

    def observe(metrics: dict[str, float]) -> None:
        nonlocal num_evaluations
        last_epoch = math.ceil(trainer.num_steps / trainer.steps_per_epoch)
        epoch = min(num_evaluations * training.evaluate_every, last_epoch)
        num_evaluations += 1
        value = metrics[training.metric]
        # Before the adapter moves, trials that differ in it are alike; what is not finite the trainer refuses itself.
        judged = epoch > training.warmup_frozen_epochs
        if math.isfinite(value) and stops(epoch, value) and judged and epoch < last_epoch:
            raise PrunedError(epoch)

    _, trainer = make_trainer(build(recipe, dataset, report), recipe, dataset, report, None, observe)
    try:
        return trainer.train().best_metric
    finally:
        trainer.close()
