"""Tunes every baseline on validation NDCG@10, and writes what the best setting of each reaches on test.

    python benchmarks/baselines.py benchmarks/baselines.yaml data.root=DATA               # all data sets, all baselines
    python benchmarks/baselines.py benchmarks/baselines.yaml --datasets ml-100k --baselines ease ials
    python benchmarks/baselines.py benchmarks/baselines.yaml --tables                     # only writes the table

Everything is fitted and measured in this process, without run folders. What decides a fit (`fit`) is tried whole, each
with the `first` ways to read a history; the best fit is then read in all ways (`history`), which needs no new fit. One
JSON a data set goes to `benchmarks/results/<name of the YAML file>/`, the tables to `docs/<name of the YAML file>.md`,
between its marks. Only the best setting of each sees the test cases, and the best of those with `decay: 1`, where the
history counts as a set.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from peftrec.baselines import BASELINES, Baseline, FittedBaseline
from peftrec.config import parse_section
from peftrec.data import Dataset, load_dataset
from peftrec.evaluation import Evaluation, ProductScores, evaluate_cases
from peftrec.frozen import frozen_vectors
from peftrec.publishing.environment import describe_environment
from peftrec.recipe import load_recipe

ROOT = Path(__file__).parents[1]
METRIC = "ndcg@10"
MARKS = ("<!-- tuned -->", "<!-- /tuned -->")


def main(argv: Sequence[str] | None = None) -> None:
    """Tune what is asked for, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, help="YAML file")
    parser.add_argument(
        "overrides", nargs="*", metavar="a.b=c", help="for every recipe, such as data.root=../elsewhere"
    )
    parser.add_argument("--datasets", nargs="+", help="only these")
    parser.add_argument("--baselines", nargs="+", help="only these; what the JSON holds of others stays")
    parser.add_argument("--tables", action="store_true", help="tune nothing")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the JSON files"
    )
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of the page with the table")
    arguments = parser.parse_intermixed_args(argv)
    suite = yaml.safe_load(arguments.suite.read_text(encoding="utf-8"))
    results = arguments.results / arguments.suite.stem
    datasets = _chosen(suite["datasets"], arguments.datasets, "data set")
    baselines = _chosen(suite["baselines"], arguments.baselines, "baseline")
    if not arguments.tables:
        results.mkdir(parents=True, exist_ok=True)
        for name in datasets:
            tune(
                name,
                suite["datasets"][name],
                {kind: suite["baselines"][kind] for kind in baselines},
                arguments,
                results,
            )
    write_table(suite, results, arguments.docs / f"{arguments.suite.stem}.md")


def _chosen(known: Mapping[str, Any], asked: Sequence[str] | None, what: str) -> list[str]:
    for name in asked or ():
        if name not in known:
            sys.exit(f"there is no {what} '{name}'; there are {', '.join(known)}")
    return list(known if asked is None else asked)


