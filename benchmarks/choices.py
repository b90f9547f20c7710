"""Trains one recipe with many choices, several seeds each, and writes what each reached as tables.

    python benchmarks/choices.py benchmarks/choices.yaml --output runs/choices            # trains what is missing
    python benchmarks/choices.py benchmarks/choices.yaml --output runs/choices --tables   # takes up what is there

Each run is a process of its own with one thread, its folder lies below OUTPUT, and a folder that is there is not
trained again. Of each run a JSON is written to `benchmarks/results/<name of the YAML file>/`, and beside it the ranks
of single cases, so that differences can be tested when the run folders are gone; the tables, with differences from the
first row of each paired over users, go to `docs/<name of the YAML file>.md`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from peftrec.benchmark.own_process import run_apart
from peftrec.evaluation import Evaluation, arm_test
from peftrec.publishing import read_case_ranks, write_case_ranks

ROOT = Path(__file__).parents[1]
METRICS = ("ndcg@10", "hr@10")
REFERENCES = ("popularity", "content_knn")


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a table: its run, what is set beside the recipe, how many seeds train it, what the table calls it.

    With a `reference`, what stands beside the run of that name is meant (`content_knn`), and nothing more is trained.
    """

    name: str
    overrides: tuple[str, ...]
    num_seeds: int
    label: str
    reference: str | None = None

    @property
    def measured(self) -> str:
        """Return under which name the run folder holds its results."""
        return self.reference or "model"

    def folder(self, output: Path, seed: int) -> Path:
        """Return where its run lies."""
        return output / f"{re.sub(r'[^a-z0-9]+', '_', self.name.lower())}_seed_{seed}"


@dataclasses.dataclass(frozen=True)
class Suite:
    """What the YAML file says."""

    name: str
    recipe: str
    settings: tuple[str, ...]
    notes: Mapping[str, str]
    tables: Mapping[str, tuple[Row, ...]]
    rates: str
    metric: str

    def runs(self) -> list[tuple[Row, int]]:
        """Return every run once, first seeds first."""
        rows = [row for rows in self.tables.values() for row in rows if row.reference is None]
        runs = {(row.name, seed): (row, seed) for row in rows for seed in range(row.num_seeds)}
        return sorted(runs.values(), key=lambda run: run[1])


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="for every run, such as data.root=../elsewhere")
    parser.add_argument("--output", required=True, type=Path, help="folder of the run folders")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument("--tables", action="store_true", help="train nothing; only take up run folders that are there")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the JSON files"
    )
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of the tables")
    arguments = parser.parse_intermixed_args(argv)
    suite = read_suite(arguments.suite)
    results = arguments.results / suite.name
    results.mkdir(parents=True, exist_ok=True)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        runs = [run for run in suite.runs() if not arguments.tables or run[0].folder(arguments.output, run[1]).is_dir()]
        waiting = [pool.submit(train, suite, row, seed, arguments, results) for row, seed in runs]
        for future in concurrent.futures.as_completed(waiting):
            failed += not future.result()
    write_tables(suite, arguments.output, results, arguments.docs)
    if failed:
        sys.exit(f"{failed} runs failed")


