"""`peftrec tune`: search over recipes."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from peftrec.cli.verb import add_overrides, add_verb, positive

_DESCRIPTION = """\
Search a space of values for the recipe that does best on the validation cases; the test cases are not looked at. The
space is YAML: dotted keys of the recipe, each with a list of values or a range.

  optimizer.learning_rate: {low: 1e-5, high: 1e-2, log: true}
  method.rank: {low: 4, high: 16, step: 4}
  user.dropout: [0.0, 0.2, 0.4]

FOLDER gets study.db, trials.json (all trials) and best.yaml (the best recipe, ready to train). The same command goes on
with a study that was stopped; started in several processes, they share the trials.

examples:
  peftrec tune recipes/ml100k/minilm_lora.yaml space.yaml --output runs/tuned --trials 20 --pruner median
  peftrec tune recipes/ml100k/item_knn.yaml space.yaml --output runs/knn --sampler grid
  peftrec tune recipe.yaml space.yaml training.num_epochs=3 --output runs/tuned --storage postgresql://me@host/studies
  peftrec train runs/tuned/best.yaml
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "tune", _run, summary="search for the best values of a recipe", description=_DESCRIPTION)
    parser.add_argument("recipe", metavar="RECIPE", help="YAML file, such as recipes/ml100k/minilm_lora.yaml")
    parser.add_argument("space", metavar="SPACE", help="YAML file: dotted keys of the recipe, each with its values")
    add_overrides(parser, "training.num_epochs=3")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder of the study")
    parser.add_argument(
        "--trials", type=positive, metavar="N", help="trials in all (default: 20; of a grid, every point)"
    )
    parser.add_argument("--storage", metavar="URL", help="storage of Optuna (default: SQLite, FOLDER/study.db)")
    parser.add_argument("--name", metavar="NAME", help="of the study in its storage (default: the name of FOLDER)")
    parser.add_argument("--sampler", choices=("tpe", "random", "grid"), default="tpe", help="default: tpe")
    parser.add_argument(
        "--pruner", choices=("none", "median", "halving"), default="none", help="stops trials early (default: none)"
    )
    parser.add_argument("--seed", type=_seed, default=0, metavar="S", help="of the sampler (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.recipe import load_recipe
    from peftrec.tuning import read_space, tune

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    record = tune(
        recipe,
        read_space(arguments.space, recipe, overridden=arguments.overrides),
        arguments.output,
        num_trials=arguments.trials,
        storage=arguments.storage,
        name=arguments.name,
        sampler=arguments.sampler,
        pruner=arguments.pruner,
        seed=arguments.seed,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if arguments.json:
        print(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _print_trials(record)


def _print_trials(record: dict[str, Any]) -> None:
    """Print a row for each trial, the best first."""
    from rich import box
    from rich.table import Table

    from peftrec.cli.table import console

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("trial", f"validation {record['metric'].upper()}", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("values", overflow="fold")
    table.add_column("", overflow="fold")
    for trial in sorted(record["trials"], key=_order):
        value = "" if trial["value"] is None else f"{trial['value']:.4f}"
        seconds = "" if trial["seconds"] is None else f"{trial['seconds']:.0f}"
        end = "" if trial["state"] == "complete" else trial["reason"] or trial["state"]
        table.add_row(str(trial["number"]), value, seconds, " ".join(trial["overrides"]), end)
    out = console()
    out.print(table)
    for warning in record["warnings"]:
        out.print(f"WARNING: {warning}", soft_wrap=True)


def _order(trial: dict[str, Any]) -> tuple[bool, float, int]:
    return trial["state"] != "complete", -(trial["value"] or 0.0), trial["number"]


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0")
    return int(text)
