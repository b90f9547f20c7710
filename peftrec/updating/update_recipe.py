"""The recipe that a run is updated by: its own, with the training of an update."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from peftrec.config import InputError, RecipeError
from peftrec.data import check_extendable
from peftrec.recipe import Recipe, recipe_for_evaluation, recipe_with

# A trained model needs few epochs. The first ones may unlearn before they learn: patience outlasts them.
NUM_EPOCHS: Final = 5
PATIENCE: Final = 3
_TRAINED_BY = ("training.", "optimizer.")
_MEASURED_BY = ("evaluation.", "data.")


def update_recipe(recipe: Recipe, overrides: Sequence[str], output: Path) -> Recipe:
    """Return the recipe of an update.

    Model and loss are those of the run; so are rates and batches, unless they are overridden. There are at most
    `NUM_EPOCHS` epochs with a patience of `PATIENCE`, and none of them is frozen: the head has been trained.

    Args:
        recipe: of the run.
        overrides: of the sections `training`, `optimizer`, `evaluation` and `data` (of that, where the data lie).
        output: the new run folder.
    Raises:
        RecipeError: if something else is overridden, or to something wrong.
        InputError: if such a run cannot be updated.
    """
    if recipe.baseline is not None:
        raise InputError(
            f"a baseline ({recipe.baseline.kind}) has no weights to start from: it is fitted in seconds; put the new "
            f"events into its data and train it anew"
        )
    for override in overrides:
        if not override.startswith((*_TRAINED_BY, *_MEASURED_BY)):
            raise RecipeError(
                f"override {override!r}: an update takes only training.*, optimizer.*, evaluation.* and data.*; the "
                f"rest is what was trained"
            )
    check_extendable(recipe.data)
    training = dataclasses.replace(
        recipe.training,
        num_epochs=min(recipe.training.num_epochs, NUM_EPOCHS),
        max_steps=None,
        warmup_frozen_epochs=0,
        evaluate_every=1,
        patience=PATIENCE,
    )
    measured = recipe_for_evaluation(recipe, [word for word in overrides if word.startswith("data.")])
    own = dataclasses.replace(recipe, data=measured.data, training=training, output_dir=str(output))
    return recipe_with(own, [word for word in overrides if not word.startswith("data.")])
