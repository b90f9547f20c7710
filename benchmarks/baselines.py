"""Tunes every baseline on validation NDCG@10, and writes what the best setting of each reaches on test.

    python benchmarks/baselines.py benchmarks/baselines.yaml data.root=DATA               # all data sets, all baselines
    python benchmarks/baselines.py benchmarks/baselines.yaml --datasets ml-100k --baselines ease ials
    python benchmarks/baselines.py benchmarks/baselines.yaml --tables                     # only writes the table

Everything is fitted and measured in this process, without run folders. What decides a fit (`fit`) is tried whole, each
with the `first` ways to read a history; the best fit is then read in all ways (`history`), which needs no new fit. One
JSON a data set goes to `benchmarks/results/<name of the YAML file>/`, the tables to `docs/<name of the YAML file>.md`,
between its marks. Only the best setting of each sees the test cases, and the best of those with `decay: 1`, where the
history counts as a set.

What the JSON holds of the same data is not tried again: a run that was stopped goes on where it was, and a grid that
grew costs what is new. `--anew` believes nothing of it, for baselines whose code has changed.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from peftrec.baselines import BASELINES, FittedBaseline
from peftrec.config import parse_section
from peftrec.data import Dataset, load_dataset
from peftrec.evaluation import Evaluation
from peftrec.frozen import frozen_vectors
from peftrec.measuring import SPLITS, measure, of_users
from peftrec.publishing.environment import describe_environment
from peftrec.recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[1]
METRIC = "ndcg@10"
ROWS = ("best", "best_as_set")
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
    parser.add_argument("--anew", action="store_true", help="try again what the JSON holds already")
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
    """Tune baselines on one data set, and add each to its JSON, after every fit what was tried."""
    recipe = load_recipe(ROOT / entry["recipe"], [*entry["set"], *arguments.overrides])
    dataset = load_dataset(recipe.data)
    made = {"dataset": name, "recipe": entry["recipe"], "data_sha256": dataset.content_hash(times=True)}
    vectors = functools.cache(lambda: frozen_vectors(recipe, dataset.catalogue.texts))
    path = results / f"{name}.json"
    for kind, plan in plans.items():
        stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        believed = stored.get("data_sha256") == made["data_sha256"] and not arguments.anew
        before = stored.get("baselines", {}).get(kind, {}) if believed else {}

        def keep(found: Mapping[str, Any], kind: str = kind, stored: Mapping[str, Any] = stored) -> None:
            environment = describe_environment() | {"threads": torch.get_num_threads()}
            baselines = stored.get("baselines", {}) | {kind: {**found, "environment": environment}}
            whole = {**stored, **made, "baselines": baselines}
            path.write_text(json.dumps(whole, indent=2, allow_nan=False) + "\n", encoding="utf-8")

        trials = _Trials(kind, _plan_of(plan, name), recipe, dataset, vectors, before.get("tried", ()))
        trials.run(lambda tried, keep=keep: keep({"tried": tried}))
        if trials.tried != before.get("tried") or "best" not in before:
            keep({"num_settings": len(trials.tried), **trials.measured(), "tried": trials.tried})


def _plan_of(plan: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the grids of fits and the ways to read histories for one data set."""
    own = {**plan, **plan.get("instead", {}).get(name, {})}
    grids = [own["fit"], *plan.get("beyond", {}).get(name, ())]
    return {"grids": grids, "first": own.get("first", {}), "history": own.get("history")}


