"""From what was built to a trainer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from peftrec.build import Built, build_debias
from peftrec.config import InputError
from peftrec.data import Dataset, TrainingWindows
from peftrec.launch import Ranks, launched
from peftrec.measuring import measure
from peftrec.models import RecommenderModel, catalogue_scores
from peftrec.recipe import Recipe
from peftrec.training import Trainer, plan_for_model

Say = Callable[[str], None]


def make_trainer(
    built: Built,
    recipe: Recipe,
    dataset: Dataset,
    say: Say,
    folder: Path | None,
    observe: Callable[[dict[str, float]], None] | None = None,
    ranks: Ranks | None = None,
) -> tuple[Recipe, Trainer]:
    """Make the trainer of a recipe, and the recipe with what was left to it to choose.

    Args:
        built: from `build`.
        recipe: resolved.
        dataset: of the recipe.
        say: is handed one line at a time.
        folder: for checkpoints; None keeps nothing.
        observe: is handed the validation metrics, at the start and after every epoch that is evaluated.
        ranks: the processes that train together; None asks for those of the launch.
    Raises:
        InputError: what `Trainer` raises, or if a penalty needs whole batches and there are several processes.
    """
    ranks = launched(recipe.training.timeout_seconds) if ranks is None else ranks
    model, counts = built.model, dataset.item_counts()
    windows = TrainingWindows(dataset, recipe.user.max_history, skip_repeats=recipe.loss.skip_repeats)
    if recipe.training.batch_users == "auto":
        plan = plan_for_model(model, recipe.user, windows, counts, recipe.loss, recipe.training)
        say(plan.describe())
        training = plan.resolve(recipe.training)
        # Planned for a step of all processes together.
        users = -(-training.users_a_batch // ranks.count)
        recipe = dataclasses.replace(recipe, training=dataclasses.replace(training, batch_users=users))
    debias = build_debias(recipe, dataset)
    if debias is not None and debias.config.groups is not None and not ranks.alone:
        raise InputError(
            f"debias.groups: compares what whole batches show, and {ranks.count} processes have a part each; launch one"
        )
    for line in [] if debias is None else debias.describe():
        say(line)

    def evaluate(trained: RecommenderModel) -> dict[str, float]:
        metrics = measure(catalogue_scores(trained), recipe, dataset, "valid", ranks).summary()
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
        ranks=ranks,
        recipe=recipe.to_dict() | {"data_sha256": dataset.content_hash(times=recipe.reads_times)},
    )
    return recipe, trainer
