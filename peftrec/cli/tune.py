"""`peftrec tune`: search for the settings of a recipe."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from peftrec.cli.verb import add_overrides, add_verb, positive

_DESCRIPTION = """\
Try settings of a recipe and keep the one that ranks the validation cases best. The test cases are never looked at.

SPACE is YAML: for each dotted key of the recipe a list of values, or a range.

  optimizer.learning_rate: {low: 1e-5, high: 1e-2, log: true}
  method.rank: [4, 8, 16]

Into --output go best.yaml, ready for `peftrec train`, trials.json with every trial, and study.db. The same command
again goes on where it stopped, with more --trials if wanted; a recipe, space or data that changed since is refused.

examples:
  peftrec tune recipes/ml100k/minilm_lora.yaml space.yaml --trials 20 --output runs/tuned
  peftrec tune recipes/ml100k/item_knn.yaml space.yaml --sampler grid --output runs/tuned
  peftrec tune recipe.yaml space.yaml training.num_epochs=3 --pruner median --output runs/tuned
  peftrec tune recipe.yaml space.yaml --storage postgresql://host/db --name beauty --output runs/tuned
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "tune", _run, summary="search for the settings of a recipe", description=_DESCRIPTION)
    parser.add_argument("recipe", metavar="RECIPE", help="YAML file, such as recipes/ml100k/minilm_lora.yaml")
    parser.add_argument("space", metavar="SPACE", help="YAML file: what may vary")
    add_overrides(parser, "training.num_epochs=3")
    parser.add_argument("--output", metavar="FOLDER", required=True, help="folder for the best recipe and the trials")
    parser.add_argument("--trials", type=positive, default=20, help="in all, earlier ones too (default: 20)")
    parser.add_argument("--sampler", choices=("tpe", "random", "grid"), default="tpe", help="how (default: tpe)")
    parser.add_argument(
        "--pruner", choices=("none", "median", "halving"), default="none", help="what stops trials (default: none)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    parser.add_argument("--storage", metavar="URL", help="an Optuna storage in place of study.db")
    parser.add_argument("--name", default="tune", help="of the study in the storage (default: tune)")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.config import RecipeError
    from peftrec.recipe import load_recipe
    from peftrec.tuning import read_space, tune

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    space = read_space(arguments.space, recipe)
    given = {override.partition("=")[0].strip() for override in arguments.overrides}
    both = sorted(given & space.axes.keys())
    if both:
        raise RecipeError(f"{both[0]}: is set on the command line, but {arguments.space} lets it vary; leave one out")
    found = tune(
        recipe,
        space,
        arguments.output,
        num_trials=arguments.trials,
        sampler=arguments.sampler,
        pruner=arguments.pruner,
        seed=arguments.seed,
        storage=arguments.storage,
        name=arguments.name,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    best = found.best
    reached = f"{recipe.training.metric} {best.value:.4f} on validation"
    print(f"best of {len(found.trials)} trials: {reached}, trial {best.number}")
    for override in best.overrides:
        print(f"  {override}")
    for edge in found.edges:
        print(f"warning: {edge}; widen the space")
    print(f"peftrec train {found.recipe}")
