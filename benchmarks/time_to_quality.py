"""How long each way of training takes to rank as well as full fine-tuning does: quality against seconds.

    python benchmarks/time_to_quality.py SUITE.yaml --output runs/quality                            # trains, writes
    python benchmarks/time_to_quality.py SUITE.yaml --output runs/quality --measure-steps            # times steps
    python benchmarks/time_to_quality.py SUITE.yaml --output runs/quality --measure-caching FOLDER   # times caching
    python benchmarks/time_to_quality.py SUITE.yaml --output runs/quality --tables                   # only writes

SUITE is `benchmarks/time_to_quality.yaml`. Each run is a process of its own with one thread, its folder lies below
OUTPUT, and one that is there is not trained again; of one that goes on, the epochs so far count. Runs may share their
machine: what counts of them is what they reached after how many epochs. Seconds are steps times the seconds of a step,
which `--measure-steps` takes in turns on a machine that does nothing else. Of each run a JSON is written to
`benchmarks/results/<name of the YAML file>/`; `docs/<name>.md` and `docs/plots/<name>.{svg,png}` come from these alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from peftrec.benchmark.own_process import run_apart
from peftrec.benchmark.speed.drawing import draw_quality
from peftrec.benchmark.speed.quality_curve import FULL, EpochSeconds, QualityRun, summarise
from peftrec.benchmark.speed.quality_document import METRIC, USUAL, document
from peftrec.benchmark.speed.recipe_step import CONVENTIONAL, measure_caching, measure_steps
from peftrec.benchmark.speed.report import describe_run
from peftrec.config import InputError
from peftrec.data import load_dataset
from peftrec.recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of the grid of a path."""

    path: str
    label: str
    name: str
    recipe: str
    overrides: tuple[str, ...]