def tune(
    name: str, entry: Mapping[str, Any], plans: Mapping[str, Any], arguments: argparse.Namespace, results: Path
) -> None:
    """Tune baselines on one data set, and add each to its JSON as soon as it is done."""
    recipe = load_recipe(ROOT / entry["recipe"], [*entry["set"], *arguments.overrides])
    dataset = load_dataset(recipe.data)
    vectors = functools.cache(lambda: frozen_vectors(recipe, dataset.catalogue.texts))
    path = results / f"{name}.json"
    for kind, plan in plans.items():
        needed = vectors() if BASELINES.load(kind).needs_item_vectors else None
        found = _tune_one(kind, plan | plan.get("instead", {}).get(name, {}), dataset, needed)
        stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        stored |= {"dataset": name, "recipe": entry["recipe"], "data_sha256": dataset.content_hash(times=True)}
        found["environment"] = describe_environment() | {"threads": torch.get_num_threads()}
        stored["baselines"] = stored.get("baselines", {}) | {kind: found}
        path.write_text(json.dumps(stored, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def combinations(lists: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return every choice of one value from each list."""
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


@dataclasses.dataclass
class _Best:
    """A setting, and what it is restored from."""

    valid: float
    config: Baseline
    tensors: dict[str, torch.Tensor]
    fit: dict[str, Any]
    seconds: float


def _tune_one(
    kind: str, plan: Mapping[str, Mapping[str, Any]], dataset: Dataset, vectors: torch.Tensor | None
) -> dict[str, Any]:
    """Return what was tried, and the best on validation with its test results."""
    section = BASELINES.load(kind)
    tried: list[dict[str, Any]] = []
    best: dict[str, _Best] = {}

    def try_ways(
        fit: dict[str, Any], ways: list[dict[str, Any]], tensors: dict[str, torch.Tensor], took: float
    ) -> None:
        for way in ways:
            values = fit | way
            if any(entry["settings"] == values for entry in tried):
                continue
            config = parse_section(section, values, path=kind)
            summary = _measure(config.from_tensors(tensors), dataset, "valid").summary()
            tried.append({"settings": values, "fit_seconds": round(took, 2), "valid": summary})
            print(f"{kind} {values}: valid {summary[METRIC]:.4f}, fitted in {took:.1f} s", flush=True)
            for row in ("best", *(["best_as_set"] if values.get("decay") == 1.0 else [])):
                # Of equals the first stays.
                if row not in best or summary[METRIC] > best[row].valid:
                    best[row] = _Best(summary[METRIC], config, tensors, fit, took)

    for fit in combinations(plan["fit"]):
        began = time.perf_counter()
        tensors = parse_section(section, fit, path=kind).fit(dataset, vectors).tensors()
        try_ways(fit, combinations(plan.get("first", {})), tensors, time.perf_counter() - began)
    found = best["best"]
    if "history" in plan:
        try_ways(found.fit, combinations(plan["history"]), found.tensors, found.seconds)
    return {"num_settings": len(tried), **{row: _measured(one, dataset) for row, one in best.items()}, "tried": tried}


def _measured(best: _Best, dataset: Dataset) -> dict[str, Any]:
    fitted = best.config.from_tensors(best.tensors)
    began = time.perf_counter()
    splits = {split: _measure(fitted, dataset, split).to_json() for split in ("valid", "test")}
    return {
        "settings": dataclasses.asdict(best.config),
        "fit_seconds": round(best.seconds, 2),
        "evaluate_seconds": round((time.perf_counter() - began) / 2, 2),
        "stored_mib": round(sum(tensor.nbytes for tensor in best.tensors.values()) / 2**20, 2),
        **splits,
    }


def _measure(fitted: FittedBaseline, dataset: Dataset, split: str) -> Evaluation:
    scores = fitted if isinstance(fitted, ProductScores) else fitted.scores
    return evaluate_cases(scores, getattr(dataset.split, split), dataset.sequences, len(dataset.catalogue))


def write_table(suite: Mapping[str, Any], results: Path, page: Path) -> None:
    """Write the table of what is there between the marks of the page."""
    lines = []
    for name, entry in suite["datasets"].items():
        path = results / f"{name}.json"
        if not path.is_file():
            continue
        found = json.loads(path.read_text(encoding="utf-8"))["baselines"]
        lines += [f"### {entry['label']}", ""]
        lines += ["| baseline | best of | settings | valid HR@10/NDCG@10 | test HR@10 | test NDCG@10 | fit | stored |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        for kind in suite["baselines"]:
            for row in ("best_as_set", "best"):
                known = found.get(kind, {})
                if row in known and (row == "best" or known[row]["settings"] != known["best"]["settings"]):
                    lines.append(_line(kind, known, row))
        lines.append("")
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    page.write_text("\n".join([before + MARKS[0], *lines[:-1], MARKS[1] + after]), encoding="utf-8")


def _line(kind: str, found: Mapping[str, Any], row: str) -> str:
    one = found[row]
    num_settings = sum(row == "best" or entry["settings"]["decay"] == 1.0 for entry in found["tried"])
    settings = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
                         for key, value in one["settings"].items() if key in found["tried"][0]["settings"])  # fmt: skip
    valid = "/".join(_plain(one["valid"]["metrics"][metric]) for metric in ("hr@10", METRIC))
    test = [
        f"{_plain(one['test']['metrics'][metric])} [{', '.join(map(_plain, one['test']['intervals'][metric]))}]"
        for metric in ("hr@10", METRIC)
    ]
    cells = [f"`{kind}`", str(num_settings), settings, valid, *test]
    return f"| {' | '.join(cells)} | {one['fit_seconds']:.1f} s | {one['stored_mib']:.1f} MiB |"


def _plain(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


if __name__ == "__main__":
    main()
