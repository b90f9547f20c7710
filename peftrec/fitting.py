"""From what was built to a trainer; and what a recipe reaches on validation, of which nothing is kept."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from peftrec.build import Built, build, build_debias
from peftrec.data import Dataset, TrainingWindows
from peftrec.frozen import frozen_vectors
from peftrec.measuring import measure, of_users
from peftrec.models import RecommenderModel, catalogue_scores
from peftrec.recipe import Recipe
from peftrec.training import Trainer, plan_for_model

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Validated:
    """What a recipe reached on the validation cases.

    Args:
        value: of `training.metric`, the best epoch's.
        epochs: the metric after every epoch; the first entry is the start, before any training.
        seconds: of building and training, by the clock.
    """

    value: float
    epochs: tuple[float, ...]
    seconds: float


def make_trainer(
    built: Built,
    recipe: Recipe,
    dataset: Dataset,
    say: Say,
    folder: Path | None,
    observe: Callable[..., None] | None = None,
) -> tuple[Recipe, Trainer]:
    """Make the trainer of a recipe, and the recipe with what was left to it to choose.

    Args:
        built: from `build`.
        recipe: resolved.
        dataset: of the recipe.
        say: is handed one line at a time.
        folder: for checkpoints; None keeps nothing.
        observe: is handed the validation metrics, at the start and after every epoch that is evaluated.
    """
    model, counts = built.model, dataset.item_counts()
    windows = TrainingWindows(dataset, recipe.user.max_history, skip_repeats=recipe.loss.skip_repeats)
    if recipe.training.batch_users == "auto":
        plan = plan_for_model(model, recipe.user, windows, counts, recipe.loss, recipe.training)
        say(plan.describe())
        recipe = dataclasses.replace(recipe, training=plan.resolve(recipe.training))
    debias = build_debias(recipe, dataset)
    for line in [] if debias is None else debias.describe():
        say(line)

    def evaluate(trained: RecommenderModel) -> dict[str, float]:
        metrics = measure(catalogue_scores(trained), recipe, dataset, "valid").summary()
        if observe is not None:
            observe(metrics)
        return metrics

    trainer = Trainer(
        model=model,
        windows=windows,
        item_counts=counts,
        loss=recipe.loss,
        optimizer=recipe.optimizer,
        training=recipe.training,
        text_vectors=built.base_vectors_NH,
        debias=debias,
        evaluate=evaluate,
        folder=folder,
        recipe=recipe.to_dict() | {"data_sha256": dataset.content_hash(times=recipe.reads_times)},
    )
    return recipe, trainer


def validate(
    recipe: Recipe,
    dataset: Dataset,
    *,
    say: Say | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Validated:
    """Train a recipe, or fit its baseline, and rank the validation cases; the test cases are not looked at.

    Args:
        recipe: resolved.
        dataset: of the recipe.
        say: is handed one line at a time.
        on_epoch: is handed the number of each evaluation, 0 at the start, and the value of `training.metric`; what it
            raises ends the training. Not called for a baseline.
    Raises:
        InputError: as `train` does.
    """
    began = time.perf_counter()
    say = say or (lambda _: None)
    metric = recipe.training.metric
    if recipe.baseline is not None:
        vectors = functools.cache(lambda: frozen_vectors(recipe, dataset.catalogue.texts, say))
        fitted = recipe.baseline.fit(dataset, vectors() if recipe.baseline.needs_item_vectors else None)
        value = measure(of_users({"model": fitted})["model"], recipe, dataset, "valid").summary()[metric]
        return Validated(value, (), time.perf_counter() - began)
    seen: list[float] = []

    def observe(metrics: Mapping[str, Any]) -> None:
        seen.append(float(metrics[metric]))
        if on_epoch is not None:
            on_epoch(len(seen) - 1, seen[-1])

    quiet = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, trackers=()))
    _, trainer = make_trainer(build(recipe, dataset, say), quiet, dataset, say, None, observe)
    result = trainer.train()
    return Validated(result.best_metric, tuple(seen), time.perf_counter() - began)
