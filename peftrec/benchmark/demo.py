"""The demo: MovieLens 100K, five recipes, one table, and recommendations to look at.

`python -m peftrec.benchmark.demo`, from the top folder of the repository (that is what `make demo` runs).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from peftrec.benchmark.showcase import show_cold_item, show_users
from peftrec.config import InputError
from peftrec.data import Dataset, get_dataset, load_dataset
from peftrec.evaluation import Evaluation, evaluate_cases, paired_test
from peftrec.publishing import Run, load_run
from peftrec.publishing.manifest import read_manifest
from peftrec.recipe import Recipe, load_recipe
from peftrec.recommender import Recommender
from peftrec.run import train

DATASET = "ml-100k"
TERMS = "MovieLens 100K comes from GroupLens: no redistribution and no commercial use without their permission."
# Recipe -> what the table calls it, in the order of the table.
RECIPES = {
    "popularity": "popularity",
    "content_knn": "content_knn",
    "minilm_frozen": "frozen text",
    "minilm_lora": "LoRA",
    "minilm_lora_ids": "LoRA + ids",
}
_REFERENCE, _COMPARED, _SHOWN = "minilm_frozen", "minilm_lora", "minilm_lora_ids"
# What a run learned; item vectors and probes follow from it.
_LEARNED = ("adapter_model.safetensors", "head.safetensors", "ids.safetensors", "baseline.safetensors")
_PIPE_WIDTH = 120


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Args:
        name: what the table calls it.
        run: loaded from its folder.
        evaluation: of the test cases.
        trainable: parameters that were trained.
        stored_bytes: size of the files that hold what was learned.
        seconds: loading the backbone, encoding the texts, and training.
    """

    name: str
    run: Run
    evaluation: Evaluation
    trainable: int
    stored_bytes: int
    seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit code; arguments as `--help` shows them."""
    parser = argparse.ArgumentParser(prog="python -m peftrec.benchmark.demo", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("data"), help="data folder (default: data)")
    parser.add_argument("--recipes", type=Path, default=Path("recipes/ml100k"), help="default: recipes/ml100k")
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="replaced (default: runs/demo)")
    arguments = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, markup=False)
    try:
        run_demo(arguments.root, arguments.recipes, arguments.output, console.print)
    except (InputError, OSError) as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("demo: interrupted\n")
        return 130
    return 0


def run_demo(root: Path, recipes: Path, output: Path, show: Callable[[Any], None]) -> None:
    """Fetch the data, train every recipe, and show the table and recommendations.

    Args:
        root: data folder; the data set is fetched into it where it is missing.
        recipes: folder that holds the recipes.
        output: folder for the run folders; those that are there are replaced.
        show: is handed lines and tables for people.
    Raises:
        InputError: if data cannot be fetched, or a recipe or a run fails.
    """
    began = time.perf_counter()
    loaded = {
        name: load_recipe(recipes / f"{name}.yaml", [f"data.root={root}", f"output_dir={output / name}"])
        for name in RECIPES
    }
    if not all((root / DATASET / table).is_file() for table in ("interactions.csv", "items.csv")):
        get_dataset(DATASET, root, say=show)
    show(TERMS)
    datasets = {recipe.data: load_dataset(recipe.data) for recipe in loaded.values()}
    rows = {}
    for name, recipe in loaded.items():
        show(f"{RECIPES[name]}: {recipes / name}.yaml -> {recipe.output_dir}")
        rows[name] = run_row(RECIPES[name], recipe, datasets[recipe.data])
    show(results_table(rows.values()))
    for line in findings(rows):
        show(line)
    dataset, recommender = datasets[loaded[_SHOWN].data], Recommender(rows[_SHOWN].run)
    show(f"\nRecommendations of {rows[_SHOWN].name}")
    show_users(recommender, dataset, show)
    show_cold_item(recommender, dataset, show)
    show(f"\n{time.perf_counter() - began:.0f} seconds in all. Go on with:")
    show(f"  .venv/bin/peftrec recommend {output / _SHOWN} --history 50,181,172")


def run_row(name: str, recipe: Recipe, dataset: Dataset) -> Row:
    """Train a recipe, load the folder that it wrote, and measure that."""
    metrics = train(recipe, overwrite=True, dataset=dataset)
    run = load_run(recipe.output_dir)
    evaluation = evaluate_cases(
        run.scorer,
        dataset.split.test,
        dataset.sequences,
        len(dataset.catalogue),
        ks=recipe.evaluation.ks,
        exclude_history=recipe.evaluation.exclude_history,
        batch_users=recipe.evaluation.batch_users,
        of_users=True,
    )
    files = read_manifest(run.folder).files
    return Row(
        name=name,
        run=run,
        evaluation=evaluation,
        trainable=sum(part["trainable"] for part in metrics["parameters"]),
        stored_bytes=sum(files[file]["bytes"] for file in _LEARNED if file in files),
        seconds=metrics["training"].get("build_seconds", 0.0) + metrics["training"]["train_seconds"],
    )


def results_table(rows: Iterable[Row]) -> Table:
    """Return the table of results, a line a row."""
    table = Table(title="test, every user's last film among all films not watched before", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for column in ("HR@10", "NDCG@10", "trainable parameters", "stored bytes", "seconds"):
        table.add_column(column, justify="right")
    for row in rows:
        means = row.evaluation.summary()
        table.add_row(
            row.name,
            f"{means['hr@10']:.4f}",
            f"{means['ndcg@10']:.4f}",
            f"{row.trainable:,}",
            f"{row.stored_bytes:,}",
            f"{row.seconds:.0f}",
        )
    return table


def findings(rows: Mapping[str, Row]) -> list[str]:
    """Say what the table shows: LoRA against frozen text, and every trained row against popularity."""
    lora, frozen = rows[_COMPARED], rows[_REFERENCE]
    lines = []
    for metric in ("hr@10", "ndcg@10"):
        test = paired_test(lora.evaluation, frozen.evaluation, metric)
        sure = test.low > 0 or test.high < 0
        verdict = ("beats" if test.difference > 0 else "DOES NOT BEAT") if test.difference else "equals"
        lines.append(
            f"{lora.name} {verdict} {frozen.name} in {metric.upper()}: {test.difference:+.4f}, 95% interval "
            f"[{test.low:+.4f}, {test.high:+.4f}], p = {test.p_value:.3f} (paired test over {test.num_users} users)"
            f"{'' if sure else '; it could be chance'}"
        )
    floor = rows["popularity"].evaluation.summary()["hr@10"]
    below = [row.name for row in rows.values() if row.trainable and row.evaluation.summary()["hr@10"] <= floor]
    lines.append(
        f"NOT above popularity in HR@10: {', '.join(below)}" if below else "Every trained row is above popularity."
    )
    return lines


if __name__ == "__main__":
    sys.exit(main())
