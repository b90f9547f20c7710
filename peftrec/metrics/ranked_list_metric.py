"""The class of modules of Hugging Face `evaluate`; it stands alone, since it needs that package to be there."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.auc import auc
from peftrec.metrics.list_facts import ListFacts
from peftrec.metrics.list_metrics import list_metrics
from peftrec.metrics.rank import MISS, check_cutoff
from peftrec.metrics.rank_metrics import RANK_METRICS

# How ids are stored, by their type.
_KINDS = {str: "string", int: "int64"}


class RankedListMetric(evaluate.Metric):  # type: ignore[misc]  # has no types
    """A metric over ranked lists, one a user.

    Attributes:
        metric: its name.
        k: cutoff, unless `compute` is told another.
        facts: for metrics of lists; None for those of ranks.
    """

    metric: str
    k: int
    facts: ListFacts | None

    @property
    def reads_references(self) -> bool:
        """Whether the metric asks what users took; `evaluate` hands no references to one that does not."""
        return self.facts is None or self.metric == "serendipity"

    def _info(self) -> Any:
        columns = ("predictions", "references") if self.reads_references else ("predictions",)
        # The library takes the first that fits, and a whole number does not pass for a text.
        kinds = _KINDS.values() if self.facts is None else ("int64",)
        return evaluate.MetricInfo(
            description=f"{self.metric} of ranked lists, by peftrec.metrics.",
            citation="",
            inputs_description=(
                "\nArgs:\n    predictions: ranked lists of item ids, best first, one a user.\n"
                "    references: lists of the items that each user took.\n    k: cutoff."
            ),
            features=[
                datasets.Features({column: datasets.List(datasets.Value(kind)) for column in columns}) for kind in kinds
            ],
        )

    def add(self, *, prediction: Any = None, reference: Any = None, **columns: Any) -> None:
        """Add the row of one user."""
        references = None if reference is None else [reference]
        self.add_batch(predictions=[prediction], references=references, **columns)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **columns: Any) -> None:
        """Add rows."""
        read = {"predictions": predictions}
        if self.reads_references:
            read["references"] = references
        rows = {column: _plain_rows(values, column) for column, values in read.items()}
        if len({len(values) for values in rows.values()}) > 1:
            raise ValueError(
                " and ".join(f"{len(values)} {column}" for column, values in rows.items()) + " do not match"
            )
        kinds = {type(item) for values in rows.values() for row in values for item in row}
        # The library would cut 1.5 to 1, and read the text '012' as 12, without a word.
        before = None if self.selected_feature_format is None else self.selected_feature_format["predictions"]
        allowed = [kind for kind, dtype in _KINDS.items() if before is None or before.feature.dtype == dtype]
        if len(kinds) > 1 or not kinds <= set(allowed if self.facts is None else [int]):
            found = ", ".join(sorted(kind.__name__ for kind in kinds))
            wanted = "int, the indexes of items" if self.facts is not None else "all int or all str"
            raise ValueError(f"ids must be {wanted}, in all batches, got {found}")
        super().add_batch(**rows, **columns)

    def _compute(
        self,
        predictions: Sequence[Sequence[Hashable]],
        references: Sequence[Sequence[Hashable]] = (),
        k: int | None = None,
    ) -> dict[str, float]:
        return _values(self.metric, predictions, references, self.k if k is None else k, self.facts)


def _values(
    name: str,
    predictions: Sequence[Sequence[Hashable]],
    references: Sequence[Sequence[Hashable]],
    k: int,
    facts: ListFacts | None,
) -> dict[str, float]:
    """Compute one metric over all rows."""
    check_cutoff(k)
    if facts is not None:
        if name == "serendipity":
            facts = dataclasses.replace(facts, targets=_padded(references))
        per_user, overall = list_metrics(_padded(predictions, k), facts, (k,), names=(name,))
        return {**{key: _mean(values) for key, values in per_user.items()}, **overall}
    ranks = _ranks(predictions, references)
    if name == "auc":
        lengths = np.array([len(row) for row in predictions], dtype=np.int64)
        return {name: _mean(auc(ranks, lengths))}
    return {f"{name}@{k}": _mean(RANK_METRICS[name](ranks, k))}


def _plain_rows(rows: Any, column: str) -> list[list[Any]]:
    """Turn arrays, tensors and other sequences into lists of plain values."""
    if rows is None or len(rows) == 0:
        raise ValueError(f"there are no {column}")
    plain = []
    for number, row in enumerate(rows):
        if row is None or isinstance(row, str):
            raise ValueError(f"row {number} of the {column} must be a list of ids, got {row!r}")
        values = row.tolist() if hasattr(row, "tolist") else list(row)
        plain.append([value.item() if isinstance(value, np.generic) else value for value in values])
    return plain


def _mean(values: NDArray[np.float64]) -> float:
    """Compute the mean of what is defined; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _ranks(predictions: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Hashable]]) -> NDArray[np.int64]:
    """Look up where each reference stands in its row's list, shape (U, R), 0 where there are fewer."""
    rows = []
    for row, (ranked, relevant) in enumerate(zip(predictions, references, strict=True)):
        for what, items in (("prediction", ranked), ("reference", relevant)):
            if len(set(items)) < len(items):
                raise ValueError(f"the {what} of row {row} holds an item twice")
        if not relevant:
            raise ValueError(f"row {row} has no reference; leave such users out, their metrics are not defined")
        places = {item: place for place, item in enumerate(ranked, start=1)}
        rows.append([places.get(item, MISS) for item in relevant])
    return _padded(rows, fill=0)


def _padded(rows: Sequence[Sequence[Any]], width: int = 1, fill: int = -1) -> NDArray[np.int64]:
    """Put rows into an array of at least this width."""
    table = np.full((len(rows), max(width, max((len(row) for row in rows), default=1))), fill, dtype=np.int64)
    for row, values in enumerate(rows):
        table[row, : len(values)] = values
    return table
