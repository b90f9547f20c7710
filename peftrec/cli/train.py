"""`peftrec train`: from a recipe to a run folder."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from peftrec.cli.verb import add_overrides, add_verb

_DESCRIPTION = """\
Train what a recipe describes and write a run folder: recipe, adapter, head, item vectors, metrics. popularity and
content_knn, which need no training, are evaluated beside it. The folder appears only when all of it is written and
proven to load; until then the work is in OUTPUT_DIR.partial.

examples:
  peftrec train recipes/ml100k/minilm_lora.yaml
  peftrec train recipes/ml100k/minilm_lora.yaml method.rank=4 optimizer.learning_rate=1e-3 output_dir=runs/rank4
  peftrec train recipes/ml100k/minilm_lora.yaml method.kind=frozen --print-recipe
  accelerate launch --config_file recipes/accelerate/cpu_2.yaml -m peftrec train recipes/ml100k/minilm_lora.yaml

Launched several times, the processes train together: each has training.batch_users of a step's users and its share of
the texts. SIGTERM ends the step, saves it, and exits with 143; --resume goes on as if nothing had happened.
Overriding a kind (method.kind=frozen) sets that section to the defaults of the new kind.
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "train", _run, summary="train a recipe into a run folder", description=_DESCRIPTION)
    parser.add_argument("recipe", metavar="RECIPE", help="YAML file, such as recipes/ml100k/minilm_lora.yaml")
    add_overrides(parser, "optimizer.learning_rate=1e-3")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that output_dir already holds")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint of a run that was stopped"
    )
    parser.add_argument(
        "--print-recipe", action="store_true", help="print the recipe with every default written out, and stop"
    )


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    if arguments.print_recipe:
        print(recipe.to_yaml(), end="")
        return

    from peftrec.cli.table import print_results
    from peftrec.launch import launched
    from peftrec.run import train
    from peftrec.training import TrainingStopped

    ranks = launched(recipe.training.timeout_seconds)
    try:
        metrics = train(
            recipe,
            overwrite=arguments.overwrite,
            resume=arguments.resume,
            report=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except TrainingStopped as stop:
        if ranks.is_first:
            print(f"stopped by SIGTERM after step {stop.step}, which is saved; --resume goes on", file=sys.stderr)
        raise
    if ranks.is_first:
        print_results(metrics["test"], metrics)
