"""`peftrec validate`: a recipe, checked without data and without a backbone."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from peftrec.cli.verb import add_overrides, add_verb

if TYPE_CHECKING:
    from peftrec.recipe import Recipe

_DESCRIPTION = """\
Check a recipe: every key, type, range and kind, and whether its sections fit each other. No data and no language model
are opened, so it is quick and works on a machine that has neither.

examples:
  peftrec validate recipes/ml100k/minilm_lora.yaml
  peftrec validate recipes/ml100k/minilm_lora.yaml method.layers=4

'peftrec train RECIPE --print-recipe' prints every value, the defaults too.
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "validate", _run, summary="check a recipe; needs no data", description=_DESCRIPTION)
    parser.add_argument("recipe", metavar="RECIPE", help="YAML file, such as recipes/ml100k/minilm_lora.yaml")
    add_overrides(parser, "method.rank=4")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    print(f"{arguments.recipe} is valid: keys, types, ranges, kinds, and how the sections fit together")
    for name, content in _rows(recipe):
        print(f"  {name:<10} {content}")
    print("not looked at: whether the data and the backbone are there")


def _rows(recipe: Recipe) -> list[tuple[str, str]]:
    data = f"{recipe.data.kind} under {recipe.data.root}, split {recipe.data.split.kind}, text {recipe.data.template!r}"
    backbone_name = recipe.encoder.backbone
    backbone = f"{backbone_name}, inputs {recipe.encoder.inputs}"
    if recipe.baseline is not None:
        read_by = "" if recipe.baseline.needs_item_vectors else " for content_knn, which stands beside every result"
        rows = [("encoder", f"{backbone_name}{read_by}"), ("baseline", recipe.baseline.kind)]
    else:
        rate = "" if recipe.method.kind == "frozen" else f", learning rate {recipe.optimizer.learning_rate:g}"
        method = f"{recipe.method.kind} on layers: {recipe.method.layers}{rate}"
        steps = "" if recipe.training.max_steps is None else f", at most {recipe.training.max_steps} steps"
        users = recipe.training.batch_users
        batches = "batches planned from the data" if users == "auto" else f"batches of {users} users"
        epochs = f"{recipe.training.num_epochs} epochs of {batches}{steps}"
        rows = [
            ("encoder", backbone if recipe.encoder.uses_text else f"ids only; content_knn reads {backbone_name}"),
            ("method", method if recipe.encoder.uses_text else "none: without texts there is no language model"),
            ("user", f"{recipe.user.kind}, last {recipe.user.max_history} events"),
            ("loss", f"{recipe.loss.kind}, scorer {recipe.scorer.kind}"),
            ("training", f"{epochs}, best by {recipe.training.metric}, seed {recipe.training.seed}"),
        ]
    return [("data", data), *rows, ("output_dir", recipe.output_dir)]
