"""Runs made into the rows of tables: one row a method, one table a data set and backbone."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from peftrec.benchmark.report.result import METRICS, LeftOut, Result, Results, mean, row_key
from peftrec.benchmark.report.row_runs import choose_runs
from peftrec.evaluation.alignment import aligned

REFERENCE: Final = "full"
"""The method that others are compared with."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """The runs of a method that differ in their seeds.

    Args:
        label: what the table calls it; no two rows of a table share it.
        runs: by seed; all tested on the same cases.
        num_trials: trials that tuned it, those that failed among them.
        num_failed: of those, the ones that did not end well.
        warning: what is odd about its runs, or nothing.
        sure: whether it is known that validation chose its values; a trial that cannot be read may be better.
        tuned_on: data set whose best values it was given; None if it was tuned on its own, or not at all.
    """

    label: str
    runs: tuple[Result, ...]
    num_trials: int
    num_failed: int = 0
    warning: str = ""
    sure: bool = True
    tuned_on: str | None = None

    @property
    def first(self) -> Result:
        """Return the run of the first seed."""
        return self.runs[0]

    @property
    def method(self) -> str:
        """Return the kind of method."""
        return str(self.first.run["method"])

    @property
    def is_baseline(self) -> bool:
        """Tell a baseline from a trained model."""
        return self.first.is_baseline

    @property
    def seeds(self) -> list[int]:
        """Return the seeds, ascending."""
        return [result.run["seed"] for result in self.runs]

    @property
    def cost(self) -> Mapping[str, Any] | None:
        """Return the costs of the first run that has some: they do not depend on the seed."""
        return next((result.content["cost"] for result in self.runs if result.content.get("cost")), None)

    @property
    def costs_of_other_code(self) -> bool:
        """Tell whether the costs are of other code than the results; where they name none, of another commit."""
        if self.cost is None:
            return False
        costs, made = self.cost["environment"], [run.content["environment"] for run in self.runs]
        if costs.get("code") is not None:
            return any(costs["code"] != environment.get("code") for environment in made)
        commits = [environment["commit"] for environment in made]
        return costs.get("commit") is not None and costs["commit"] not in commits

    def values(self, metric: str) -> NDArray[np.float64]:
        """Return a metric of every user in every run, shape (S, U)."""
        return aligned([run.cases for run in self.runs], metric, [run.name for run in self.runs])[0]

    def mean(self, metric: str) -> float:
        """Return the mean of a metric over users and seeds."""
        return mean(result.content["test"]["metrics"][metric] for result in self.runs)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ResultTable:
    """The rows of a data set and a backbone: models, the reference first, then baselines, the best first.

    Args:
        dataset: its key.
        dataset_label: what people call it.
        backbone: the language model; None where no method has one.
        rows: at least one.
    """

    dataset: str
    dataset_label: str
    backbone: str | None
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """Return what the table is called."""
        return ", ".join([self.dataset_label, *self._short_backbone()])

    @property
    def slug(self) -> str:
        """Return data set and backbone as the beginning of a file's name."""
        name = "_".join([self.dataset, *self._short_backbone()]).lower()
        words = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
        return "_".join(word for word in words.split("_") if word)

    @property
    def reference(self) -> Row | None:
        """Return full fine-tuning, if it is there and validation chose it for sure: all others are held against it."""
        return next((row for row in self.rows if row.method == REFERENCE and row.sure), None)

    @property
    def models(self) -> list[Row]:
        """Return the rows that are no baselines."""
        return [row for row in self.rows if not row.is_baseline]

    def comparable(self, row: Row) -> bool:
        """Tell whether a row was tested on the cases and under the rules of the reference, or of most rows."""
        return row.first.tested_on == self._tested_on()

    def _short_backbone(self) -> list[str]:
        return [self.backbone.rpartition("/")[2]] if self.backbone else []

    def _tested_on(self) -> str:
        if self.reference is not None:
            return self.reference.first.tested_on
        return Counter(row.first.tested_on for row in self.rows).most_common(1)[0][0]


def make_tables(results: Results) -> tuple[list[ResultTable], list[LeftOut]]:
    """Sort results into rows and tables.

    A row holds the trial that was best in validation and the runs of its settings under other seeds; trials that lost
    are only counted. Rows without a backbone, and baselines, stand in every table of their data set.

    Args:
        results: of one folder.
    Returns:
        The tables by data set and backbone, and runs that belong to no row.
    """
    by_key = defaultdict(list)
    for result in results.usable:
        by_key[row_key(result.run)].append(result)
    rows, left_out = list[Row](), list[LeftOut]()
    for alike in by_key.values():
        row, others = _row(alike, results)
        rows += [] if row is None else [row]
        left_out += others
    return [_table(dataset, backbone, rows) for dataset, backbone in _kinds(rows)], left_out


def _row(alike: Sequence[Result], results: Results) -> tuple[Row | None, tuple[LeftOut, ...]]:
    """Make the row of a method's runs, if some can stand for it; those that do not fit into it are left out."""
    chosen = choose_runs(alike, results)
    if not chosen.runs:
        return None, chosen.left_out
    told = chosen.runs[0].run
    key = row_key(told)
    row = Row(
        label=told.get("label", told["method"]),
        runs=chosen.runs,
        num_trials=results.num_trials.get(key, 0),
        num_failed=results.num_failed.get(key, 0),
        warning=chosen.warning,
        sure=chosen.sure,
        tuned_on=told.get("tuned_on"),
    )
    return row, chosen.left_out


def _kinds(rows: Iterable[Row]) -> list[tuple[str, str | None]]:
    """Return data set and backbone of each table; a data set without a model that has one gets a table too."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        backbone = row.first.run["backbone"]
        kinds[row.first.run["dataset"]].update({backbone} if backbone and not row.is_baseline else ())
    return [(dataset, backbone) for dataset in sorted(kinds) for backbone in (*sorted(kinds[dataset]),) or (None,)]


def _table(dataset: str, backbone: str | None, rows: Iterable[Row]) -> ResultTable:
    own = [
        row
        for row in rows
        if row.first.run["dataset"] == dataset and (row.is_baseline or row.first.run["backbone"] in (backbone, None))
    ]
    own.sort(key=lambda row: (row.is_baseline, row.method != REFERENCE, -row.mean(METRICS[0]), row.label))
    told = own[0].first.run.get("dataset_label", dataset)
    return ResultTable(dataset=dataset, dataset_label=told, backbone=backbone, rows=tuple(_labelled(own, backbone)))


def _labelled(rows: Sequence[Row], backbone: str | None) -> Iterable[Row]:
    """Name the backbone of a baseline that has another one than the table, and what it takes to tell rows apart."""
    labels = []
    for row in rows:
        other = row.first.run["backbone"]
        foreign = f" ({other.rpartition('/')[2]})" if other is not None and other != backbone else ""
        labels.append(f"{row.label}{foreign}")
    for row, label in zip(rows, labels, strict=True):
        unique = label if labels.count(label) == 1 else f"{label} [{row.method}]"
        yield dataclasses.replace(row, label=unique)