def read_suite(path: Path) -> Suite:
    """Read the YAML file; `same_as` names a row that has been there before, and `reference` what is beside one."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    known: dict[str, Row] = {}
    tables = {}
    for title, table in content["tables"].items():
        rows = []
        for name, entry in table["rows"].items():
            if "same_as" in entry:
                rows.append(dataclasses.replace(known[entry["same_as"]], num_seeds=entry["seeds"], label=name))
                continue
            if "reference" in entry:
                beside = known[entry["beside"]]
                rows.append(dataclasses.replace(beside, num_seeds=1, label=name, reference=entry["reference"]))
                continue
            if name in known:
                raise ValueError(f"{path}: the row '{name}' is there twice; name the second one with same_as")
            known[name] = Row(name, tuple(entry["set"]), entry["seeds"], name)
            rows.append(known[name])
        tables[title] = tuple(rows)
    notes = {title: table["note"] for title, table in content["tables"].items()}
    rates = content.get("rates", "Learning rates were tuned for the first row alone.")
    metric = content.get("metric", METRICS[0])
    if metric not in METRICS:
        raise ValueError(f"{path}: metric: '{metric}' is not one of {', '.join(METRICS)}")
    return Suite(path.stem, content["recipe"], tuple(content["settings"]), notes, tables, rates, metric)


def train(suite: Suite, row: Row, seed: int, arguments: argparse.Namespace, results: Path) -> bool:
    """Train one run, unless its folder is there, write its JSON, and return whether that worked."""
    folder = row.folder(arguments.output, seed)
    overrides = [*suite.settings, *row.overrides, f"training.seed={seed}"]
    if not folder.is_dir():
        words = ["train", suite.recipe, *overrides, *arguments.overrides, f"output_dir={folder}", "--overwrite"]
        error = run_apart(words)
        if error is not None:
            print(f"{folder.name} failed: {error[-600:]}", file=sys.stderr, flush=True)
            return False
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    training = metrics["training"]
    found = {
        "row": row.name,
        "seed": seed,
        "recipe": suite.recipe,
        "overrides": overrides,
        "data_sha256": metrics["data_sha256"],
        "best_epoch": training["best_epoch"],
        "train_seconds": training["train_seconds"],
        "peak_memory_mib": training["peak_memory_mib"],
        "valid": metrics["valid"]["model"],
        "test": metrics["test"]["model"],
        "references": {name: {split: metrics[split][name] for split in ("valid", "test")} for name in REFERENCES},
        "environment": json.loads((folder / "environment.json").read_text(encoding="utf-8")),
        "cases": write_case_ranks(folder, results / f"{folder.name}.parquet", names=("model", *REFERENCES)),
    }
    text = json.dumps(found, indent=2, allow_nan=False)
    (results / f"{folder.name}.json").write_text(text + "\n", encoding="utf-8")
    valid, test = (found[split]["metrics"][suite.metric] for split in ("valid", "test"))
    print(f"{folder.name}: valid {valid:.4f}, test {test:.4f}, {training['train_seconds']:.0f} s", flush=True)
    return True


def write_tables(suite: Suite, output: Path, results: Path, docs: Path) -> None:
    """Write the tables of what is there; differences are stored, so that they outlive the run folders."""
    stored = results / "differences.json"
    differences: dict[str, Any] = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else {}
    lines = [f"# {suite.name.capitalize()}", "", _introduction(suite, results), ""]
    for title, rows in suite.tables.items():
        lines += [f"## {title}", "", suite.notes[title], ""]
        difference = f"difference, test {suite.metric.upper()}"
        lines += [f"| {title.lower()} | seeds | valid NDCG@10 | test NDCG@10 | test HR@10 | {difference} |"]
        lines += ["|---|---|---|---|---|---|"]
        for row in rows:
            cells = _cells(row, rows[0], suite.metric, output, results, differences)
            if cells is not None:
                lines.append(f"| {row.label} | " + " | ".join(cells) + " |")
        lines.append("")
    stored.write_text(json.dumps(differences, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    docs.mkdir(parents=True, exist_ok=True)
    (docs / f"{suite.name}.md").write_text("\n".join(lines), encoding="utf-8")


def _cells(
    row: Row, first: Row, metric: str, output: Path, results: Path, differences: dict[str, Any]
) -> tuple[str, str, str, str, str] | None:
    """Return seeds, means over them, and the difference from the first row; None where no run is there."""
    paths = [results / f"{row.folder(output, seed).name}.json" for seed in range(row.num_seeds)]
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]
    if not runs:
        return None
    names = [one.name if one.reference is None else f"{one.reference} beside {one.name}" for one in (row, first)]
    key = f"{names[0]} - {names[1]}, {metric}"
    seeds = range(min(len(runs), first.num_seeds))
    sides = [[_cases(one, seed, output, results) for seed in seeds] for one in (row, first)]
    if row != first and all(case is not None for side in sides for case in side):
        test = arm_test(*_same_cases(sides), metric, paired_seeds=len(seeds) > 1)
        differences[key] = dataclasses.asdict(test) | {"num_seeds": len(seeds)}
    difference = ""
    if key in differences:
        stored = differences[key]
        p = "p < .001" if stored["p_value"] < 0.001 else f"p = {stored['p_value']:.3f}"
        difference = f"{stored['difference']:+.4f} [{stored['low']:+.4f}, {stored['high']:+.4f}], {p}"
    results_of = [run if row.reference is None else run["references"][row.reference] for run in runs]
    means = [
        _mean_and_span([run[split] for run in results_of], name)
        for split, name in (("valid", "ndcg@10"), ("test", "ndcg@10"), ("test", "hr@10"))
    ]
    return str(len(runs)), means[0], means[1], means[2], difference


def _cases(row: Row, seed: int, output: Path, results: Path) -> tuple[str, Evaluation] | None:
    """Return which cases a run was tested on and what it found on them; None where its ranks are not stored."""
    path = results / f"{row.folder(output, seed).name}.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if "cases" not in found:
        return None
    block = found["test"] if row.reference is None else found["references"][row.reference]["test"]
    read = read_case_ranks(path.with_suffix(".parquet"), found["cases"], block, name=row.measured)
    return found["cases"]["sha256"], read


def _same_cases(sides: Sequence[Sequence[tuple[str, Evaluation] | None]]) -> list[list[Evaluation]]:
    """Return the evaluations of each side, and see that all are of the same cases."""
    there = [[case for case in side if case is not None] for side in sides]
    digests = {digest for side in there for digest, _ in side}
    if len(digests) > 1:
        raise ValueError(f"runs of one table were tested on other cases: {', '.join(sorted(digests))}")
    return [[evaluation for _, evaluation in side] for side in there]


def _mean_and_span(found: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Return the mean over seeds with the lowest and highest; of a single seed the interval over users."""
    values = [of["metrics"][metric] for of in found]
    if len(values) > 1:
        return f"{np.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"
    low, high = found[0]["intervals"][metric]
    return f"{values[0]:.4f} [{low:.4f}, {high:.4f}]"


def _introduction(suite: Suite, results: Path) -> str:
    runs = [json.loads(path.read_text()) for path in sorted(results.glob("*_seed_*.json"))]
    commits = sorted({str(run["environment"]["commit"])[:7] for run in runs})
    machines = {"{cores} cores of an {processor}".format(**run["environment"]["machine"]): None for run in runs}
    versions = {"torch {torch}".format(**run["environment"]["packages"]): None for run in runs}
    settings = ", ".join(f"`{setting}`" for setting in suite.settings)
    return (
        f"Written by `python benchmarks/choices.py benchmarks/{suite.name}.yaml --output runs/{suite.name}` from "
        f"`benchmarks/results/{suite.name}/`. Recipe `{suite.recipe}` with {settings}; the best epoch by validation; "
        f"means over seeds, with the lowest and highest; of one seed with the bootstrap interval over users of 95 %. "
        f"Differences are from the first row of each table, same seeds, paired over the "
        f"{runs[0]['test']['num_users']:,} test users, with intervals over users and, where there are several, seeds. "
        f"{suite.rates} "
        f"{' or '.join(machines)}, {', '.join(versions)}, commits {', '.join(commits)}."
    )


if __name__ == "__main__":
    main()
