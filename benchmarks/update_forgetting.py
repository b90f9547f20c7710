"""What `peftrec update` gains and forgets: one timeline, a run trained on its first part, three ways to go on.

    python benchmarks/update_forgetting.py run RECIPE interactions.csv items.csv --seeds 0,1,2 --work runs/update \
        --output benchmarks/results/update/ml100k.json
    python benchmarks/update_forgetting.py table benchmarks/results/update/*.json --page docs/updating.md

The first 70 % of all events make the run, with the items that have occurred by then; the next 15 % are the later
events; the last 15 % test. Compared on the very same test cases, all events of known items after the second moment,
each with all that the user did before it as history: the run as it is, with new items and histories but its old
weights; updates with several shares of replay; and a model trained anew on everything up to the same validation cases
as those of the updates. Weights are chosen on these; test cases are only read at the end. The old period is the test
part of the first run; the model that is trained anew has learned from it, so that it is not measured there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from peftrec.build import build
from peftrec.config import parse_section, read_yaml
from peftrec.data import Dataset, LaterPeriod, extend, read_later_tables
from peftrec.data.case_choice import choose_cases
from peftrec.evaluation import Evaluation, paired_test
from peftrec.fitting import make_trainer
from peftrec.measuring import measure
from peftrec.models import RecommenderModel, catalogue_scores
from peftrec.publishing import load_run
from peftrec.publishing.run_data import load_run_timeline
from peftrec.recipe import Recipe
from peftrec.run import train
from peftrec.updating import update
from peftrec.updating.warm_start import warm_start

SHARES = (0.70, 0.85)
REPLAYS = (0.0, 0.2)
METRIC = "ndcg@10"
BEGIN, END = "<!-- comparison:begin -->", "<!-- comparison:end -->"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison, or draw its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    run = verbs.add_parser("run")
    run.add_argument("recipe", type=Path)
    run.add_argument("interactions", type=Path)
    run.add_argument("items", type=Path)
    run.add_argument(
        "overrides", nargs="*", metavar="a.b=c", help="of the updates alone, such as training.num_epochs=3"
    )
    run.add_argument("--seeds", default="0,1,2")
    run.add_argument("--work", type=Path, required=True, help="folder for tables and runs; runs there are used again")
    run.add_argument("--output", type=Path, required=True, help="JSON file")
    run.set_defaults(do=_run)
    table = verbs.add_parser("table")
    table.add_argument("results", nargs="+", type=Path)
    table.add_argument("--page", type=Path, required=True, help="the table is put between its two marks")
    table.set_defaults(do=_table)
    arguments = parser.parse_args(argv)
    arguments.do(arguments)


def cut(interactions: Path, items: Path, folder: Path) -> dict[str, int]:
    """Write the tables of the three periods, and return how many rows each has."""
    folder.mkdir(parents=True, exist_ok=True)
    events = pl.read_csv(interactions, infer_schema=False).with_columns(pl.col("timestamp").cast(pl.Int64))
    events = events.sort("timestamp", maintain_order=True)
    catalogue = pl.read_csv(items, infer_schema=False)
    moments = [int(events["timestamp"][int(events.height * share)]) for share in SHARES]
    first = events.group_by("item_id").agg(pl.col("timestamp").min().alias("first"))
    dated = catalogue.join(first, on="item_id", how="left", maintain_order="left")
    parts = {
        "early": events.filter(pl.col("timestamp") < moments[0]),
        "later": events.filter(pl.col("timestamp").is_between(*moments, closed="left")),
        "early_items": dated.filter(pl.col("first") < moments[0]).drop("first"),
        "new_items": dated.filter(pl.col("first").is_between(*moments, closed="left")).drop("first"),
    }
    known = pl.concat([parts["early_items"], parts["new_items"]])["item_id"]
    parts["last"] = events.filter((pl.col("timestamp") >= moments[1]) & pl.col("item_id").is_in(known.implode()))
    for name, part in parts.items():
        part.write_csv(folder / f"{name}.csv")
    return {name: part.height for name, part in parts.items()} | {"events": events.height}


def early_recipe(path: Path, folder: Path, seed: int, output: Path) -> Recipe:
    """Return a recipe of the repository on the first part of the timeline."""
    values = read_yaml(path)
    template = values["data"].get("template", "{title}")
    values["data"] = {
        "kind": "tables",
        "root": str(folder),
        "interactions": "early.csv",
        "items": "early_items.csv",
        "template": template,
        "split": {"kind": "global_time", "valid_fraction": 0.1, "test_fraction": 0.1, "targets": "all"},
    }
    values["training"] = values.get("training", {}) | {"seed": seed, "patience": 2}
    values["output_dir"] = str(output)
    return parse_section(Recipe, values).resolved()


def last_cases(updated: Dataset, recipe: Recipe, timeline: Any, folder: Path) -> Dataset:
    """Return the data set whose test cases are all events of the last part."""
    tables = read_later_tables(recipe.data, folder / "last.csv", None)
    whole = extend(timeline, recipe.data, tables, LaterPeriod()).dataset
    before = np.zeros(len(whole.sequences), dtype=np.int64)
    before[: len(updated.sequences)] = updated.sequences.lengths
    cases = choose_cases(whole.sequences, before, whole.sequences.lengths, "all")
    return dataclasses.replace(whole, split=dataclasses.replace(whole.split, test=cases))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call gives, and its CPU seconds: with one thread, what it takes on a machine of its own."""
    began = time.process_time()
    result = work()
    return result, time.process_time() - began