def main(argv: Sequence[str] | None = None) -> None:
    """Train or measure what is asked for, and write document and plot of what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="for every run, such as data.root=../elsewhere")
    parser.add_argument("--output", required=True, type=Path, help="folder of the run folders")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--tables", action="store_true", help="train nothing")
    only.add_argument("--measure-steps", action="store_true", help="train nothing; time steps, in turns")
    only.add_argument("--measure-caching", type=Path, metavar="FOLDER", help="train nothing; time filling a new cache")
    parser.add_argument("--rounds", type=int, default=3, help="how often each step is timed (default: 3)")
    parser.add_argument("--micro-batches", default="1,2,4,8", help="users of micro-batches tried (default: 1,2,4,8)")
    parser.add_argument("--sample-users", type=int, default=16, help="users of a usual step that are run (default: 16)")
    parser.add_argument("--gemm-size", type=int, default=2048, help="of the peak beside the steps (default: 2048)")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="folder of JSON files")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of document and plot")
    arguments = parser.parse_intermixed_args(argv)
    runs = read_suite(arguments.suite)
    results = arguments.results / arguments.suite.stem
    results.mkdir(parents=True, exist_ok=True)
    failed = []
    if arguments.measure_steps or arguments.measure_caching is not None:
        measure(runs, arguments, results)
    elif not arguments.tables:
        failed = [run.name for run in runs if not train(run, arguments)]
    for run in runs:
        keep(run, arguments.output, results)
    write(arguments.suite, runs, results, arguments.docs)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def read_suite(path: Path) -> list[Run]:
    """Read the YAML file.

    Raises:
        InputError: if two runs have one name.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    runs = [
        Run(name, way["label"], run, way["recipe"], (*content.get("settings", ()), *way.get("set", ()), *overrides))
        for name, way in content["paths"].items()
        for run, overrides in way["runs"].items()
    ]
    names = [run.name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: the run '{name}' is there twice; names are those of the run folders")
    return runs


def train(run: Run, arguments: argparse.Namespace) -> bool:
    """Train a run, unless its folder is there, and return whether that worked."""
    folder = arguments.output / run.name
    going = folder.with_name(f"{run.name}.partial")
    if folder.is_dir() or going.is_dir():
        if going.is_dir():
            print(f"{going}: goes on, or was stopped; `peftrec train --resume` goes on, without it the run starts anew")
        return True
    error = run_apart(["train", run.recipe, *run.overrides, *arguments.overrides, f"output_dir={folder}"])
    if error is not None:
        print(f"{run.name} failed: {error[-600:]}", file=sys.stderr, flush=True)
    return error is None


def keep(run: Run, output: Path, results: Path) -> None:
    """Write the JSON of a run, also of one that goes on; without its folder, what is stored stays."""
    folder = output / run.name
    done = folder.is_dir()
    epochs = (folder if done else folder.with_name(f"{run.name}.partial")) / "metrics.jsonl"
    if not epochs.is_file():
        return
    rows = [json.loads(line) for line in epochs.read_text(encoding="utf-8").splitlines()]
    found: dict[str, Any] = {
        **dataclasses.asdict(run),
        "done": done,
        "warmup_frozen_epochs": load_recipe(run.recipe, run.overrides).training.warmup_frozen_epochs,
        "epochs": rows,
    }
    if done:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        found["start"] = metrics["training"]["start"]
        found["test"] = metrics["test"]["model"]["metrics"]
        found["valid_users"] = metrics["valid"]["model"]["num_users"]
        found["data_sha256"] = metrics["data_sha256"]
        found["environment"] = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    _write_json(results / f"run_{run.name}.json", found)


def measure(runs: Sequence[Run], arguments: argparse.Namespace, results: Path) -> None:
    """Time the steps of every path, or what it computes once, by its first run."""
    recipes: dict[str, Recipe] = {}
    for run in runs:
        if run.path not in recipes:
            recipes[run.path] = load_recipe(run.recipe, [*run.overrides, *arguments.overrides])
    if arguments.measure_caching is not None:
        # Full fine-tuning stores nothing but the vectors that every path starts from.
        recipes = {name: recipe for name, recipe in recipes.items() if name != FULL}
        found = measure_caching(recipes, arguments.measure_caching, print)
        _write_json(results / "caching.json", {**found, "environment": describe_run()})
        return
    found = measure_steps(
        recipes,
        load_dataset(recipes[FULL].data),
        reference=FULL,
        rounds=arguments.rounds,
        sizes=[int(word) for word in arguments.micro_batches.split(",")],
        sample_users=arguments.sample_users,
        gemm_size=arguments.gemm_size,
        say=lambda line: print(line, flush=True),
    )
    _write_json(results / "steps.json", {**found, "environment": describe_run()})


def write(suite: Path, runs: Sequence[Run], results: Path, docs: Path) -> None:
    """Write summary, document and plot, if steps were measured and the paths of the target have run."""
    stored = {run.name: json.loads(path.read_text()) for run in runs if (path := _stored(results, run)).is_file()}
    steps, caching = (_read(results / f"{name}.json") for name in ("steps", "caching"))
    curves = [
        QualityRun(
            path=found["path"],
            name=name,
            values=tuple(row[METRIC] for row in found["epochs"]),
            warmup_epochs=found["warmup_frozen_epochs"],
        )
        for name, found in stored.items()
    ]
    if steps is None:
        print("no document yet: --measure-steps comes first")
        return
    try:
        summary = summarise(curves, steps, None if caching is None else caching["seconds"])
    except InputError as error:
        print(f"no document yet: {error}")
        return
    _write_json(results / "summary.json", summary)
    labels = {run.path: run.label for run in runs} | {CONVENTIONAL: USUAL}
    text = document(suite.stem, labels, curves, stored, steps, summary)
    docs.mkdir(parents=True, exist_ok=True)
    (docs / f"{suite.stem}.md").write_text(text, encoding="utf-8")
    clock = EpochSeconds(steps)
    lines = [
        {
            "path": path,
            "best": curve.name == summary["paths"][path]["best_run"],
            "seconds": [
                clock.of(path, epochs=epoch, warmup_epochs=curve.warmup_epochs)
                for epoch in range(1, len(curve.values) + 1)
            ],
            "values": curve.values,
        }
        for curve in curves
        for path in ([FULL, CONVENTIONAL] if curve.path == FULL else [curve.path])
    ]
    start = next((found["start"][METRIC] for found in stored.values() if "start" in found), None)
    try:
        draw_quality(lines, labels, summary["targets"]["better"], start, docs / "plots" / suite.stem)
    except InputError as error:
        print(f"no plot: {error}", file=sys.stderr)


def _stored(results: Path, run: Run) -> Path:
    return results / f"run_{run.name}.json"


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
