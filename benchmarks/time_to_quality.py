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
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from peftrec.benchmark.speed.drawing import draw_quality
from peftrec.benchmark.speed.quality_curve import FULL, EpochSeconds, QualityRun, rounded, summarise
from peftrec.benchmark.speed.recipe_step import CONVENTIONAL, measure_caching, measure_steps
from peftrec.benchmark.speed.report import describe_run
from peftrec.config import InputError
from peftrec.data import load_dataset
from peftrec.recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[1]
METRIC = "ndcg@10"
USUAL = "full fine-tuning, every padded position"


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
    error = peftrec(["train", run.recipe, *run.overrides, *arguments.overrides, f"output_dir={folder}"])
    if error is not None:
        print(f"{run.name} failed: {error[-600:]}", file=sys.stderr, flush=True)
    return error is None


def peftrec(words: Sequence[str]) -> str | None:
    """Run a command of the library in a process with one thread, and return what it said if it failed."""
    ran = subprocess.run(
        [sys.executable, "-m", "peftrec", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stderr.strip() if ran.returncode else None


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
    text = document(suite, labels, curves, stored, steps, summary)
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


def document(
    suite: Path,
    labels: Mapping[str, str],
    curves: Sequence[QualityRun],
    stored: Mapping[str, Any],
    steps: Mapping[str, Any],
    summary: Mapping[str, Any],
) -> str:
    """Return the document; all its figures are those of the JSON files."""
    return "\n".join(
        [
            "# Time to quality",
            "",
            _introduction(suite, stored, steps, summary),
            "",
            f"![Validation NDCG@10 against seconds of training](plots/{suite.stem}.svg)",
            "",
            *_targets(labels, steps, summary),
            "## All runs",
            "",
            *_all_runs(labels, curves, stored),
        ]
    )


def _introduction(suite: Path, stored: Mapping[str, Any], steps: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    environments = [steps["environment"], *(run["environment"] for run in stored.values() if "environment" in run)]
    commits = sorted({str(environment["commit"])[:7] for environment in environments})
    machine = steps["environment"]["machine"]
    users = max((run["valid_users"] for run in stored.values() if "valid_users" in run), default=None)
    told = "" if users is None else f"Values are validation NDCG@10 of {users:,} users, one seed. "
    peak, others = steps["machine"]["gemm_gflops"]["median"], steps["machine"]["other_work"]
    disturbed = "" if others is None else f", others taking at most {others:.0%} of the machine"
    rows, tokens = steps["rows"], steps["padded_tokens"] // steps["rows"]
    return (
        f"Written by `python benchmarks/time_to_quality.py benchmarks/{suite.name} --output runs/{suite.stem}` from "
        f"`benchmarks/results/{suite.stem}/`. {told}The target is {summary['share']:.0%} of the best that full "
        f"fine-tuning or frozen text reached, whichever is more ({summary['target_of']}); of each path the run of its "
        f"grid counts that is there first, at the end of an epoch.\n\n"
        f"Runs were trained with one thread each on a machine that other work shared, so their own seconds say "
        f"nothing. Seconds here are steps times the median seconds of a step, from {len(steps['items'])} rounds in "
        f"turns on the same batches in one process: {machine['threads']} threads on {machine['cores']} cores of an "
        f"{machine['processor']}, {peak:.0f} GFLOP/s in a matrix product{disturbed}. Epochs with the language model "
        f"frozen take the step of frozen text. The curve of {USUAL}, is that of our exact full fine-tuning after as "
        f"many steps, in the seconds of the usual step: {rows:,} rows of {tokens} tokens ({steps['batch_users']} "
        f"users), in micro-batches of {steps['micro_batch_users']} users, the best size. Evaluation is left out of "
        f"all; what is computed once, before the first step, stands in a column of its own. "
        f"Commits {', '.join(commits)}."
    )


def _targets(labels: Mapping[str, str], steps: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    lines = []
    titles = {"better": "the better of full fine-tuning and frozen text", FULL: "full fine-tuning alone"}
    for name, target in summary["targets"].items():
        lines += [f"## To {summary['share']:.0%} of {titles[name]}: {target:.4f}", ""]
        if summary["paths"][CONVENTIONAL]["reached"][name] is None:
            lines += ["Full fine-tuning has not reached it: ratios are against the end of its longest run.", ""]
        lines += ["| path | run | best | a step, s | epochs | seconds | usual / this | caching before, s | with it |"]
        lines += ["|---|---|---|---|---|---|---|---|---|"]
        for path, label in labels.items():
            found = summary["paths"].get(path)
            if found is not None:
                cells = _cells(path, found, name, steps)
                lines.append(f"| {label} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def _cells(path: str, found: Mapping[str, Any], target: str, steps: Mapping[str, Any]) -> list[str]:
    reached, caching = found["reached"][target], found["caching_seconds"]
    step = rounded(steps["seconds"][path]["median"])
    once = "" if caching is None else rounded(caching)
    if reached is None:
        return [f"`{found['best_run']}`", f"{found['best']:.4f}", step, "not reached", "", "", once, ""]
    ratio = f"{reached['ratio']:.1f}" if "ratio" in reached else ""
    ratio = f"> {reached['ratio_at_least']:.1f}" if "ratio_at_least" in reached else ratio
    more = "> " if "ratio_at_least" in reached else ""
    with_caching = f"{more}{reached['ratio_with_caching']:.1f}" if "ratio_with_caching" in reached else ""
    return [
        f"`{reached['run']}`",
        f"{found['best']:.4f}",
        step,
        str(reached["epoch"]),
        rounded(reached["seconds"]),
        ratio,
        once,
        with_caching,
    ]


def _all_runs(labels: Mapping[str, str], curves: Sequence[QualityRun], stored: Mapping[str, Any]) -> list[str]:
    lines = ["| path | run | epochs, frozen first | NDCG@10 after each epoch | best epoch | its test NDCG@10 |"]
    lines += ["|---|---|---|---|---|---|"]
    for curve in curves:
        found = stored[curve.name]
        epochs = f"{len(curve.values)}, {curve.warmup_epochs}" + ("" if found["done"] else " (unfinished)")
        values = " ".join(f"{value:.4f}" for value in curve.values)
        test = f"{found['test'][METRIC]:.4f}" if "test" in found else ""
        best = curve.first_epoch(curve.best)
        lines.append(f"| {labels[curve.path]} | `{curve.name}` | {epochs} | {values} | {best} | {test} |")
    settings = [f"- `{name}`: `{run['recipe']}`, {', '.join(run['overrides'])}" for name, run in stored.items()]
    return [*lines, "", *settings, ""]


def _stored(results: Path, run: Run) -> Path:
    return results / f"run_{run.name}.json"


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