def retrain(recipe: Recipe, dataset: Dataset) -> RecommenderModel:
    """Train a fresh model on all events before the validation cases, the early held-out ones too."""
    plain = dataclasses.replace(dataset, sequences=dataclasses.replace(dataset.sequences, weights=None))
    built = build(recipe, plain)
    make_trainer(built, recipe, plain, lambda _: None, None)[1].train()
    return built.model


def one_seed(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Run all ways to go on with one seed."""
    base = arguments.work / f"base_{seed}"
    recipe = early_recipe(arguments.recipe, arguments.work, seed, base)
    if not base.is_dir():
        train(recipe)
    metrics, seconds = {}, {}
    for replay in REPLAYS:
        folder = arguments.work / f"update_{replay:g}_{seed}"
        metrics[replay], seconds[f"update {replay:g}"] = timed(
            lambda folder=folder, replay=replay: update(
                base, arguments.work / "later.csv", items=arguments.work / "new_items.csv", output=folder, force=True,
                period=LaterPeriod(replay=replay), overrides=arguments.overrides, overwrite=True,
            )
        )  # fmt: skip
    first = arguments.work / f"update_{REPLAYS[0]:g}_{seed}"
    timeline = load_run_timeline(first, recipe.data)
    last = last_cases(timeline.dataset, recipe, timeline, arguments.work)
    loaded = load_run(base).model
    assert loaded is not None
    models: dict[str, RecommenderModel] = {"none": warm_start(loaded, recipe, timeline.dataset, lambda _: None).model}
    models["anew"], seconds["anew"] = timed(lambda: retrain(recipe, timeline.dataset))
    for replay in REPLAYS:
        model = load_run(arguments.work / f"update_{replay:g}_{seed}").model
        assert model is not None
        models[f"update {replay:g}"] = model
    found = {name: measure(catalogue_scores(model), recipe, last, "test") for name, model in models.items()}
    rows = {name: _row(name, found, seconds.get(name, 0.0), metrics) for name in models}
    return {"seed": seed, "num_cases": len(found["none"].users), "num_users": found["none"].num_users, "rows": rows}


def _row(
    name: str, found: dict[str, Evaluation], seconds: float, metrics: dict[float, dict[str, Any]]
) -> dict[str, Any]:
    test = paired_test(found[name], found["none"], METRIC)
    row: dict[str, Any] = {
        "metrics": found[name].summary(),
        "change": test.difference,
        "interval": [test.low, test.high],
        "p_value": test.p_value,
        "cpu_seconds": seconds,
    }
    if name.startswith("update"):
        updated = metrics[float(name.split()[1])]
        row |= {
            "best_epoch": updated["training"]["best_epoch"],
            "valid": [updated["training"]["start"][METRIC], updated["training"]["best_metric"]],
            "new_period": updated["update"]["new_period"]["changes"][METRIC],
            "old_period": updated["update"]["old_period"]["changes"][METRIC],
        }
    return row


def _run(arguments: argparse.Namespace) -> None:
    rows = cut(arguments.interactions, arguments.items, arguments.work)
    seeds = []
    for seed in map(int, arguments.seeds.split(",")):
        seeds.append(one_seed(arguments, seed))
        print(json.dumps(seeds[-1]), file=sys.stderr, flush=True)
        content = {
            "name": arguments.output.stem,
            "recipe": arguments.recipe.as_posix(),
            "overrides": arguments.overrides,
            "rows": rows,
            "metric": METRIC,
            "seeds": seeds,
        }
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _table(arguments: argparse.Namespace) -> None:
    lines = [
        f"| data | way | {METRIC.upper()} of the last part | change (each seed) | old period, before → after | CPU s |",
        "|---|---|---:|---|---:|---:|",
    ]
    told = {"none": "the run as it is", "anew": "trained anew on all"}
    for path in arguments.results:
        content = json.loads(path.read_text(encoding="utf-8"))
        for name in content["seeds"][0]["rows"]:
            lines.append(_line(content, name, told.get(name, f"{name.split()[0]}, replay {name.split()[-1]}")))
    text = arguments.page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    page = f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}"
    arguments.page.write_text(page, encoding="utf-8")


def _line(content: dict[str, Any], name: str, told: str) -> str:
    rows = [seed["rows"][name] for seed in content["seeds"]]
    mean = float(np.mean([row["metrics"][METRIC] for row in rows]))
    changes = "" if name == "none" else ", ".join(f"{row['change']:+.4f}{_star(row)}" for row in rows)
    old = ""
    if "old_period" in rows[0]:
        before, after = (float(np.mean([row["old_period"][key] for row in rows])) for key in ("before", "after"))
        old = f"{before:.4f} → {after:.4f}"
    seconds = "" if name == "none" else f"{np.mean([row['cpu_seconds'] for row in rows]):.0f}"
    return f"| {content['name']} | {told} | {mean:.4f} | {changes} | {old} | {seconds} |"


def _star(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return "*" if low > 0 or high < 0 else ""


if __name__ == "__main__":
    main()