def combinations(lists: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return every choice of one value from each list."""
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


class _Trials:
    """What was tried of one baseline on one data set, in the order of the plan, each setting once.

    Args:
        kind: of the baseline.
        plan: from `_plan_of`.
        recipe: says how to measure.
        dataset: to fit and measure on.
        vectors: gives vectors of the catalogue, for kinds that need them.
        known: what was tried before with the same data; it is taken where the plan asks for it.
    """

    def __init__(
        self,
        kind: str,
        plan: Mapping[str, Any],
        recipe: Recipe,
        dataset: Dataset,
        vectors: Callable[[], torch.Tensor],
        known: Sequence[dict[str, Any]],
    ) -> None:
        self.tried: list[dict[str, Any]] = []
        self._kind, self._plan, self._recipe, self._dataset, self._vectors = kind, plan, recipe, dataset, vectors
        self._known = list(known)
        self._fitted: tuple[dict[str, Any], dict[str, torch.Tensor], float] | None = None

    def run(self, keep: Callable[[list[dict[str, Any]]], None]) -> None:
        """Try all that the plan says; whenever something new was, hand over what is known so far."""
        for fit in (fit for grid in self._plan["grids"] for fit in combinations(grid)):
            self._try_ways(fit, self._plan["first"], keep)
        if self._plan["history"] is not None:
            self._try_ways(self._fit_of(self._best("best")["settings"]), self._plan["history"], keep)

    def _try_ways(
        self, fit: dict[str, Any], ways: Mapping[str, Sequence[Any]], keep: Callable[[list[dict[str, Any]]], None]
    ) -> None:
        """Measure a fit on validation with each way to read histories."""
        new = False
        for values in (fit | way for way in combinations(ways)):
            if _entry(self.tried, values) is None:
                entry = _entry(self._known, values)
                new |= entry is None
                self.tried.append(self._measured_entry(values) if entry is None else entry)
        if new:
            keep([*self.tried, *(entry for entry in self._known if _entry(self.tried, entry["settings"]) is None)])

    def _measured_entry(self, values: dict[str, Any]) -> dict[str, Any]:
        tensors, seconds = self._fit(values)
        config = parse_section(BASELINES.load(self._kind), values, path=self._kind)
        summary = self._measure(config.from_tensors(tensors), "valid").summary()
        print(f"{self._kind} {values}: valid {summary[METRIC]:.4f}, fitted in {seconds:.1f} s", flush=True)
        return {"settings": values, "fit_seconds": round(seconds, 2), "valid": summary}

    def _best(self, row: str) -> dict[str, Any]:
        """Return the best entry on validation, or of those that read histories as sets; of equals the first."""
        return max(_of_row(self.tried, row), key=lambda entry: float(entry["valid"][METRIC]))

    def measured(self) -> dict[str, Any]:
        """Fit the best settings again, and measure them on both splits, by row of the table."""
        return {row: self._measured_row(self._best(row)) for row in ROWS if _of_row(self.tried, row)}

    def _measured_row(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        config = parse_section(BASELINES.load(self._kind), entry["settings"], path=self._kind)
        tensors, _ = self._fit(entry["settings"])
        fitted = config.from_tensors(tensors)
        began = time.perf_counter()
        splits = {split: self._measure(fitted, split).to_json() for split in SPLITS}
        return {
            "settings": dataclasses.asdict(config),
            "fit_seconds": entry["fit_seconds"],
            "evaluate_seconds": round((time.perf_counter() - began) / len(SPLITS), 2),
            "stored_mib": round(sum(tensor.nbytes for tensor in tensors.values()) / 2**20, 2),
            **splits,
        }

    def _fit_of(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return those settings that decide a fit."""
        return {key: value for key, value in settings.items() if key in self._plan["grids"][0]}

    def _fit(self, settings: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], float]:
        """Fit, or take the last fit where only the way to read histories is another; and the seconds it took."""
        fit = self._fit_of(settings)
        if self._fitted is None or self._fitted[0] != fit:
            section = BASELINES.load(self._kind)
            vectors = self._vectors() if section.needs_item_vectors else None
            began = time.perf_counter()
            tensors = parse_section(section, fit, path=self._kind).fit(self._dataset, vectors).tensors()
            self._fitted = fit, tensors, time.perf_counter() - began
        return self._fitted[1:]

    def _measure(self, fitted: FittedBaseline, split: str) -> Evaluation:
        return measure(of_users({self._kind: fitted})[self._kind], self._recipe, self._dataset, split)


def _of_row(tried: Sequence[dict[str, Any]], row: str) -> list[dict[str, Any]]:
    """Return the entries that a row of the table is the best of."""
    return [entry for entry in tried if row == "best" or entry["settings"].get("decay") == 1.0]


def _entry(entries: Sequence[dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any] | None:
    return next((entry for entry in entries if entry["settings"] == settings), None)


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
            for row in reversed(ROWS):
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
    settings = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
                         for key, value in one["settings"].items() if key in found["tried"][0]["settings"])  # fmt: skip
    valid = "/".join(_plain(one["valid"]["metrics"][metric]) for metric in ("hr@10", METRIC))
    test = [
        f"{_plain(one['test']['metrics'][metric])} [{', '.join(map(_plain, one['test']['intervals'][metric]))}]"
        for metric in ("hr@10", METRIC)
    ]
    cells = [f"`{kind}`", str(len(_of_row(found["tried"], row))), settings, valid, *test]
    return f"| {' | '.join(cells)} | {one['fit_seconds']:.1f} s | {one['stored_mib']:.1f} MiB |"


def _plain(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


if __name__ == "__main__":
    main()
